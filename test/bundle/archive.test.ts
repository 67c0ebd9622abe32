import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import t from 'tap';
import { Header, Pax } from 'tar';
import { type ArchiveEntry, MAX_CONTENT, MAX_ENTRIES, pack, unpack } from '../../src/bundle/archive.ts';
import { VerificationError } from '../../src/errors.ts';
import { mustRun, run, temporaryFolder } from '../support/process.ts';
import { Random } from '../support/random.ts';
import { archive, END, entry, paxHeader } from '../support/tar.ts';

const dir = temporaryFolder('archive');

async function* pieces(bytes: Buffer): AsyncGenerator<Buffer, void, void> {
  for (let at = 0; at < bytes.length; at += 7001) yield bytes.subarray(at, at + 7001);
}

async function read(bytes: Buffer): Promise<ArchiveEntry[]> {
  return unpack('x', pieces(bytes));
}

function written(entries: readonly ArchiveEntry[]): Buffer {
  return Buffer.concat([...pack(entries)]);
}

function file(path: string, content = path, mode = 0o600): ArchiveEntry {
  return { path, type: 'File', mode, mtime: new Date(1e12), content: Buffer.from(content), target: undefined };
}

const SAMPLE: readonly ArchiveEntry[] = [
  { ...file('etc'), type: 'Directory', content: Buffer.alloc(0), mode: 0o755 },
  file('etc/ca.crt', 'certificate', 0o644),
  file('etc/empty', ''),
  file('etc/block', 'b'.repeat(512)),
  file(`etc/${'long-'.repeat(45)}/${'name-'.repeat(45)}`),
  file('etc/schlüssel'),
  { ...file('etc/link'), type: 'SymbolicLink', content: Buffer.alloc(0), mode: 0o777, target: 'ca.crt' },
  { ...file('etc/up/all'), type: 'SymbolicLink', content: Buffer.alloc(0), mode: 0o777, target: '../..' },
  { ...file('etc/up/link'), type: 'SymbolicLink', content: Buffer.alloc(0), mode: 0o777, target: '../schlüssel' },
];

t.test('an archive has what was put into it, and GNU tar reads it', async (t) => {
  const bytes = written(SAMPLE);
  t.strictSame(await read(bytes), SAMPLE);
  const [path, out] = [join(dir, 'own.tar'), join(dir, 'own')];
  await writeFile(path, bytes);
  await mkdir(out);
  await mustRun('tar', ['-xf', path, '-C', out, '--no-same-owner']);
  for (const { path: name, type, content } of SAMPLE) {
    if (type === 'File') t.strictSame(await readFile(join(out, name)), content, name);
  }
  t.equal((await readFile(join(out, 'etc/link'))).toString(), 'certificate');
});

t.test('as many files with as long names as a bundle can have', async (t) => {
  const name = 'n'.repeat(250);
  const size = Math.floor(MAX_CONTENT / MAX_ENTRIES);
  const entries = Array.from({ length: MAX_ENTRIES }, (_, index) => {
    return file(`${name}/${name}/${name}/${index}`, 'x'.repeat(size));
  });
  t.equal((await unpack('x', pack(entries))).length, MAX_ENTRIES);
});

t.test('archives of GNU tar can be read, in each of its formats', async (t) => {
  const source = join(dir, 'gnu');
  const long = 'd'.repeat(90);
  await mkdir(join(source, long, long), { recursive: true });
  await writeFile(join(source, long, long, 'key'), 'key');
  await symlink(`${long}/${long}/key`, join(source, 'link'));
  for (const format of ['pax', 'gnu', 'ustar']) {
    const path = join(dir, `${format}.tar`);
    const { code } = await run('tar', ['--format', format, '-cf', path, '-C', source, long, 'link']);
    if (format === 'ustar' && code !== 0) continue;
    const entries = await read(await readFile(path));
    t.match(entries, [{ path: long }, {}, { path: `${long}/${long}/key` }, { type: 'SymbolicLink' }], format);
  }
});

t.test('hostile archives are refused', async (t) => {
  const link = (path: string, linkpath: string): Buffer => entry({ path, linkpath, type: 'SymbolicLink' });
  const good = entry({ path: 'a' });
  const header = Buffer.from(good);
  header[0] = 0x62;
  const huge = Buffer.alloc(512);
  new Header({ path: 'a', size: 8e9, type: 'File', mtime: new Date(0) }).encode(huge, 0);
  const many = Array.from({ length: 10_001 }, (_, index) => entry({ path: `f${index}` }));
  const long = 'n'.repeat(300);
  // Each of them is short for an archive, and all of them are millions of directories.
  const deep = Array.from({ length: 400 }, (_, index) => entry({ path: `${index}/${'d/'.repeat(40)}f` }));
  const cases: Record<string, readonly [Buffer, RegExp]> = {
    'an absolute path': [archive(entry({ path: '/etc/passwd' })), /not a path inside/],
    'a parent': [archive(entry({ path: '../a' })), /not a path inside/],
    'a parent within': [archive(entry({ path: 'a/../../b' })), /not a path inside/],
    'the directory itself': [archive(entry({ path: './', type: 'Directory' })), /not a path inside/],
    'an empty name': [archive(entry({ path: 'a//b' })), /not a path inside/],
    'a line feed': [archive(entry({ path: 'a\nb' })), /not a path inside|damaged/],
    'a name that is too long': [archive(entry({ path: long })), /not a path inside/],
    'a path that is too long': [archive(entry({ path: 'long/'.repeat(60).repeat(4) })), /not a path inside/],
    'a path that is too deep': [archive(entry({ path: `${'d/'.repeat(64)}f` })), /not a path inside/],
    'too many directories': [archive(...deep), /more than 10000 directories/],
    'a path twice': [archive(good, good), /twice/],
    'a directory and a file': [archive(entry({ path: 'a/', type: 'Directory' }), good), /twice/],
    'an absolute link': [archive(link('l', '/etc')), /leaves it/],
    'a link to the parent': [archive(link('l', '..')), /leaves it/],
    'a link beyond the parent': [archive(link('d/l', '../../x')), /leaves it/],
    'a link that goes up later': [archive(link('a/l', '../b/../c')), /leaves it/],
    'a link to nothing': [archive(link('l', '\0')), /leaves it|damaged/],
    'a file below a link': [archive(link('l', 'd'), entry({ path: 'l/f' })), /is below l/],
    'a file below a later link': [archive(entry({ path: 'l/f' }), link('l', 'd')), /is below l/],
    'a file below a file': [archive(good, entry({ path: 'a/b' })), /is below a/],
    'a hard link': [archive(good, entry({ path: 'h', linkpath: 'a', type: 'Link' })), /neither a file/],
    'a FIFO': [archive(entry({ path: 'p', type: 'FIFO' })), /neither a file/],
    'a device': [archive(entry({ path: 'c', type: 'CharacterDevice' })), /neither a file/],
    'a contiguous file': [archive(entry({ path: 'c', type: 'ContiguousFile' })), /neither a file/],
    'an unknown type': [archive(entry({ path: 's', type: 'SparseFile' })), /unknown type|neither a file/],
    'a wrong checksum': [archive(header), /damaged/],
    'a size beyond the end': [Buffer.concat([huge, Buffer.alloc(2048)]), /damaged|truncated/],
    'too many files': [archive(...many), /more than 10000/],
    nothing: [Buffer.alloc(0), /not a tar archive/],
    'an end without entries': [END, /not a tar archive/],
    gzip: [gzipSync(archive(good)), /not a tar archive/],
    zstd: [zstdCompressSync(archive(good)), /not a tar archive/],
    text: [Buffer.from('keys'.repeat(500)), /not a tar archive/],
    'a parent in a PAX header': [archive(paxHeader('ExtendedHeader', 'path=../x'), good), /not a path inside/],
    'an absolute path in a PAX header': [archive(paxHeader('ExtendedHeader', 'path=/x'), good), /not a path inside/],
    'a size in a PAX header': [archive(paxHeader('ExtendedHeader', 'size=99999999999'), good), /damaged|truncated/],
    'no entries': [archive(new Pax({ path: 'x' }).encode()), /is empty/],
    'too many bytes': [Buffer.alloc(4 * MAX_CONTENT), /larger than/],
  };
  for (const [what, [bytes, message]] of Object.entries(cases)) {
    await t.rejects(read(bytes), { name: 'VerificationError', message, exitCode: 11 }, what);
  }
});

t.test('damaged archives are refused or read as they are, and never crash', async (t) => {
  const bytes = written(SAMPLE);
  const random = new Random(23);
  let refused = 0;
  for (let round = 0; round < 2000; round++) {
    const changed = Buffer.from(bytes.subarray(0, round % 4 === 0 ? random.below(bytes.length) : bytes.length));
    for (let count = 1 + random.below(3); count > 0 && changed.length > 0; count--) {
      changed[random.below(changed.length)] = random.below(256);
    }
    try {
      await read(changed);
    } catch (error) {
      if (!(error instanceof VerificationError)) throw error;
      refused++;
    }
  }
  t.ok(refused > 1000, `${refused} of 2000 refused`);
});

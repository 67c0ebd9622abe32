import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import t from 'tap';
import { VerificationError } from '../../src/errors.ts';
import { openPacked } from '../../src/import/unpack.ts';
import { setMeta } from '../support/bbolt.ts';
import { DATABASE, SNAPSHOT } from '../support/fixtures.ts';
import { without } from '../support/judges.ts';
import { mustRun, temporaryFolder } from '../support/process.ts';
import { zipOf } from '../support/zip.ts';

const dir = temporaryFolder('unpack');
const member = { name: 'etcd-snapshot-m1-1767323045', content: SNAPSHOT };
const { signal } = new AbortController();
let files = 0;

async function written(content: Buffer): Promise<string> {
  const path = join(dir, `${files++}`);
  await writeFile(path, content);
  return path;
}

/** The bytes that come out, or what is wrong with the file. */
async function unpacked(path: string): Promise<Buffer | string> {
  try {
    const source = await openPacked(path, signal, async () => undefined);
    const pieces: Buffer[] = [];
    for await (const piece of source.read()) pieces.push(Buffer.from(piece));
    return Buffer.concat(pieces);
  } catch (error) {
    if (error instanceof VerificationError) return error.message.replace(/^.*not a valid snapshot: /, '');
    throw error;
  }
}

t.test('plain and packed files', async (t) => {
  const packed = {
    plain: SNAPSHOT,
    gzip: gzipSync(SNAPSHOT),
    'gzip in two members': Buffer.concat([
      gzipSync(SNAPSHOT.subarray(0, 100_000)),
      gzipSync(SNAPSHOT.subarray(100_000)),
    ]),
    zstd: zstdCompressSync(SNAPSHOT),
    'zip as k3s writes it': zipOf([member]),
    'zip without compression': zipOf([member], { method: 0 }),
    zip64: zipOf([member], { zip64: true }),
    'zip with a comment': zipOf([member], { comment: Buffer.from('PK\x05\x06 of k3s') }),
  };
  for (const [what, content] of Object.entries(packed)) {
    const path = await written(content);
    t.same(await unpacked(path), SNAPSHOT, what);
    const source = await openPacked(path, signal, async () => undefined);
    t.equal(source.size, SNAPSHOT.length, `${what}: its size`);
    const rest: Buffer[] = [];
    for await (const piece of source.read(200_000)) rest.push(Buffer.from(piece));
    t.same(Buffer.concat(rest), SNAPSHOT.subarray(200_000), `${what}: from a later byte on`);
  }
});

t.test('archives of other programs', { skip: without('zip') || without('gzip') || without('zstd') }, async (t) => {
  const path = await written(SNAPSHOT);
  await mustRun('zip', ['-q', '-j', `${path}.zip`, path]);
  await mustRun('gzip', ['-k', path]);
  await mustRun('zstd', ['-q', path]);
  for (const ending of ['zip', 'gz', 'zst']) t.same(await unpacked(`${path}.${ending}`), SNAPSHOT, ending);
  await mustRun('zip', ['-q', '-j', '-P', 'secret', `${path}-encrypted.zip`, path]);
  t.equal(await unpacked(`${path}-encrypted.zip`), 'its member is encrypted.');
  await mustRun('zip', ['-q', '-j', `${path}.zip`, `${path}.gz`]);
  t.equal(await unpacked(`${path}.zip`), 'the archive has 2 members instead of one.');
});

t.test('hostile and damaged archives', async (t) => {
  const zip = zipOf([member]);
  const flipped = Buffer.from(zip);
  flipped.writeUInt8(flipped.readUInt8(20_000) ^ 1, 20_000);
  const swapped = Buffer.from(zipOf([member], { method: 0 }));
  swapped.writeUInt8(swapped.readUInt8(20_000) ^ 1, 20_000);
  const cases: Record<string, [content: Buffer, problem: RegExp]> = {
    'two members': [zipOf([member, { ...member, name: 'other' }]), /^the archive has 2 members instead of one/],
    'one member, and two in the directory': [zipOf([member, member], { count: 1 }), /directory/],
    'more bytes than its directory says': [
      zipOf([member], { size: 150_000 }),
      /^its member is larger than the 150000 bytes/,
    ],
    'fewer bytes': [zipOf([member], { size: SNAPSHOT.length + 1 }), /^its member has \d+ bytes instead of/],
    'a packed size that is too small': [zipOf([member], { packedSize: 3000 }), /decompressed/],
    'a packed size that is too large': [zipOf([member], { packedSize: zip.length }), /not where its directory says/],
    'a wrong checksum': [zipOf([member], { checksum: 1 }), /^the CRC-32 of its member is wrong/],
    'a changed byte': [flipped, /decompressed|CRC-32|larger|instead of/],
    'a changed byte without compression': [swapped, /CRC-32/],
    'an offset outside': [zipOf([member], { offset: 2 ** 31 }), /missing/],
    'an offset of 2^60': [zipOf([member], { offset: 2 ** 60, zip64: true }), /damaged/],
    'an offset in the middle': [zipOf([member], { offset: 30 }), /not where its directory says/],
    encrypted: [zipOf([member], { flags: 9 }), /^its member is encrypted/],
    'another method': [zipOf([member], { method: 93 }), /unknown method 93/],
    'a snapshot without compression, whose sizes differ': [
      zipOf([member], { method: 0, packedSize: 10 }),
      /contradicts its directory/,
    ],
    truncated: [zip.subarray(0, -100), /^it has no end/],
    'truncated at its end': [zip.subarray(0, -1), /^it has no end/],
    'only its mark': [Buffer.from('PK\x03\x04'), /^it has no end/],
    'more bytes than its meta pages say': [
      zipOf([{ ...member, content: Buffer.concat([SNAPSHOT, Buffer.alloc(2 ** 26)]) }]),
      /^unpacked, it has more than the \d+ bytes of its meta pages/,
    ],
    'gzip with more bytes than its meta pages say': [
      gzipSync(Buffer.concat([SNAPSHOT, Buffer.alloc(2 ** 26)])),
      /^unpacked, it has more than/,
    ],
    'truncated gzip': [gzipSync(SNAPSHOT).subarray(0, -9), /^it cannot be decompressed/],
    'gzip with a tail': [Buffer.concat([gzipSync(SNAPSHOT), Buffer.from('tail')]), /^it cannot be decompressed/],
    'gzip with zeros at its end': [Buffer.concat([gzipSync(SNAPSHOT), Buffer.alloc(512)]), /more bytes follow its end/],
    'truncated zstd': [zstdCompressSync(SNAPSHOT).subarray(0, -9), /^it cannot be decompressed/],
    'zstd with a tail': [Buffer.concat([zstdCompressSync(SNAPSHOT), Buffer.from('tail')]), /it cannot be decompressed/],
  };
  for (const [what, [content, problem]] of Object.entries(cases)) {
    const result = await unpacked(await written(content));
    t.match(typeof result === 'string' ? result : 'nothing', problem, what);
  }
  const huge = Buffer.from(SNAPSHOT);
  setMeta(huge, 'highWaterMark', 2n ** 40n);
  t.match(await unpacked(await written(gzipSync(huge))), /^unpacked, it would have /, 'a database of petabytes');
});

t.test('every archive that is cut or changed gives the same bytes or an error', async (t) => {
  const zip = zipOf([{ ...member, content: SNAPSHOT.subarray(0, 140_000) }]);
  for (let at = 4; at < zip.length; at += at < 60 || at > zip.length - 160 ? 1 : 997) {
    const changed = Buffer.from(zip);
    changed.writeUInt8(changed.readUInt8(at) ^ 0x41, at);
    const result = await unpacked(await written(changed));
    if (typeof result !== 'string') t.ok(SNAPSHOT.subarray(0, result.length).equals(result), `byte ${at}`);
  }
  t.pass();
});

t.test('a file that is removed before it is read', async (t) => {
  for (const content of [SNAPSHOT, gzipSync(SNAPSHOT), zipOf([member])]) {
    const path = await written(content);
    const source = await openPacked(path, signal, async () => undefined);
    await rm(path);
    await t.rejects(async () => source.read()[Symbol.asyncIterator]().next(), {
      exitCode: 13,
      cause: { code: 'ENOENT' },
    });
  }
});

t.test('what is not a snapshot is not unpacked further', async (t) => {
  const text = Buffer.from('x'.repeat(10_000_000));
  for (const content of [gzipSync(text), zstdCompressSync(text), zipOf([{ name: 'x', content: text }])]) {
    t.equal((await unpacked(await written(content))).length, 131_072);
  }
  t.same(await unpacked(await written(gzipSync(DATABASE))), DATABASE, 'a database without its sha256');
});

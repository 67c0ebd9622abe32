import { createHash } from 'node:crypto';
import { chmod, mkdir, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import { Encrypter } from 'age-encryption';
import t, { type Test } from 'tap';
import { startBackupSite, writeIdentity } from '../support/backup-site.ts';
import { jsonOf, type Output, runCommand } from '../support/command.ts';
import { temporaryFolder } from '../support/process.ts';
import { archive, entry, paxHeader } from '../support/tar.ts';
import { asOther, noSecondUser, openTo, startAsOther, stateOf } from '../support/users.ts';
import { errorOf } from '../support/worker.ts';

/* Somebody who can write to the container, and knows the recipients, stores another bundle and its sha256 in the record. */

const { dir, azurite, variablesOf } = await startBackupSite(t, 'hostile-bundles', 'oldest');
const key = join(dir, 'key.txt');
const identity = await writeIdentity(key);
const outside = join(dir, 'outside');
await mkdir(outside);
await writeFile(join(outside, 'victim'), 'victim');
const variables = variablesOf('hostile');
const container = azurite.container('hostile');
const { name, bundle } = await jsonOf<{ name: string; bundle: { name: string } }>(['backup'], {
  ...variables,
  SNAPSHOT_ENCRYPTION_RECIPIENTS: identity.recipient,
  SNAPSHOT_BUNDLE: outside,
});
const metadataOf = async (blob: string): Promise<Record<string, string>> =>
  (await container.getBlobClient(blob).getProperties()).metadata ?? {};
const [record, ofBundle] = [await metadataOf(name), await metadataOf(bundle.name)];

async function put(sealed: Uint8Array): Promise<void> {
  await container.getBlockBlobClient(bundle.name).upload(sealed, sealed.length, { metadata: ofBundle });
  const sha256 = createHash('sha256').update(sealed).digest('hex');
  await container.getBlobClient(name).setMetadata({ ...record, bundlesha256: sha256 });
}

async function sealed(plain: Uint8Array): Promise<Uint8Array> {
  const encrypter = new Encrypter();
  encrypter.addRecipient(identity.recipient);
  return encrypter.encrypt(plain);
}

async function putArchive(...entries: readonly Buffer[]): Promise<void> {
  await put(await sealed(zstdCompressSync(archive(...entries))));
}

async function extract(to: string): Promise<Output> {
  return runCommand(['bundle', name, '--identity', key, '--extract', to], variables);
}

/** Refused, with a hint, and nothing is written. */
async function refuses(t: Test, what: string, code = 11): Promise<void> {
  const before = stateOf(outside);
  const parent = join(dir, 'refused');
  await mkdir(parent, { recursive: true });
  const end = await extract(join(parent, 'out'));
  t.equal(end.code, code, `${what}: ${end.stderr}`);
  t.ok(errorOf(end).hint, what);
  t.notMatch(end.stdout + end.stderr.replaceAll('\n', ''), /[\p{Cc}\p{Cf}]/u, what);
  t.strictSame(await readdir(parent), [], what);
  t.strictSame(stateOf(outside), before, what);
}

t.test('hostile archives', async (t) => {
  const link = (path: string, linkpath: string): Buffer => entry({ path, linkpath, type: 'SymbolicLink' });
  const file = entry({ path: 'a' }, 'x');
  const cases: Record<string, readonly Buffer[]> = {
    'a path that leaves it': [entry({ path: '../../outside/victim' }, 'x')],
    'an absolute path': [entry({ path: join(outside, 'new') }, 'x')],
    'a path in a PAX header': [paxHeader('ExtendedHeader', `path=${outside}/new`), file],
    'a link in a PAX header': [paxHeader('ExtendedHeader', `linkpath=${outside}`), link('l', 'a')],
    'a link, and a file through it': [link('l', outside), entry({ path: 'l/victim' }, 'x')],
    'an inner link, and a file through it': [
      entry({ path: 'd/', type: 'Directory' }),
      link('l', 'd'),
      entry({ path: 'l/f' }),
    ],
    'a hard link': [entry({ path: 'h', linkpath: join(outside, 'victim'), type: 'Link' })],
    'a device': [entry({ path: 'd', type: 'BlockDevice' })],
    'the same path twice': [file, file],
    'control characters': [entry({ path: 'a\u001b[2J' }, 'x')],
    'a size beyond the end': [paxHeader('ExtendedHeader', 'size=99999999999'), file],
    'very many entries': Array.from({ length: 20_000 }, (_, index) => entry({ path: `f${index}` })),
    'very many directories': Array.from({ length: 300 }, (_, index) => entry({ path: `${index}/${'d/'.repeat(50)}f` })),
    'a good file before a bad one': [file, entry({ path: '..' }, 'x')],
  };
  for (const [what, entries] of Object.entries(cases)) {
    await putArchive(...entries);
    await refuses(t, what);
  }
});

t.test('bombs, and what is no archive', async (t) => {
  for (const [what, plain] of [
    ['a bomb', zstdCompressSync(Buffer.alloc(512 * 2 ** 20))],
    ['not compressed', archive(entry({ path: 'a' }))],
    ['empty', Buffer.alloc(0)],
  ] as const) {
    await put(await sealed(plain));
    await refuses(t, what);
  }
  const good = await sealed(zstdCompressSync(archive(entry({ path: 'a' }))));
  await put(good.subarray(0, -1));
  await refuses(t, 'truncated');
  await put(Buffer.from('not encrypted'));
  await refuses(t, 'not encrypted');
  await put(good);
  await container.getBlobClient(name).setMetadata(record);
  await refuses(t, 'of another record');
});

t.test('modes and times that nobody should get', async (t) => {
  const special = ['mtime=99999999999999', 'mtime=-99999999999999', 'mtime=x'];
  await putArchive(
    entry({ path: 'setuid', mode: 0o6777 }, '#!'),
    entry({ path: 'closed/', type: 'Directory', mode: 0 }),
    entry({ path: 'closed/f', mode: 0 }),
    entry({ path: 'loop', linkpath: 'loop', type: 'SymbolicLink' }),
    ...special.flatMap((text, index) => [paxHeader('ExtendedHeader', text), entry({ path: `time${index}` })]),
    entry({ path: 'A' }),
    entry({ path: 'left-to-right \u202e' }),
  );
  const out = join(dir, 'modes');
  const { code, stdout, stderr } = await extract(out);
  t.equal(code, 0, stderr);
  t.match(stdout, 'left-to-right \\u{202e}');
  const mode = async (path: string): Promise<number> => (await stat(join(out, path))).mode & 0o7777;
  t.equal(await mode('.'), 0o700);
  t.equal(await mode('setuid'), 0o755);
  t.equal(await mode('closed'), 0);
  t.equal((await stat(join(out, 'setuid'))).uid, process.getuid?.());
});

t.test('directories of others', { skip: noSecondUser() }, async (t) => {
  await putArchive(entry({ path: 'a' }, 'x'));
  const shared = temporaryFolder('hostile-shared');
  await chmod(shared, 0o777);
  openTo(dir);
  const before = stateOf(outside);
  await asOther(`ln -s ${outside} ${shared}/link; mkdir ${shared}/theirs; ln -s ${shared}/theirs ${shared}/away`);
  for (const place of ['link', 'theirs', 'away', 'link/new']) {
    const end = await extract(join(shared, place));
    t.equal(end.code, 20, `${place}: ${end.stderr}`);
  }
  // The other user replaces the directory again and again: whatever is written is below a directory of this user.
  const racing = startAsOther(
    `while :; do ln -sfn ${outside} race; mv -T race old 2>/dev/null; mkdir race; mv -T race old2; rm -rf old2; done`,
    shared,
  );
  t.teardown(() => racing.kill());
  const codes = new Set<number>();
  for (let round = 0; round < 40; round++) codes.add((await extract(join(shared, 'race'))).code ?? -1);
  t.ok(
    [...codes].every((code) => [0, 2, 20].includes(code)),
    `ended with ${[...codes].join()}`,
  );
  t.strictSame(stateOf(outside), before);
  t.strictSame(await readdir(join(shared, 'theirs')), []);
});

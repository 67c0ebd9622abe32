import { createHash } from 'node:crypto';
import { chmod, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import t from 'tap';
import { generateIdentity } from '../../src/sealed/age-header.ts';
import { startBackupSite, writeIdentity } from '../support/backup-site.ts';
import { jsonOf, runCommand } from '../support/command.ts';
import { FaultProxy, type Seen } from '../support/fault-proxy.ts';
import { SNAPSHOT } from '../support/fixtures.ts';
import { collect, launch, type Variables } from '../support/process.ts';
import { metadataOf, type Plan, RECORDED_NAME } from '../support/restored.ts';
import { nextSecond } from '../support/until.ts';
import { errorOf, MAIN } from '../support/worker.ts';

interface Result {
  readonly name: string;
  readonly sha256: string;
  readonly liveKeys: number;
  readonly readBack: string;
  readonly encoding?: string;
  readonly storedSha256?: string;
  readonly recipients?: readonly string[];
  readonly findings: readonly string[];
}

const { dir, azurite, cluster, variablesOf } = await startBackupSite(t, 'encrypted');
await cluster.fill(100, 2000);
const [key, wrong] = [join(dir, 'key.txt'), join(dir, 'wrong.txt')];
const [mine, theirs, stranger] = await Promise.all([
  writeIdentity(key),
  generateIdentity('post-quantum'),
  writeIdentity(wrong),
]);
const RECIPIENTS = { SNAPSHOT_ENCRYPTION_RECIPIENTS: `${mine.recipient}, ${theirs.recipient}` };
const SEALED = { ...RECIPIENTS, SNAPSHOT_COMPRESSION: 'zstd' };

function sha256Of(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

t.test('a backup is proven without a private key, and opened with one', async (t) => {
  const variables = variablesOf('encrypted');
  const done = await jsonOf<Result>(['backup'], { ...variables, ...SEALED });
  const { name } = done;
  t.match(done, { name: /\.db\.zst\.age$/, encoding: 'zstd+age', readBack: 'done' });
  t.strictSame(done.recipients, [mine.fingerprint, theirs.fingerprint]);
  t.match(done.findings, [/^Only some recipients are post-quantum/]);
  t.match(await jsonOf(['list'], variables), [{ name, encoding: 'zstd+age', recipients: done.recipients }]);
  const { stdout } = await runCommand(['list'], variables);
  t.match(stdout, name);
  t.match(stdout, `encrypted for ${mine.fingerprint}, ${theirs.fingerprint}: 1 snapshot`);

  const stored = await jsonOf(['verify', name], variables);
  t.match(stored, { ok: true, checked: 'stored', storedSha256: done.storedSha256 });
  t.match((await runCommand(['verify', name], variables)).stdout, /the content was not checked/);
  const opened = { ok: true, checked: 'content', sha256: done.sha256 };
  t.match(await jsonOf(['verify', name, '--identity', key], variables), opened);
  t.match(await jsonOf(['verify', name], { ...variables, SNAPSHOT_ENCRYPTION_IDENTITY_FILE: key }), opened);

  const file = join(dir, 'd.db.zst.age');
  t.match(await jsonOf(['restore', name, '--download', file], variables), { checked: 'stored' });
  t.equal(sha256Of(await readFile(file)), done.storedSha256);
  t.match(await jsonOf(['restore', name, '--download', file], variables), { alreadyDone: true });
  const plain = ['restore', name, '--download', join(dir, 'd.db'), '--open'];
  t.match(await jsonOf([...plain, '--identity', key], variables), { checked: 'content', sha256: done.sha256 });
  t.equal(sha256Of(await readFile(join(dir, 'd.db'))), done.sha256);
  const again = ['restore', name, '--download', join(dir, 'e.db.zst.age'), '--identity', key];
  t.match(await jsonOf(again, variables), { checked: 'content', storedSha256: done.storedSha256 });
  t.match(await jsonOf(['verify', file, '--identity', key], {}), {
    ok: true,
    sha256: done.sha256,
    encoding: 'zstd+age',
  });
  t.match(await jsonOf(['inspect', file, name, '--identity', key], variables), { added: [], removed: [], changed: [] });
  const planning = ['restore', '--plan', '--force', '--layout', 'kubeadm', name, '--identity', key];
  const { steps } = await jsonOf<Plan>(planning, variables);
  t.match(steps[0]?.run.at(-1), /^# the snapshot is encrypted: set SNAPSHOT_ENCRYPTION_IDENTITY_FILE/);
  const target = ['restore', '--force', '--name', 'm1', '--identity', key, '--data-dir'];
  t.match(await jsonOf([...target, join(dir, 'restored')], variables), { alreadyDone: false });
  t.match(await jsonOf([...target, join(dir, 'of-file'), file], variables), { alreadyDone: false });
  t.match(await jsonOf(['drill', '--identity', key], variables), { ok: true, name });

  const elsewhere = ['restore', name, '--download', join(dir, 'f.db'), '--open'];
  const restore = ['restore', '--force', '--name', 'm1', '--data-dir', join(dir, 'nothing')];
  for (const command of [['inspect', name], ['drill'], ['drill', file], ['verify', file], elsewhere, restore]) {
    const { code, stderr } = await runCommand(command, variables);
    t.equal(code, 2, `${command.join(' ')}: ${stderr}`);
    t.match(errorOf({ stderr }).message, 'no identity was given');
  }
  const { code, stderr } = await runCommand(['inspect', name, '--identity', wrong], variables);
  t.equal(code, 2);
  const { message } = errorOf({ stderr });
  for (const { fingerprint } of [mine, theirs, stranger]) t.match(message, fingerprint);
  t.equal((await runCommand(['verify', file, '--identity', wrong], {})).code, 2);
});

t.test('encryption alone, recipients in a file, and a mixed container', async (t) => {
  const variables = variablesOf('mixed');
  const file = join(dir, 'recipients.txt');
  await writeFile(file, `# the first\n${mine.recipient}\n\n# the second\n${stranger.recipient}\n`, { mode: 0o600 });
  const encrypted = await jsonOf<Result>(['backup'], { ...variables, SNAPSHOT_ENCRYPTION_RECIPIENTS_FILE: file });
  t.match(encrypted, { name: /\.db\.age$/, encoding: 'age', findings: [] });
  await chmod(file, 0o666);
  await nextSecond();
  const open = await jsonOf<Result>(['backup'], { ...variables, SNAPSHOT_ENCRYPTION_RECIPIENTS_FILE: file });
  t.match(open.findings, [/^The file with recipients, \S+, can be written by other users/]);
  t.match(await jsonOf(['verify', encrypted.name, '--identity', wrong], variables), { checked: 'content' });
  await nextSecond();
  const single = { SNAPSHOT_ENCRYPTION_RECIPIENTS: theirs.recipient };
  const { findings } = await jsonOf<Result>(['backup'], { ...variables, ...single });
  t.match(findings, [/for one recipient only/]);
  await nextSecond();
  const plain = await jsonOf<Result>(['backup'], variables);
  t.match(plain.findings, [/^The newest snapshot \S+ is not encrypted, but the one before it is\.$/]);
  const { checks } = await jsonOf<{ checks: { check: string; state: string }[] }>(['doctor'], variables);
  t.match(
    checks.filter(({ check }) => check === 'protection'),
    [{ state: 'warn' }],
  );
  const pruned = await jsonOf<{ removed: string[] }>(['prune'], { ...variables, SNAPSHOT_KEEP_LAST: '1' });
  t.equal(pruned.removed.length, 3, 'no key is needed');
  t.match(await jsonOf(['list'], variables), [{ name: plain.name }]);
});

t.test('doctor checks recipients, and whether the newest snapshot can be opened', async (t) => {
  const variables = { ...variablesOf('doctor'), ...SEALED };
  const checked = async (more: Variables, code = 0): Promise<object[]> => {
    const { checks } = await jsonOf<{ checks: { check: string; state: string; finding: string }[] }>(
      ['doctor'],
      { ...variables, ...more },
      code,
    );
    return checks.filter(({ check }) => ['recipients', 'decryption'].includes(check));
  };
  const two = { SNAPSHOT_ENCRYPTION_RECIPIENTS: `${mine.recipient} ${stranger.recipient}` };
  t.match(await checked(two), [{ check: 'recipients', state: 'ok', finding: /2 recipients/ }], 'no snapshot yet');
  await jsonOf<Result>(['backup'], variables);
  t.match(await checked({}), [
    { check: 'recipients', state: 'warn', finding: /post-quantum/ },
    { check: 'decryption', state: 'warn', finding: /no drill has opened/ },
  ]);
  t.match(await checked({ SNAPSHOT_ENCRYPTION_IDENTITY_FILE: key }), [{}, { check: 'decryption', state: 'ok' }]);
  t.match(await checked({ SNAPSHOT_ENCRYPTION_IDENTITY_FILE: wrong }, 2), [{}, { check: 'decryption', state: 'fail' }]);
  await jsonOf(['drill', '--identity', key], variables);
  t.match(await checked({}), [{}, { check: 'decryption', state: 'ok', finding: /^A drill opened/ }]);
  t.match(await checked({ SNAPSHOT_ENCRYPTION_RECIPIENTS: 'age1x' }, 2), [{ check: 'recipients', state: 'fail' }, {}]);
  const plain = variablesOf('doctor');
  await nextSecond();
  await jsonOf<Result>(['backup'], plain);
  await jsonOf(['drill'], plain);
  await nextSecond();
  await jsonOf<Result>(['backup'], variables);
  t.match(await checked({}), [{}, { state: 'ok', finding: /^A drill opened/ }], 'a later drill of a plain one');
  t.match(
    (await jsonOf<{ checks: object[] }>(['doctor'], plain)).checks.find(
      (each) => 'check' in each && each.check === 'recipients',
    ),
    {
      state: 'warn',
      finding: 'The newest snapshot is encrypted, but new ones will not be.',
    },
  );
});

t.test('a name without its endings, and a file that has the other form', async (t) => {
  const variables = variablesOf('forms');
  const { name } = await jsonOf<Result>(['backup'], { ...variables, ...SEALED });
  const file = join(dir, 'forms');
  const short = await runCommand(['verify', name.replace('.zst.age', '')], variables);
  t.equal(short.code, 13);
  t.match(errorOf(short).hint, `There is ${name}.`);
  t.match((await runCommand(['restore', name, '--download', file], variables)).stdout, /age -d/);
  const again = await runCommand(['restore', name, '--download', file], variables);
  t.match(again.stdout, 'Already done');
  t.notMatch(again.stdout, 'contains all Secrets');
  const open = await runCommand(['restore', name, '--download', file, '--open', '--identity', key], variables);
  t.equal(open.code, 2);
  t.match(errorOf(open).message, `contains ${name} in another form`);
});

t.test('an identity from a pipe, and one that others can read', async (t) => {
  const variables = variablesOf('identities');
  const { name } = await jsonOf<Result>(['backup'], { ...variables, ...SEALED });
  const command = `'${process.execPath}' -- '${MAIN}' verify ${name} --json --identity <(cat '${key}')`;
  const { stdout } = await collect(launch('bash', ['-c', command], variables));
  t.match(JSON.parse(stdout), { ok: true, checked: 'content' });
  const readable = join(dir, 'readable.txt');
  await writeFile(readable, `${mine.secret.reveal()}\n`, { mode: 0o644 });
  t.match((await runCommand(['verify', name, '--identity', readable], variables)).stderr, /can be read by other users/);
  t.notMatch((await runCommand(['verify', name, '--identity', key], variables)).stderr, /can be read by other users/);
});

t.test('recipients and identities that are not valid end with 2 before anything is done', async (t) => {
  const nobody = { ...azurite.variables('invalid'), SNAPSHOT_ETCD_ENDPOINTS: 'http://127.0.0.1:1' };
  const secret = mine.secret.reveal();
  for (const recipients of ['age1xyz', `${mine.recipient} ${secret}`, secret, `${mine.recipient.slice(0, -1)}b`, ',']) {
    const { code, stderr, stdout } = await runCommand(['backup', '--json'], {
      ...nobody,
      SNAPSHOT_ENCRYPTION_RECIPIENTS: recipients,
    });
    t.equal(code, 2);
    t.match(errorOf({ stderr }).message, 'SNAPSHOT_ENCRYPTION_RECIPIENTS');
    t.notMatch(stderr + stdout, secret);
  }
  const file = join(dir, 'none.txt');
  await writeFile(file, '# nobody\n');
  for (const path of [file, join(dir, 'missing.txt'), key]) {
    const variables = { ...nobody, SNAPSHOT_ENCRYPTION_RECIPIENTS_FILE: path };
    const { code, stderr } = await runCommand(['backup'], variables);
    t.equal(code, 2);
    t.match(JSON.stringify(errorOf({ stderr })), 'SNAPSHOT_ENCRYPTION_RECIPIENTS_FILE');
    t.notMatch(stderr, secret);
  }
});

t.test('without an identity, the beginning of a blob must still be that of an encrypted one', async (t) => {
  const client = azurite.container('beginnings');
  await client.create();
  const variables = variablesOf('beginnings');
  const name = `${RECORDED_NAME}.age`;
  for (const bytes of [SNAPSHOT, zstdCompressSync(SNAPSHOT), Buffer.from('age')]) {
    const seal = { encoding: 'age', storedsize: String(bytes.length), storedsha256: sha256Of(bytes) };
    const metadata = metadataOf({ ...seal, recipients: mine.fingerprint });
    await client.getBlockBlobClient(name).upload(bytes, bytes.length, { metadata });
    for (const command of [
      ['verify', name],
      ['restore', name, '--download', join(dir, 'beginning')],
    ]) {
      const { code, stderr } = await runCommand(command, variables);
      t.equal(code, 11, `${command.join(' ')}: ${stderr}`);
      t.match(errorOf({ stderr }).message, 'its blob is not encrypted with age');
    }
  }
  t.strictSame(
    (await readdir(dir)).filter((file) => file.startsWith('beginning')),
    [],
    'nothing was written',
  );
});

t.test('a blob that reads back differently is rolled back, and a corrupt one is refused', async (t) => {
  const variables = variablesOf('corrupt');
  const { name } = await jsonOf<Result>(['backup'], { ...variables, ...SEALED });
  const blob = azurite.container('corrupt').getBlockBlobClient(name);
  const bytes = await blob.downloadToBuffer();
  const { metadata = {} } = await blob.getProperties();
  for (const at of [0, 60, 300, bytes.length - 1]) {
    const changed = Buffer.from(bytes);
    changed[at] = (changed[at] ?? 0) ^ 1;
    await blob.upload(changed, changed.length, { metadata });
    for (const more of [[], ['--identity', key]]) {
      const { code, stderr } = await runCommand(['verify', name, ...more], variables);
      t.equal(code, 11, `byte ${at}: ${stderr}`);
    }
  }
  const isReadBack = ({ method, url }: Seen): boolean => method === 'GET' && url.searchParams.get('comp') === null;
  const proxy = await FaultProxy.start(azurite.url, (seen) => (isReadBack(seen) ? 'flip' : 'pass'));
  t.teardown(async () => proxy.stop());
  for (const more of [SEALED, RECIPIENTS, { SNAPSHOT_COMPRESSION: 'zstd' }]) {
    const container = `flipped-${Object.keys(more).length}-${more === RECIPIENTS}`;
    const { code, stderr } = await runCommand(['backup'], {
      ...{ ...cluster.variables, ...azurite.variables(container), ...more },
      SNAPSHOT_AZURE_BLOB_ENDPOINT: proxy.url,
    });
    t.equal(code, 12);
    t.match(stderr, /does not match the data that was sent; it was removed/);
    t.strictSame(await azurite.names(container), []);
  }
});

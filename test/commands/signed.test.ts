import { createHash } from 'node:crypto';
import { chmod, chown, lchown, mkdir, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { startBackupSite } from '../support/backup-site.ts';
import { jsonOf, runCommand } from '../support/command.ts';
import { findJudge } from '../support/judges.ts';
import { mustRun, type Variables } from '../support/process.ts';
import { nextSecond } from '../support/until.ts';
import { errorOf, runWorker } from '../support/worker.ts';

interface Signature {
  readonly state: string;
  readonly keyId: string | null;
}

interface Result {
  readonly name: string;
  readonly signature: Signature;
  readonly findings: readonly string[];
  readonly retention: { readonly removed: readonly string[] };
}

interface Listed {
  readonly name: string;
  readonly record: boolean;
  readonly signature?: Signature;
  readonly previous?: string;
}

const { dir, azurite, cluster, variablesOf } = await startBackupSite(t, 'signed');
await cluster.fill(50, 100);

const { keyId } = await jsonOf<{ keyId: string }>(['keygen', join(dir, 'keys')], {});
const { keyId: otherId } = await jsonOf<{ keyId: string }>(['keygen', join(dir, 'other')], {});

function signing(keys = 'keys'): Variables {
  return { SNAPSHOT_SIGNING_KEY_FILE: join(dir, keys, 'signing.pem') };
}

const VERIFYING: Variables = { SNAPSHOT_VERIFICATION_KEYS_FILE: join(dir, 'keys', 'verification.pem') };
const BOTH = { ...signing(), ...VERIFYING };

async function backup(variables: Variables): Promise<Result> {
  await nextSecond();
  return jsonOf<Result>(['backup'], variables);
}

async function rewrite(
  container: string,
  name: string,
  change: (metadata: Record<string, string>) => void,
): Promise<void> {
  const blob = azurite.container(container).getBlobClient(name);
  const { metadata = {} } = await blob.getProperties();
  change(metadata);
  await blob.setMetadata(metadata);
}

t.test('with verification keys, all commands use signed snapshots only', async (t) => {
  const variables = variablesOf('mixed');
  const unsigned = await backup(variables);
  t.match(unsigned.signature, { state: 'unsigned', keyId: null });
  const first = await backup({ ...variables, ...signing() });
  t.match(first.signature, { state: 'valid', keyId });
  const second = await backup({ ...variables, ...BOTH });
  const unknown = await backup({ ...variables, ...signing('other') });
  const bad = await backup({ ...variables, ...BOTH });
  await rewrite('mixed', bad.name, (metadata) => (metadata['revision'] = '999999'));
  const verifying = { ...variables, ...VERIFYING };

  const listed = await jsonOf<Listed[]>(['list'], verifying);
  t.match(listed, [
    { name: bad.name, record: false, signature: { state: 'bad', keyId } },
    { name: unknown.name, record: false, signature: { state: 'unknown-key', keyId: otherId } },
    { name: second.name, record: true, signature: { state: 'valid', keyId }, previous: first.name },
    { name: first.name, record: true, signature: { state: 'valid', keyId }, previous: unsigned.name },
    { name: unsigned.name, record: false, signature: { state: 'unsigned', keyId: null } },
  ]);
  const { stdout } = await runCommand(['list'], verifying);
  for (const line of stdout.split('\n')) t.ok(line.length <= 100, line);
  t.match(stdout, `signed by ${keyId}: 2 snapshots`);
  t.match(stdout.replaceAll(/\s+/g, ' '), `${bad.name} is not counted: BAD SIGNATURE`);
  t.match(stdout.replaceAll(/\s+/g, ' '), `${unknown.name} is not counted: it is signed by unknown key ${otherId}.`);
  t.match(stdout.replaceAll(/\s+/g, ' '), `${unsigned.name} is not counted: it is unsigned.`);
  const { stdout: open } = await runCommand(['list'], variables);
  t.match(open, /^unsigned: 1 snapshot$/m, 'without keys nothing is verified');
  t.match(open, new RegExp(`^signed by unknown key ${keyId}: 3 snapshots$`, 'm'));

  for (const { name } of [unsigned, unknown, bad]) {
    for (const command of [
      ['verify', name],
      ['inspect', name],
      ['restore', name, '--download', join(dir, 'refused')],
      ['restore', name, '--force', '--name', 'm1', '--data-dir', join(dir, 'refused')],
      ['restore', name, '--plan', '--force', '--layout', 'kubeadm'],
      ['drill', name],
    ]) {
      const refused = await runCommand(command, verifying);
      t.equal(refused.code, 11, `${command.join(' ')}: ${refused.stderr}`);
      t.match(errorOf(refused), {
        message: / is not trusted: (it is (un)?signed|BAD SIGNATURE)/,
        hint: /^Use (a signed|another) snapshot/,
      });
    }
    await t.rejects(stat(join(dir, 'refused')), { code: 'ENOENT' });
  }
  t.match(await jsonOf(['verify', second.name], verifying), { ok: true, signature: { state: 'valid', keyId } });
  t.match(await jsonOf(['verify', unknown.name], variables), { ok: true, signature: { state: 'unknown-key' } });
  t.match((await runCommand(['inspect', second.name], verifying)).stdout, `\nsigned by ${keyId}\n`);
  t.match(await jsonOf(['drill'], verifying), { name: second.name, ok: true });
  const restored = await runCommand(['restore', '--download', join(dir, 'newest.db'), '--json'], verifying);
  t.match(JSON.parse(restored.stdout), { name: second.name });
  t.match(restored.stderr, `ignoring ${bad.name}, which is newer: BAD SIGNATURE`);
  t.match(restored.stderr, `ignoring ${unknown.name}, which is newer`);
  const plan = await jsonOf(['restore', '--plan', '--force', '--layout', 'kubeadm'], verifying);
  t.match(plan, { snapshot: { name: second.name } });

  const { checks } = await jsonOf<{ checks: { check: string; state: string; finding: string }[] }>(['doctor'], {
    ...variables,
    ...BOTH,
  });
  const signatures = checks.filter(({ check }) => check === 'signatures');
  t.match(signatures, [
    { state: 'ok', finding: `New snapshots are signed by ${keyId}; only those signed by ${keyId} count.` },
    { state: 'warn', finding: /BAD SIGNATURE do not count.*: 1, such as/ },
    { state: 'warn', finding: /without a trusted signature do not count.*: 2, such as/ },
  ]);

  const last = await backup({ ...variables, ...BOTH, SNAPSHOT_KEEP_LAST: '1' });
  t.strictSame(last.retention.removed.toSorted(), [first.name, second.name].toSorted(), 'only signed ones go');
  t.equal(last.findings.filter((finding) => /BAD SIGNATURE|trusted signature/.test(finding)).length, 2);
  const pruned = await jsonOf<{ removed: string[]; decisions: { name: string; reasons: string[] }[] }>(['prune'], {
    ...verifying,
    SNAPSHOT_KEEP_LAST: '1',
  });
  t.strictSame(pruned.removed, []);
  t.match(
    pruned.decisions.map(({ reasons }) => reasons[0]),
    ['newest', 'BAD SIGNATURE', `signed by unknown key ${otherId}`, 'unsigned'],
  );

  // What somebody stored without a record is unsigned, too.
  await azurite.container('mixed').getBlockBlobClient('bare.db').upload(Buffer.from('x'), 1);
  t.equal((await runCommand(['restore', 'bare.db', '--download', join(dir, 'refused')], verifying)).code, 11);
});

t.test('records that are replayed elsewhere do not count', async (t) => {
  const variables = { ...variablesOf('replayed'), ...BOTH };
  const older = await backup(variables);
  const newer = await backup(variables);
  const container = azurite.container('replayed');
  const { metadata: olderMetadata = {} } = await container.getBlobClient(older.name).getProperties();
  const bytes = await container.getBlobClient(older.name).downloadToBuffer();
  const states = async (): Promise<(string | undefined)[]> =>
    (await jsonOf<Listed[]>(['list'], variables)).map(({ signature }) => signature?.state);

  await rewrite('replayed', newer.name, (metadata) => (metadata['signature'] = olderMetadata['signature'] ?? ''));
  t.strictSame(await states(), ['bad', 'valid'], 'the signature of an older record');
  // The blob of the older one under the name of the newer one, in all parts.
  await container.getBlockBlobClient(newer.name).upload(bytes, bytes.length, { metadata: olderMetadata });
  t.strictSame(
    (await jsonOf<Listed[]>(['list'], variables)).map(({ record }) => record),
    [false, true].toReversed(),
  );
  const refused = await runCommand(['restore', newer.name, '--download', join(dir, 'replayed')], variables);
  t.equal(refused.code, 11);
  t.match(errorOf(refused).message, 'BAD SIGNATURE');
  await rewrite('replayed', older.name, (metadata) => delete metadata['signature']);
  t.equal((await runCommand(['drill'], variables)).code, 13, 'none is left');
});

t.test('a snapshot that was deleted by somebody else is missed', async (t) => {
  const variables = { ...variablesOf('missing'), ...BOTH, SNAPSHOT_KEEP_LAST: '10' };
  const first = await backup(variables);
  t.strictSame(first.findings, [], 'the first one in a new container');
  const second = await backup(variables);
  const third = await backup(variables);
  t.strictSame(third.findings, []);
  await azurite.container('missing').getBlobClient(second.name).delete();
  const missing = `Snapshots are missing that no retention rule removed: 1, such as ${second.name}.`;
  const { findings } = await backup(variables);
  t.match(findings, [missing]);
  const { checks } = await jsonOf<{ checks: { check: string; state: string; finding: string }[] }>(
    ['doctor'],
    variables,
  );
  t.match(checks.filter(({ check }) => check === 'signatures')[1], { state: 'warn', finding: missing });
  for (const [last, isMissed] of [
    ['10', true],
    ['1', false],
    ['', false],
  ] as const) {
    const { stderr } = await runCommand(['list'], { ...variables, SNAPSHOT_KEEP_LAST: last });
    t.equal(stderr.includes(missing), isMissed, `with SNAPSHOT_KEEP_LAST=${last}`);
  }
});

t.test('invalid keys end with 2 before etcd is contacted', async (t) => {
  const nowhere = { ...variablesOf('nowhere'), SNAPSHOT_ETCD_ENDPOINTS: 'http://127.0.0.1:1' };
  const refused = async (variables: Variables, command = 'backup'): Promise<string> => {
    const { code, stderr } = await runCommand([command], { ...nowhere, ...variables });
    t.equal(code, 2, stderr);
    return errorOf({ stderr }).message;
  };
  const pem = await readFile(join(dir, 'keys', 'signing.pem'), 'utf8');
  const verification = join(dir, 'keys', 'verification.pem');
  t.match(await refused({ SNAPSHOT_SIGNING_KEY_FILE: verification }), 'SNAPSHOT_SIGNING_KEY_FILE: the file');
  t.match(
    await refused({ SNAPSHOT_SIGNING_KEY_FILE: join(dir, 'none') }, 'doctor'),
    /SIGNING_KEY_FILE.*does not exist/,
  );
  t.match(await refused(VERIFYING), /SNAPSHOT_SIGNING_KEY_FILE is not set: with verification keys/);
  t.match(
    await refused({ ...signing('other'), ...VERIFYING }),
    'SNAPSHOT_VERIFICATION_KEYS_FILE does not contain the public key of SNAPSHOT_SIGNING_KEY_FILE',
  );
  const swapped = { SNAPSHOT_VERIFICATION_KEYS_FILE: join(dir, 'keys', 'signing.pem') };
  t.match(await refused(swapped, 'list'), /SNAPSHOT_VERIFICATION_KEYS_FILE.*contains a private key/);
  const misplaced = await runWorker(['backup'], { ...nowhere, SNAPSHOT_SIGNING_KEY_FILE: pem });
  t.equal(misplaced.code, 2);
  t.match(misplaced.stderr, 'contains a PEM itself');
  t.notMatch(misplaced.stderr + misplaced.stdout, /MC4CAQ|BEGIN PRIVATE/);
  await azurite.container('nowhere').create();
  t.equal((await runCommand(['list'], { ...nowhere, ...signing('none') })).code, 0, 'only who signs needs the key');
});

const KEY_FILES = ['identity.txt', 'recipient.txt', 'signing.pem', 'verification.pem'];

t.test('keygen writes keys that only their owner can read, and overwrites nothing', async (t) => {
  const made = join(dir, 'made');
  const { code, stdout, stderr } = await runCommand(['keygen', made], {});
  t.equal(code, 0, stderr);
  t.match(
    stdout,
    /SNAPSHOT_ENCRYPTION_RECIPIENTS_FILE[^]*SNAPSHOT_SIGNING_KEY_FILE[^]*SNAPSHOT_VERIFICATION_KEYS_FILE/,
  );
  t.notMatch(stdout + stderr, /BEGIN|MC4CAQ|AGE-SECRET/);
  for (const line of stdout.split('\n')) t.ok(line.length <= 100, line);
  t.equal((await stat(made)).mode & 0o777, 0o700);
  for (const name of KEY_FILES) t.equal((await stat(join(made, name))).mode & 0o777, 0o600);
  const digest = async (name: string): Promise<string> =>
    createHash('sha256')
      .update(await readFile(join(made, name)))
      .digest('hex');
  const before = await digest('signing.pem');
  t.equal((await runCommand(['keygen', made], {})).code, 2);
  t.equal(await digest('signing.pem'), before);
  const half = join(dir, 'half');
  await mkdir(half);
  await chmod(half, 0o755);
  await writeFile(join(half, 'verification.pem'), 'x');
  const refused = await runCommand(['keygen', half], {});
  t.equal(refused.code, 2);
  t.match(errorOf(refused).message, 'verification.pem already exists');
  const shared = join(dir, 'shared');
  await mkdir(shared);
  await chmod(shared, 0o777);
  const open = await runCommand(['keygen', shared], {});
  t.equal(open.code, 20);
  t.match(errorOf(open).message, 'can be written by other users');
  t.strictSame(await readdir(shared), []);
  if (process.geteuid?.() !== 0) return;
  const theirs = join(dir, 'theirs');
  await mkdir(theirs);
  await symlink(theirs, join(dir, 'link'));
  await lchown(join(dir, 'link'), 65534, 65534);
  for (const path of [join(dir, 'link'), theirs]) {
    await chown(theirs, path === theirs ? 65534 : 0, 0);
    t.equal((await runCommand(['keygen', path], {})).code, 20, path);
  }
  t.strictSame(await readdir(theirs), []);
  t.strictSame(await readdir(half), ['verification.pem'], 'nothing was written');
  t.equal((await runCommand(['keygen', join(half, 'verification.pem')], {})).code, 2, 'a file');
  t.equal((await runCommand(['keygen', join(half, 'a', 'b')], {})).code, 2, 'no parent');
  t.equal((await runCommand(['keygen'], {})).code, 2, 'no directory');
});

t.test('what keygen made encrypts and opens a snapshot', async (t) => {
  for (const [container, ...options] of [['x25519'], ['post-quantum', '--post-quantum']] as const) {
    const made = join(dir, container);
    const { recipient } = await jsonOf<{ recipient: string }>(['keygen', made, ...options], {});
    const text = await readFile(join(made, 'recipient.txt'), 'utf8');
    t.match(text, container === 'x25519' ? /^age1(?!pq)[0-9a-z]{58}\n$/ : /^age1pq1[0-9a-z]+\n$/);
    const variables = {
      ...variablesOf(container),
      SNAPSHOT_ENCRYPTION_RECIPIENTS_FILE: join(made, 'recipient.txt'),
      SNAPSHOT_SIGNING_KEY_FILE: join(made, 'signing.pem'),
      SNAPSHOT_VERIFICATION_KEYS_FILE: join(made, 'verification.pem'),
    };
    const { name } = await jsonOf<Result>(['backup'], variables);
    const verified = await jsonOf(['verify', name, '--identity', join(made, 'identity.txt')], variables);
    t.match(verified, { ok: true, checked: 'content', recipients: [recipient], signature: { state: 'valid' } });
  }
  const identity = join(dir, 'x25519', 'identity.txt');
  if (findJudge('age-keygen') === undefined) return;
  t.equal(await mustRun('age-keygen', ['-y', identity]), await readFile(join(dir, 'x25519', 'recipient.txt'), 'utf8'));
});

import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { Azurite } from '../support/azurite.ts';
import { startBackupSite, writeIdentity } from '../support/backup-site.ts';
import { jsonOf, runCommand } from '../support/command.ts';
import { FaultProxy, type FaultRule } from '../support/fault-proxy.ts';
import type { Variables } from '../support/process.ts';
import { nextSecond } from '../support/until.ts';
import { errorOf } from '../support/worker.ts';

interface Copied {
  readonly copied: readonly { readonly name: string; readonly size: number; readonly bundle: boolean }[];
  readonly marks: number;
  readonly present: number;
  readonly disappeared: readonly string[];
  readonly problems: readonly { readonly name: string; readonly problem: string }[];
  readonly missing: number;
  readonly lagSeconds: number;
  readonly findings: readonly string[];
}

const { dir, azurite, cluster, variablesOf } = await startBackupSite(t, 'copy');
await cluster.fill(200, 60_000);
const second = await Azurite.start(join(dir, 'second'));
t.teardown(async () => second.stop());

/** The variables of the second place. */
function copyIn(container: string, store: Azurite = second): Variables {
  const own = Object.entries(store.variables(container));
  return Object.fromEntries(own.map(([name, value]) => [name.replace('SNAPSHOT_', 'SNAPSHOT_COPY_'), value]));
}

function places(container: string): Variables {
  return { ...variablesOf(container), ...copyIn(container) };
}

async function backup(variables: Variables): Promise<string> {
  const { name } = await jsonOf<{ name: string }>(['backup'], variables);
  await nextSecond();
  return name;
}

/** Bytes and metadata of all blobs. */
async function contentOf(store: Azurite, container: string): Promise<Record<string, unknown>> {
  const client = store.container(container);
  const entries = (await store.names(container)).map(async (name) => {
    const blob = client.getBlobClient(name);
    const { metadata } = await blob.getProperties();
    return [name, { metadata, bytes: (await blob.downloadToBuffer()).toString('base64') }] as const;
  });
  return Object.fromEntries(await Promise.all(entries));
}

async function proxied(t: Test, store: Azurite, rule: FaultRule): Promise<string> {
  const proxy = await FaultProxy.start(store.url, rule);
  t.teardown(async () => proxy.stop());
  return proxy.url;
}

/** Changes one byte of a blob and nothing else. */
async function corrupt(store: Azurite, container: string, name: string): Promise<void> {
  const blob = store.container(container).getBlockBlobClient(name);
  const bytes = Buffer.from(await blob.downloadToBuffer());
  const { metadata = {} } = await blob.getProperties();
  bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
  await blob.upload(bytes, bytes.length, { metadata });
}

t.test('snapshots, bundles and marks of every kind are the same in the second place', async (t) => {
  const key = join(dir, 'identity.txt');
  const { recipient } = await writeIdentity(key);
  const file = join(dir, 'key.pem');
  await writeFile(file, 'a key');
  await jsonOf(['keygen', join(dir, 'keys')], {});
  const SEALED = {
    SNAPSHOT_COMPRESSION: 'zstd',
    SNAPSHOT_ENCRYPTION_RECIPIENTS: recipient,
    SNAPSHOT_BUNDLE: file,
    SNAPSHOT_SIGNING_KEY_FILE: join(dir, 'keys', 'signing.pem'),
  };
  const variables = { ...places('kinds'), SNAPSHOT_COPY_BLOB_PREFIX: 'copies/' };
  const plain = await backup(variables);
  const sealed = await backup({ ...variables, ...SEALED });
  const mark = azurite.container('kinds').getBlockBlobClient('etcd-snapshot-marks/1.json');
  await mark.upload('{"a":1}\n', 8, {
    metadata: { at: new Date().toISOString(), snapshot: plain, what: 'keep', note: 'before%201.36' },
  });
  await azurite.container('kinds').getBlockBlobClient('notes.txt').upload('mine', 4);

  const done = await jsonOf<Copied>(['copy'], variables);
  t.strictSame(
    done.copied.map(({ name, bundle }) => [name, bundle]),
    [
      [sealed, true],
      [plain, false],
    ],
    'the newest first',
  );
  t.match(done, { marks: 1, present: 0, disappeared: [], problems: [], missing: 0, lagSeconds: 0 });
  const { 'notes.txt': _, ...expected } = await contentOf(azurite, 'kinds');
  const copies = await contentOf(second, 'kinds');
  t.strictSame(copies, Object.fromEntries(Object.entries(expected).map(([name, blob]) => [`copies/${name}`, blob])));
  t.match(await jsonOf<Copied>(['copy'], variables), { copied: [], marks: 0, present: 2 });
  t.strictSame(await contentOf(second, 'kinds'), copies, 'a second run changes nothing');

  const signed = { ...variables, SNAPSHOT_VERIFICATION_KEYS_FILE: join(dir, 'keys', 'verification.pem') };
  t.match(await jsonOf(['list', '--from-copy'], { ...signed, SNAPSHOT_KEEP_LAST: '1' }), [
    { name: `copies/${sealed}`, signature: { state: 'valid' } },
    { name: `copies/${plain}`, problem: /unsigned/ },
  ]);
  const opened = { ...variables, SNAPSHOT_ENCRYPTION_IDENTITY_FILE: key };
  t.match(await jsonOf(['verify', sealed, '--from-copy'], opened), { ok: true, name: `copies/${sealed}` });
  const out = join(dir, 'extracted');
  await jsonOf(['bundle', sealed, '--from-copy', '--extract', out], opened);
  t.equal(await readFile(join(out, file), 'utf8'), 'a key');
  t.match(await jsonOf(['inspect', plain, '--from-copy'], variables), { name: `copies/${plain}` });
  t.match(await jsonOf(['drill', '--from-copy'], opened), { ok: true, name: `copies/${sealed}` });
  t.match(await jsonOf(['prune', '--dry-run', '--from-copy'], { ...variables, SNAPSHOT_KEEP_LAST: '1' }), {
    decisions: [{ name: `copies/${sealed}` }, { name: `copies/${plain}`, keep: true, reasons: /kept: before 1.36/ }],
  });
});

t.test('only named snapshots are copied, and the rest counts as missing', async (t) => {
  const variables = places('named');
  const old = await backup(variables);
  const recent = await backup(variables);
  const done = await jsonOf<Copied>(['copy', old], variables);
  t.match(done, { copied: [{ name: old }], missing: 1 });
  t.ok(done.lagSeconds > 0 && done.lagSeconds < 600, String(done.lagSeconds));
  t.equal((await runCommand(['copy', 'kubernetes-etcd-snapshot_20200101_000000.db'], variables)).code, 13);
  t.equal((await runCommand(['copy', './snapshot.db'], variables)).code, 2);
  await azurite.container('named').getBlockBlobClient('x.db').upload('x', 1);
  t.equal((await runCommand(['copy', 'x.db'], variables)).code, 11);
  t.match(await jsonOf<Copied>(['copy'], variables), { copied: [{ name: recent }], present: 1, missing: 0 });
});

t.test('what does not match its record is not copied, after everything else was', async (t) => {
  const variables = places('corrupt');
  const [first, middle, last] = [await backup(variables), await backup(variables), await backup(variables)];
  await corrupt(azurite, 'corrupt', middle);
  const blob = azurite.container('corrupt').getBlockBlobClient(last);
  const { metadata = {} } = await blob.getProperties();
  await blob.upload('short', 5, { metadata });
  const { code, stdout, stderr } = await runCommand(['copy', '--json'], variables);
  t.equal(code, 11, stderr);
  t.match(errorOf({ stderr }).message, `${middle} does not match its record`);
  t.match(JSON.parse(stdout), {
    copied: [{ name: first }],
    problems: [
      { name: last, problem: /does not match its record: it has 5 bytes/ },
      { name: middle, problem: 'does not match its record' },
    ],
    missing: 1,
  });
  t.strictSame(await second.names('corrupt'), [first], 'nothing else is visible');
});

t.test('something else under a name of the second place is an alarm, and stays', async (t) => {
  const variables = places('conflict');
  const [one, two, three, four] = [
    await backup(variables),
    await backup(variables),
    await backup(variables),
    await backup(variables),
  ];
  const other = second.container('conflict');
  await other.create();
  await other.getBlockBlobClient(one).upload('mine', 4);
  await jsonOf(['copy', two, three], variables);
  await other
    .getBlobClient(two)
    .setMetadata({ ...(await other.getBlobClient(two).getProperties()).metadata, revision: '1' });
  const before = await contentOf(second, 'conflict');
  const { code, stdout, stderr } = await runCommand(['copy', '--json'], variables);
  t.equal(code, 11, stderr);
  t.match(JSON.parse(stdout), {
    copied: [{ name: four }],
    present: 1,
    problems: [{ name: two }, { name: one, problem: 'is not what the second place has under its name' }],
    missing: 2,
    lagSeconds: 0,
  });
  t.match(await contentOf(second, 'conflict'), before, 'nothing was overwritten');
});

t.test('a snapshot that disappears during the run is reported and skipped', async (t) => {
  const variables = places('disappears');
  const [one, two, three] = [await backup(variables), await backup(variables), await backup(variables)];
  const container = azurite.container('disappears');
  const url = await proxied(t, azurite, async ({ method, url: { pathname }, from }): Promise<'pass'> => {
    if (method === 'HEAD' && pathname.endsWith(two)) await container.deleteBlob(two);
    if (method === 'GET' && pathname.endsWith(one) && from > 0) await container.getBlobClient(one).deleteIfExists();
    return 'pass';
  });
  const done = await jsonOf<Copied>(['copy'], { ...variables, SNAPSHOT_AZURE_BLOB_ENDPOINT: url });
  t.match(done, { copied: [{ name: three }], disappeared: [two, one], problems: [], missing: 0 });
  t.match(done.findings, [/was deleted or replaced/, /was deleted or replaced/]);
  t.strictSame(await second.names('disappears'), [three]);
});

t.test('a copy that reads back differently is removed, and a lost answer does no harm', async (t) => {
  const variables = places('read-back');
  const name = await backup(variables);
  const flipping = await proxied(t, second, ({ method, from }) => (method === 'GET' && from > 0 ? 'flip' : 'pass'));
  const flipped = await runCommand(['copy'], { ...variables, SNAPSHOT_COPY_AZURE_BLOB_ENDPOINT: flipping });
  t.equal(flipped.code, 12, flipped.stderr);
  t.match(errorOf(flipped).message, /does not match the data that was sent; it was removed/);
  t.strictSame(await second.names('read-back'), []);
  const sent = await proxied(t, second, ({ method, url, index }) => {
    const isBlock = method === 'PUT' && url.searchParams.get('comp') === 'block';
    return isBlock && index === 0 ? 'flip-sent' : 'pass';
  });
  await jsonOf(['copy'], { ...variables, SNAPSHOT_COPY_AZURE_BLOB_ENDPOINT: sent });
  t.strictSame(await contentOf(second, 'read-back'), await contentOf(azurite, 'read-back'), 'the service found it');
  await second.container('read-back').deleteBlob(name);
  const losing = await proxied(t, second, ({ method, url, index }) => {
    const isCommit = method === 'PUT' && url.searchParams.get('comp') === 'blocklist';
    return isCommit && index === 0 ? 'lose-answer' : 'pass';
  });
  const done = await jsonOf<Copied>(['copy'], { ...variables, SNAPSHOT_COPY_AZURE_BLOB_ENDPOINT: losing });
  t.match(done, { copied: [{ name }], missing: 0 });
});

t.test('a failure of one place says what was copied before', async (t) => {
  const variables = places('fails');
  const [one, two] = [await backup(variables), await backup(variables)];
  const url = await proxied(t, second, ({ method, url: { pathname } }) =>
    method === 'PUT' && pathname.endsWith(one) ? { status: 403, code: 'AuthorizationPermissionMismatch' } : 'pass',
  );
  const failed = await runCommand(['copy', '--json'], { ...variables, SNAPSHOT_COPY_AZURE_BLOB_ENDPOINT: url });
  t.equal(failed.code, 12, failed.stderr);
  t.match(JSON.parse(failed.stdout), { copied: [{ name: two }], missing: 1, error: { code: 12 } });
  const wrongKey = { ...variables, SNAPSHOT_COPY_AZURE_ACCOUNT_KEY: `${'k'.repeat(86)}==` };
  const refused = await runCommand(['copy'], wrongKey);
  t.equal(refused.code, 12);
  t.match(errorOf(refused).hint, /SNAPSHOT_COPY_AZURE_ACCOUNT_KEY/);
});

t.test('after a backup', async (t) => {
  const variables = { ...places('after'), SNAPSHOT_COPY: 'after-backup' };
  const early = await backup({ ...variables, SNAPSHOT_COPY: 'off' });
  const { name, copy } = await jsonOf<{ name: string; copy: Copied }>(['backup'], variables);
  t.match(copy, { copied: [{ name }, { name: early }], missing: 0 });
  await nextSecond();
  const broken = { ...variables, SNAPSHOT_COPY_AZURE_ACCOUNT_KEY: `${'k'.repeat(86)}==` };
  const failed = await runCommand(['backup', '--json'], broken);
  t.equal(failed.code, 3, failed.stderr);
  t.match(errorOf(failed).message, /is stored, but its second copy is incomplete: Azure refused the account key/);
  const { name: stored } = JSON.parse(failed.stdout) as { name: string };
  t.ok((await azurite.names('after')).includes(stored));
  const refused = await runCommand(['backup'], { ...variables, ...copyIn('elsewhere', azurite) });
  t.equal(refused.code, 2);
  t.match(errorOf(refused).message, /same endpoint and credential/);
  await nextSecond();
  await jsonOf(['backup', '--allow-same-account'], { ...variables, ...copyIn('elsewhere', azurite) });
  t.equal((await azurite.names('elsewhere')).length, (await azurite.names('after')).length);
});

t.test('a restore whose first place fails names the second', async (t) => {
  const variables = places('lost');
  await backup(variables);
  await jsonOf(['copy'], variables);
  await azurite.container('lost').delete();
  const plan = ['restore', '--plan', '--force', '--layout', 'kubeadm'];
  const failed = await runCommand(plan, variables);
  t.equal(failed.code, 12);
  t.match(errorOf(failed).hint, /To use the second place, add --from-copy\.$/);
  const document = await jsonOf<{ fromCopy: boolean; steps: { run: string[] }[] }>([...plan, '--from-copy'], variables);
  t.equal(document.fromCopy, true);
  const steps = document.steps.flatMap(({ run }) => run);
  t.ok(
    steps.some((step) => /restore --from-plan .* --from-copy/.test(step)),
    steps.join('\n'),
  );
});

t.test('a later form replaces the earlier one in the second place, too', async (t) => {
  const variables = places('rewrapped');
  const [oldKey, newKey] = [join(dir, 'old.txt'), join(dir, 'new.txt')];
  const [old, renewed] = await Promise.all([writeIdentity(oldKey), writeIdentity(newKey)]);
  const encrypted = { ...variables, SNAPSHOT_ENCRYPTION_RECIPIENTS: old.recipient };
  const name = await backup(encrypted);
  await jsonOf(['rewrap', name, '--recipients', renewed.recipient, '--identity', oldKey], variables);
  await backup(encrypted);
  t.match(await jsonOf<Copied>(['copy'], variables), { missing: 0 });
  t.match(await jsonOf(['prune', '--from-copy'], { ...variables, SNAPSHOT_KEEP_LAST: '5' }), { removed: [name] });
});

t.test('doctor checks the second place as the first, and what it lacks', async (t) => {
  const variables = places('doctor');
  await backup(variables);
  const checksOf = async (env: Variables): Promise<Record<string, string>> => {
    const { stdout } = await runCommand(['doctor', '--json'], env);
    const { checks } = JSON.parse(stdout) as { checks: { check: string; state: string; finding: string }[] };
    const own = checks.filter(({ check }) => check.startsWith('cop'));
    return Object.fromEntries(own.map(({ check, state, finding }) => [check, `${state}: ${finding}`]));
  };
  t.match(await checksOf(variables), { 'copy: storage': /warn: Container doctor does not exist yet/ });
  await second.container('doctor').create();
  t.match(await checksOf(variables), { 'copy: write': /^ok/, copies: /^warn: The second place lacks 1 of 1 snapshot/ });
  await jsonOf(['copy'], variables);
  t.match(await checksOf(variables), {
    'copy: newest snapshot': /^ok/,
    copies: /^ok: The second place has all 1 snapshot/,
  });
  const wrongKey = { ...variables, SNAPSHOT_COPY_AZURE_ACCOUNT_KEY: `${'k'.repeat(86)}==` };
  t.match(await checksOf(wrongKey), { 'copy: storage': /^fail: Azure refused the account key/ });
});

import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { Azurite } from '../support/azurite.ts';
import { startBackupSite, writeIdentity } from '../support/backup-site.ts';
import { putSnapshot } from '../support/catalogue.ts';
import { jsonOf, runCommand } from '../support/command.ts';
import { FaultProxy, type FaultRule } from '../support/fault-proxy.ts';
import type { Variables } from '../support/process.ts';
import { nextSecond } from '../support/until.ts';
import { errorOf } from '../support/worker.ts';

interface Copied {
  readonly copied: readonly { readonly name: string; readonly size: number; readonly bundle: boolean }[];
  readonly marks: number;
  readonly present: number;
  readonly readBack: readonly string[];
  readonly disappeared: readonly string[];
  readonly problems: readonly { readonly name: string; readonly problem: string }[];
  readonly archived: readonly { readonly name: string; readonly place: string }[];
  readonly missing: number;
  readonly lagSeconds: number;
  readonly findings: readonly string[];
}

const { dir, azurite, cluster, variablesOf } = await startBackupSite(t, 'copy');
await cluster.fill(20, 1000);
const second = await Azurite.start(join(dir, 'second'));
t.teardown(async () => second.stop());

function places(container: string): Variables {
  return { ...variablesOf(container), ...second.copyVariables(container) };
}

async function backup(variables: Variables): Promise<string> {
  const { name } = await jsonOf<{ name: string }>(['backup'], variables);
  await nextSecond();
  return name;
}

const MINUTE = 60_000;
/** Bytes: of a blob in one block, and of one in several. */
const [SMALL, LARGE] = [4096 + 32, 6 * 2 ** 20];

interface Life {
  readonly size?: number;
  readonly revision?: number;
}

/** Stores a blob in the first place that looks like a snapshot of so many minutes ago, and whose bytes match its record. */
async function put(container: string, minutes: number, { size = SMALL, revision = 1000 }: Life = {}): Promise<string> {
  const client = azurite.container(container);
  await client.createIfNotExists();
  const sha256 = createHash('sha256').update(Buffer.alloc(size)).digest('hex');
  const metadata = { sha256, totalsize: String(size - 32), revision: String(revision) };
  return putSnapshot(client, new Date(Date.now() - minutes * MINUTE), { size, metadata });
}

async function putEach(container: string, ...minutes: number[]): Promise<string[]> {
  const names: string[] = [];
  for (const each of minutes) names.push(await put(container, each));
  return names;
}

const COPIES = /(^|\/)etcd-snapshot-copies\//;

/** The names of the second place without the notes of what was read back. */
async function copiesIn(container: string): Promise<string[]> {
  return (await second.names(container)).filter((name) => !COPIES.test(name));
}

/** Bytes and metadata of all blobs but those notes; everything of a mark is in its metadata. */
async function contentOf(store: Azurite, container: string): Promise<Record<string, unknown>> {
  const client = store.container(container);
  const names = (await store.names(container)).filter((name) => !COPIES.test(name));
  const entries = names.map(async (name) => {
    const blob = client.getBlobClient(name);
    const { metadata } = await blob.getProperties();
    const bytes = name.includes('etcd-snapshot-marks/') ? '' : (await blob.downloadToBuffer()).toString('base64');
    return [name, { metadata, bytes }] as const;
  });
  return Object.fromEntries(await Promise.all(entries));
}

/** Copies a blob with its metadata as a run does that is killed before it reads it back. */
async function copyUnread(container: string, name: string): Promise<void> {
  const from = azurite.container(container).getBlobClient(name);
  const [{ metadata = {} }, bytes] = [await from.getProperties(), await from.downloadToBuffer()];
  await second.container(container).createIfNotExists();
  await second.container(container).getBlockBlobClient(name).upload(bytes, bytes.length, { metadata });
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
  t.match(done, { marks: 1, present: 0, readBack: [], disappeared: [], problems: [], missing: 0, lagSeconds: 0 });
  const { 'notes.txt': _, ...expected } = await contentOf(azurite, 'kinds');
  t.strictSame(
    await contentOf(second, 'kinds'),
    Object.fromEntries(Object.entries(expected).map(([name, blob]) => [`copies/${name}`, blob])),
  );
  const names = await second.names('kinds');
  t.match(await jsonOf<Copied>(['copy'], variables), { copied: [], marks: 0, present: 2, readBack: [] });
  t.strictSame(await second.names('kinds'), names, 'a second run stores nothing');

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
  for (const layout of ['k3s', 'rke2']) {
    const [plan, file] = [join(dir, `${layout}.json`), join(dir, `${layout}.db`)];
    const planned = ['restore', plain, '--plan', '--from-copy', '--layout', layout, '--force', '-o', plan];
    const { code, stdout, stderr } = await runCommand(planned, variables);
    t.equal(code, 0, stderr);
    const step = /etcd-snapshot (restore --from-plan \S+ --download \S+.*)/.exec(stdout)?.[1]?.split(' ') ?? [];
    t.ok(step.includes('--from-copy'), stdout);
    const words = step.map((word, index) => (step[index - 1] === '--download' ? file : word));
    await jsonOf(words, variables);
    t.equal((await readFile(file)).length > 10_000, true, `the step of ${layout}`);
  }
  t.match(await jsonOf(['drill', '--from-copy'], opened), { ok: true, name: `copies/${sealed}` });
  t.match(await jsonOf(['prune', '--dry-run', '--from-copy'], { ...variables, SNAPSHOT_KEEP_LAST: '1' }), {
    decisions: [{ name: `copies/${sealed}` }, { name: `copies/${plain}`, keep: true, reasons: /kept: before 1.36/ }],
  });

  const bundle = names.find((name) => name.includes('.bundle.')) ?? '';
  await second.container('kinds').deleteBlob(bundle);
  t.match(await jsonOf<Copied>(['copy'], variables), { copied: [{ name: sealed, bundle: true }], missing: 0 });
  t.match(await jsonOf<Copied>(['copy'], variables), { copied: [], present: 2, readBack: [] });
});

t.test('only named snapshots are copied, and the rest counts as missing', async (t) => {
  const variables = places('named');
  const [old = '', recent] = await putEach('named', 9, 0);
  const done = await jsonOf<Copied>(['copy', old], variables);
  t.match(done, { copied: [{ name: old }], missing: 1 });
  t.ok(done.lagSeconds > 0 && done.lagSeconds < 600, String(done.lagSeconds));
  t.equal((await runCommand(['copy', 'kubernetes-etcd-snapshot_20200101_000000.db'], variables)).code, 13);
  t.equal((await runCommand(['copy', './snapshot.db'], variables)).code, 2);
  await azurite.container('named').getBlockBlobClient('x.db').upload('x', 1);
  t.equal((await runCommand(['copy', 'x.db'], variables)).code, 11);
  t.match(await jsonOf<Copied>(['copy'], variables), { copied: [{ name: recent }], present: 1, missing: 0 });
});

t.test('a copy that was not read back is missing until the next run reads it back', async (t) => {
  const variables = places('unread');
  const [one = '', two = '', three = ''] = await putEach('unread', 30, 20, 10);
  await jsonOf(['copy', one], variables);
  await copyUnread('unread', two);
  await copyUnread('unread', three);
  const pruned = { ...variables, SNAPSHOT_KEEP_LAST: '1' };
  const unread = { keep: true, reasons: ['not read back by copy'] };
  t.match(await jsonOf(['prune', '--from-copy'], pruned), {
    removed: [],
    decisions: [
      { name: three, ...unread },
      { name: two, ...unread },
      { name: one, keep: true, reasons: ['newest', 'last 1'] },
    ],
  });
  t.match((await runCommand(['list', '--from-copy'], variables)).stdout, '2 copied snapshots not read back yet');
  t.match(await jsonOf<Copied>(['copy', one], variables), { copied: [], present: 1, readBack: [], missing: 2 });
  await corrupt(second, 'unread', two);
  const { code, stdout, stderr } = await runCommand(['copy', '--json'], variables);
  t.equal(code, 11, stderr);
  t.match(JSON.parse(stdout), {
    ...{ copied: [], present: 1, readBack: [three], missing: 1, lagSeconds: 0 },
    problems: [{ name: two, problem: 'is not what the second place has under its name' }],
  });
  await second.container('unread').deleteBlob(two);
  t.match(await jsonOf<Copied>(['copy'], variables), { copied: [{ name: two }], present: 2, missing: 0 });

  // What is stored later under the name of a copy was not read back, whatever was noted of the one before.
  await second.container('unread').deleteBlob(two);
  await copyUnread('unread', two);
  t.match(await jsonOf<Copied>(['copy'], variables), { copied: [], present: 2, readBack: [two], missing: 0 });
  const notes = (await second.names('unread')).filter((name) => COPIES.test(name));
  t.equal(notes.length, 4);
  await jsonOf(['prune', '--from-copy'], pruned);
  t.equal((await second.names('unread')).filter((name) => COPIES.test(name)).length, 3, 'of blobs that were there');
  await jsonOf(['prune', '--from-copy'], pruned);
  t.equal((await second.names('unread')).filter((name) => COPIES.test(name)).length, 1, 'of the one that is there');
});

t.test('retention decides in the second place as in the first, whatever was copied when', async (t) => {
  const variables = places('order');
  const former = [await put('order', 300, { revision: 9000 }), await put('order', 240, { revision: 9100 })];
  await nextSecond();
  const old = await put('order', 180, { revision: 50 });
  await put('order', 120, { revision: 60 });
  await put('order', -4, { revision: 70 });
  await nextSecond();
  const newest = await put('order', 0, { revision: 80 });
  await nextSecond();
  t.equal((await jsonOf<Copied>(['copy'], variables)).copied.length, 6);

  for (const rules of [{ SNAPSHOT_KEEP_LAST: '1' }, { SNAPSHOT_KEEP_LAST: '3' }, { SNAPSHOT_KEEP_WITHIN: '1h' }]) {
    const decisionsOf = async (...from: string[]): Promise<{ name: string; keep: boolean }[]> =>
      (
        await jsonOf<{ decisions: { name: string; keep: boolean }[] }>(['prune', '--dry-run', ...from], {
          ...variables,
          ...rules,
        })
      ).decisions;
    const decisions = await decisionsOf();
    t.strictSame(await decisionsOf('--from-copy'), decisions, JSON.stringify(rules));
    for (const name of former)
      t.match(
        decisions.find((one) => one.name === name),
        { keep: true },
        'as in the first',
      );
  }
  const soon = new Date(Date.now() + 60 * MINUTE).toISOString();
  const newestIn = async (...from: string[]): Promise<string> =>
    (await jsonOf<{ name: string }>(['keep', '--taken-before', soon, ...from], variables)).name;
  t.strictSame(
    [await newestIn(), await newestIn('--from-copy')],
    [newest, newest],
    'not that of the host that is ahead',
  );

  // Everybody who can write can say that an original was stored earlier.
  const container = second.container('order');
  const { etag = '' } = await container.getBlobClient(newest).getProperties();
  const forge = async (id: string, fields: Record<string, string>): Promise<void> => {
    const metadata = { snapshot: newest, etag: etag.replaceAll('"', ''), originalstoredat: new Date(0).toISOString() };
    const blob = container.getBlockBlobClient(`etcd-snapshot-copies/${id}.json`);
    await blob.upload('', 0, { metadata: { ...metadata, ...fields } });
  };
  await forge('a', {});
  await forge('b', { originalstoredat: 'yesterday' });
  await forge('c', { etag: '0x0', originalstoredat: new Date(Date.now() + 9 * MINUTE).toISOString() });
  t.equal(await newestIn('--from-copy'), newest);

  const pruned = { ...variables, SNAPSHOT_KEEP_LAST: '1' };
  await jsonOf(['prune', '--from-copy'], pruned);
  await jsonOf(['prune'], pruned);
  const snapshotsIn = async (store: Azurite): Promise<string[]> =>
    (await store.names('order')).filter((name) => name.startsWith('kube'));
  t.strictSame(await snapshotsIn(second), await snapshotsIn(azurite));
  t.notOk((await snapshotsIn(second)).includes(old));
});

t.test('a mark can be made for the second place alone', async (t) => {
  const variables = { ...places('marks'), SNAPSHOT_KEEP_LAST: '1' };
  const [old = '', recent = ''] = await putEach('marks', 10, 0);
  await jsonOf(['copy'], variables);
  t.match(await jsonOf(['keep', old, '--note', 'here', '--from-copy'], variables), {
    name: old,
    kept: { note: 'here' },
  });
  const decide = async (...from: string[]): Promise<unknown> => jsonOf(['prune', '--dry-run', ...from], variables);
  t.match(await decide('--from-copy'), { decisions: [{ name: recent }, { name: old, reasons: ['kept: here'] }] });
  t.match(await decide(), { decisions: [{ name: recent }, { name: old, keep: false }] });
  // The service tells its time in seconds.
  await nextSecond();
  await jsonOf(['keep', old, '--note', 'both'], variables);
  await jsonOf(['copy'], variables);
  t.match(await decide('--from-copy'), { decisions: [{ name: recent }, { name: old, reasons: ['kept: both'] }] });
  t.match(await jsonOf(['release', old, '--from-copy'], variables), { released: true });
  await jsonOf(['copy'], variables);
  t.match(await decide('--from-copy'), { decisions: [{ name: recent }, { name: old, keep: false }] });
  t.match(await decide(), { decisions: [{ name: recent }, { name: old, keep: true }] });
  const { code, stderr } = await runCommand(['keep', 'x.db', '--from-copy'], variables);
  t.equal(code, 13);
  t.match(errorOf({ stderr }).hint, /run: etcd-snapshot list --from-copy$/);
});

t.test('what does not match its record is not copied, after everything else was', async (t) => {
  const variables = places('corrupt');
  const [first = '', middle = '', last = ''] = await putEach('corrupt', 3, 2, 1);
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
  t.strictSame(await copiesIn('corrupt'), [first], 'nothing else is visible');
});

t.test('something else under a name of the second place is an alarm, and stays', async (t) => {
  const variables = places('conflict');
  const [one = '', two = '', three = '', four] = await putEach('conflict', 4, 3, 2, 1);
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

t.test('what is in the archive tier is skipped and named, and everything else is copied', async (t) => {
  const variables = places('archived');
  const [oldest = '', old = '', middle = '', unread = '', newest = ''] = await putEach('archived', 9, 7, 5, 3, 1);
  const first = azurite.container('archived');
  await jsonOf(['keep', old, '--note', 'before 1.36'], variables);
  const failed = { at: new Date().toISOString(), what: 'failed', command: 'backup', exitcode: '10' };
  await first.getBlockBlobClient('etcd-snapshot-marks/failed-1.json').upload('', 0, { metadata: failed });
  const mark = (await azurite.names('archived')).find((name) => /marks\/(?!failed)/.test(name)) ?? '';
  for (const name of [mark, middle, newest]) await first.getBlobClient(name).setAccessTier('Archive');
  await copyUnread('archived', unread);
  await second.container('archived').getBlobClient(unread).setAccessTier('Archive');

  const run = async (expected: number): Promise<{ done: Copied; error: ReturnType<typeof errorOf> }> => {
    const { code, stdout, stderr } = await runCommand(['copy', '--json'], variables);
    t.equal(code, expected, stderr);
    return { done: JSON.parse(stdout) as Copied, error: errorOf({ stderr }) };
  };
  const { done, error } = await run(12);
  const archived = [
    { name: newest, place: 'first' },
    { name: unread, place: 'second' },
    { name: middle, place: 'first' },
  ];
  t.match(done, { copied: [{ name: old }, { name: oldest }], marks: 1, problems: [], archived, missing: 3 });
  for (const { name, place } of archived)
    t.match(error.message, `${name} is in the archive tier of the ${place} place`);
  t.match(error.hint, /restore NAME --rehydrate .*set-tier/);
  const marks = (await second.names('archived')).filter((name) => name.includes('marks/'));
  t.strictSame(marks, [mark], 'not that of a failed run');
  const kept = await jsonOf<{ name: string; kept: object }[]>(['list', '--from-copy'], variables);
  t.match(
    kept.find(({ name }) => name === old),
    { kept: { note: 'before 1.36' } },
  );

  await second.container('archived').deleteBlob(oldest);
  await corrupt(azurite, 'archived', oldest);
  const both = (await run(11)).error;
  t.match(both.message, `${oldest} does not match its record; ${newest} is in the archive tier`);
  t.match(both.hint, /find out who changed the blob.*restore NAME --rehydrate/);

  await first.deleteBlob(oldest);
  for (const name of [middle, newest]) await first.getBlobClient(name).setAccessTier('Hot');
  await second.container('archived').getBlobClient(unread).setAccessTier('Hot');
  t.match(await jsonOf<Copied>(['copy'], variables), {
    ...{ copied: [{ name: newest }, { name: middle }], readBack: [unread], archived: [], missing: 0 },
  });
});

t.test('a bundle in the archive tier is named, and its snapshot is copied', async (t) => {
  const variables = places('archived-bundle');
  const { recipient } = await writeIdentity(join(dir, 'archived.txt'));
  const file = join(dir, 'archived.pem');
  await writeFile(file, 'a key');
  const name = await backup({ ...variables, SNAPSHOT_ENCRYPTION_RECIPIENTS: recipient, SNAPSHOT_BUNDLE: file });
  const bundle = (await azurite.names('archived-bundle')).find((each) => each.includes('.bundle.')) ?? '';
  const blob = azurite.container('archived-bundle').getBlobClient(bundle);
  await blob.setAccessTier('Archive');
  const { code, stdout, stderr } = await runCommand(['copy', '--json'], variables);
  t.equal(code, 12, stderr);
  t.match(JSON.parse(stdout), { copied: [{ name, bundle: false }], archived: [{ name: bundle, place: 'first' }] });
  await blob.setAccessTier('Hot');
  t.match(await jsonOf<Copied>(['copy'], variables), { copied: [{ name, bundle: true }], missing: 0 });
});

t.test('a snapshot that disappears during the run is reported and skipped', async (t) => {
  const variables = places('disappears');
  const one = await put('disappears', 3, { size: LARGE });
  const [two = '', three] = await putEach('disappears', 2, 1);
  const container = azurite.container('disappears');
  const url = await proxied(t, azurite, async ({ method, url: { pathname }, from }): Promise<'pass'> => {
    if (method === 'HEAD' && pathname.endsWith(two)) await container.deleteBlob(two);
    if (method === 'GET' && pathname.endsWith(one) && from > 0) await container.getBlobClient(one).deleteIfExists();
    return 'pass';
  });
  const done = await jsonOf<Copied>(['copy'], { ...variables, SNAPSHOT_AZURE_BLOB_ENDPOINT: url });
  t.match(done, { copied: [{ name: three }], disappeared: [two, one], problems: [], missing: 0 });
  t.match(done.findings, [/was deleted or replaced/, /was deleted or replaced/]);
  t.strictSame(await copiesIn('disappears'), [three]);
});

t.test('a copy that reads back differently is removed, and a lost answer does no harm', async (t) => {
  const variables = places('read-back');
  const name = await put('read-back', 1, { size: LARGE });
  await second.container('read-back').create();
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
  const [one = '', two] = await putEach('fails', 2, 1);
  const url = await proxied(t, second, ({ method, url: { pathname } }) =>
    method === 'PUT' && pathname.endsWith(one) ? { status: 403, code: 'AuthorizationPermissionMismatch' } : 'pass',
  );
  const failed = await runCommand(['copy', '--json'], { ...variables, SNAPSHOT_COPY_AZURE_BLOB_ENDPOINT: url });
  t.equal(failed.code, 12, failed.stderr);
  t.match(JSON.parse(failed.stdout), { copied: [{ name: two }], missing: 1, error: { code: 12 } });
  await corrupt(azurite, 'fails', await put('fails', 0));
  const worse = await runCommand(['copy'], { ...variables, SNAPSHOT_COPY_AZURE_BLOB_ENDPOINT: url });
  t.equal(worse.code, 11, 'what differs counts more');
  t.match(errorOf(worse).message, /does not match its record; .*AuthorizationPermissionMismatch/);
  const wrongKey = { ...variables, SNAPSHOT_COPY_AZURE_ACCOUNT_KEY: `${'k'.repeat(86)}==` };
  const refused = await runCommand(['copy'], wrongKey);
  t.equal(refused.code, 12);
  t.match(errorOf(refused).hint, /SNAPSHOT_COPY_AZURE_ACCOUNT_KEY/);
  const missing = await runCommand(['list', '--from-copy'], { ...variables, ...second.copyVariables('no-such') });
  t.match(errorOf(missing).hint, /Check SNAPSHOT_COPY_AZURE_CONTAINER_NAME; the first `etcd-snapshot copy` creates/);
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
  const refused = await runCommand(['backup'], { ...variables, ...azurite.copyVariables('elsewhere') });
  t.equal(refused.code, 2);
  t.match(errorOf(refused).message, /same endpoint and credential/);
  await nextSecond();
  await jsonOf(['backup', '--allow-same-account'], { ...variables, ...azurite.copyVariables('elsewhere') });
  const copies = (await azurite.names('elsewhere')).filter((each) => !COPIES.test(each));
  t.equal(copies.length, (await azurite.names('after')).length);
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
  const old = await backup(variables);
  await put('doctor', 1);
  const checksOf = async (env: Variables): Promise<Record<string, string>> => {
    const { stdout } = await runCommand(['doctor', '--json'], env);
    const { checks } = JSON.parse(stdout) as { checks: { check: string; state: string; finding: string }[] };
    const own = checks.filter(({ check }) => check.startsWith('cop'));
    return Object.fromEntries(own.map(({ check, state, finding }) => [check, `${state}: ${finding}`]));
  };
  t.match(await checksOf(variables), { 'copy: storage': /warn: Container doctor does not exist yet/ });
  await copyUnread('doctor', old);
  t.match(await checksOf(variables), {
    'copy: write': /^ok/,
    copies: /^warn: The second place lacks 2 of 2 snapshots/,
  });
  await jsonOf(['copy'], variables);
  t.match(await checksOf(variables), {
    'copy: newest snapshot': /^ok/,
    copies: /^ok: The second place has all 2 snapshots/,
  });
  const wrongKey = { ...variables, SNAPSHOT_COPY_AZURE_ACCOUNT_KEY: `${'k'.repeat(86)}==` };
  t.match(await checksOf(wrongKey), { 'copy: storage': /^fail: Azure refused the account key/ });
});

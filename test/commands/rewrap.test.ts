import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { startBackupSite, writeIdentity } from '../support/backup-site.ts';
import { jsonOf, runCommand } from '../support/command.ts';
import { FaultProxy, type Seen } from '../support/fault-proxy.ts';
import { nextSecond } from '../support/until.ts';
import { errorOf } from '../support/worker.ts';

interface Result {
  readonly name: string;
  readonly sha256: string;
}

interface Rewrapped {
  readonly recipients: readonly string[];
  readonly rewrapped: readonly { readonly from: string; readonly name: string; readonly alreadyDone: boolean }[];
}

interface Listed {
  readonly name: string;
  readonly recipients?: readonly string[];
  readonly uploadId: string;
  readonly takenAt: string;
  readonly signature: { readonly state: string };
  readonly retention: { readonly keep: boolean; readonly reasons: readonly string[] } | null;
}

const { dir, azurite, cluster, variablesOf } = await startBackupSite(t, 'rewrap');
await cluster.fill(50, 500);
const [oldKey, newKey, wrongKey] = [join(dir, 'old.txt'), join(dir, 'new.txt'), join(dir, 'wrong.txt')];
const [old, renewed, stranger] = await Promise.all([
  writeIdentity(oldKey),
  writeIdentity(newKey),
  writeIdentity(wrongKey),
]);
const ENCRYPTED = { SNAPSHOT_ENCRYPTION_RECIPIENTS: old.recipient };
const TO_NEW = ['--recipients', renewed.recipient, '--identity', oldKey];

/** Without the events. */
async function snapshotsIn(container: string): Promise<string[]> {
  return (await azurite.names(container)).filter((name) => !name.startsWith('etcd-snapshot-'));
}

/** As if the run that stored a form had been killed before it was read back. */
async function forgetForms(container: string): Promise<void> {
  const events = (await azurite.names(container)).filter((name) => name.startsWith('etcd-snapshot-forms/'));
  for (const name of events) await azurite.container(container).deleteBlob(name);
}

t.test('a new form for other recipients, which retention puts in the place of the old one', async (t) => {
  const variables = variablesOf('rotated');
  const first = await jsonOf<Result>(['backup'], { ...variables, ...ENCRYPTED, SNAPSHOT_COMPRESSION: 'zstd' });
  await nextSecond();
  const second = await jsonOf<Result>(['backup'], variables);
  const blob = azurite.container('rotated').getBlobClient(first.name);
  const { etag } = await blob.getProperties();

  const done = await jsonOf<Rewrapped>(['rewrap', first.name, second.name, ...TO_NEW], variables);
  const [one, two] = [first.name.replace('.db', '-r2.db'), `${second.name.replace('.db', '-r2.db')}.age`];
  t.match(done, {
    recipients: [renewed.fingerprint],
    rewrapped: [
      { from: first.name, name: one, alreadyDone: false },
      { from: second.name, name: two, alreadyDone: false },
    ],
  });
  t.equal((await blob.getProperties()).etag, etag, 'the old blob is as it was');
  t.match(await jsonOf(['verify', one, '--identity', newKey], variables), {
    ok: true,
    checked: 'content',
    sha256: first.sha256,
    recipients: [renewed.fingerprint],
  });
  t.equal((await runCommand(['verify', one, '--identity', oldKey], variables)).code, 2);
  t.match(await jsonOf(['drill', '--identity', newKey], variables), { ok: true, name: two }, 'it is the newest');
  const again = await jsonOf<Rewrapped>(['rewrap', first.name, ...TO_NEW], variables);
  t.match(again.rewrapped, [{ name: one, alreadyDone: true }]);
  const back = ['rewrap', one, '--recipients', `${old.recipient},${renewed.recipient}`, '--identity', newKey];
  const third = first.name.replace('.db', '-r3.db');
  t.match(await jsonOf<Rewrapped>(back, variables), { rewrapped: [{ from: one, name: third }] });

  const listed = await jsonOf<Listed[]>(['list'], { ...variables, SNAPSHOT_KEEP_LAST: '2' });
  t.equal(new Set(listed.map(({ uploadId }) => uploadId)).size, 5, 'none is a copy');
  const reasons = Object.fromEntries(listed.map(({ name, retention }) => [name, retention?.reasons.join()]));
  t.match(reasons, {
    [two]: /last 2/,
    [third]: /last 2/,
    [second.name]: 'newest',
    [first.name]: `superseded by ${third}`,
    [one]: `superseded by ${third}`,
  });
  const { removed } = await jsonOf<{ removed: string[] }>(['prune'], { ...variables, SNAPSHOT_KEEP_LAST: '2' });
  t.strictSame(removed.toSorted(), [first.name, one].toSorted());
  await nextSecond();
  const { retention } = await jsonOf<{ retention: { removed: string[] } }>(['backup'], {
    ...variables,
    SNAPSHOT_KEEP_LAST: '3',
  });
  t.strictSame(retention.removed, [second.name], 'all forms of the newest stay until the next backup');
});

t.test('a form for the same recipients is stored again when a later one is for others', async (t) => {
  const variables = variablesOf('back-again');
  const { name } = await jsonOf<Result>(['backup'], { ...variables, ...ENCRYPTED });
  await jsonOf(['rewrap', name, ...TO_NEW], variables);
  const back = ['rewrap', name, '--recipients', old.recipient, '--identity', oldKey];
  const form = (r: number): string => name.replace('.db', `-r${r}.db`);
  t.match(await jsonOf<Rewrapped>(back, variables), { rewrapped: [{ name: form(3), alreadyDone: false }] });
  t.match(await jsonOf<Rewrapped>(back, variables), { rewrapped: [{ name: form(3), alreadyDone: true }] });
  await nextSecond();
  await jsonOf(['backup'], { ...variables, ...ENCRYPTED, SNAPSHOT_KEEP_LAST: '2' });
  t.notOk((await azurite.names('back-again')).includes(name));
  t.match(await jsonOf(['verify', form(3), '--identity', oldKey], variables), { ok: true }, 'it is the one that stays');
});

t.test('the bundle of a snapshot goes with it', async (t) => {
  const variables = variablesOf('bundled');
  const file = join(dir, 'key.pem');
  await writeFile(file, 'a key');
  const { name } = await jsonOf<Result>(['backup'], { ...variables, ...ENCRYPTED, SNAPSHOT_BUNDLE: file });
  const { rewrapped } = await jsonOf<Rewrapped>(['rewrap', name, ...TO_NEW], variables);
  const renewedName = rewrapped[0]?.name ?? '';
  t.equal((await snapshotsIn('bundled')).length, 4);
  await nextSecond();
  const later = await jsonOf<Result>(['backup'], { ...variables, SNAPSHOT_KEEP_LAST: '2' });
  const left = [renewedName, renewedName.replace('.db.age', '.bundle.tar.zst.age'), later.name];
  t.strictSame((await snapshotsIn('bundled')).toSorted(), left.toSorted(), 'the old one is removed with its snapshot');
  const out = join(dir, 'extracted');
  await jsonOf(['bundle', renewedName, '--extract', out, '--identity', newKey], variables);
  t.equal(await readFile(join(out, file), 'utf8'), 'a key');
});

t.test('a form replaces another one only after it was read back', async (t) => {
  const variables = variablesOf('unread');
  const { name } = await jsonOf<Result>(['backup'], { ...variables, ...ENCRYPTED });
  const { rewrapped } = await jsonOf<Rewrapped>(['rewrap', name, ...TO_NEW], variables);
  const form = rewrapped[0]?.name ?? '';
  await forgetForms('unread');
  await nextSecond();
  const last = await jsonOf<Result>(['backup'], { ...variables, ...ENCRYPTED });
  const keep = { ...variables, SNAPSHOT_KEEP_LAST: '2' };
  t.match(await jsonOf(['prune'], keep), {
    removed: [],
    decisions: [
      { name: last.name, reasons: ['newest', 'last 2'] },
      { name: form, keep: true, reasons: ['not read back by rewrap'] },
      { name, keep: true, reasons: ['last 2'] },
    ],
  });
  const again = await jsonOf<Rewrapped>(['rewrap', name, ...TO_NEW], variables);
  t.match(again.rewrapped, [{ name: form, alreadyDone: true }]);
  t.match(await jsonOf(['prune'], keep), { removed: [name] });
});

t.test('a damaged form is not taken for done, and replaces nothing', async (t) => {
  const variables = variablesOf('damaged');
  const { name } = await jsonOf<Result>(['backup'], { ...variables, ...ENCRYPTED });
  await jsonOf(['rewrap', name, ...TO_NEW], variables);
  const form = (r: number): string => name.replace('.db', `-r${r}.db`);
  const blob = azurite.container('damaged').getBlockBlobClient(form(2));
  const bytes = await blob.downloadToBuffer();
  const { metadata = {} } = await blob.getProperties();
  bytes[bytes.length - 30] = (bytes[bytes.length - 30] ?? 0) ^ 1;
  await blob.upload(bytes, bytes.length, { metadata });
  const again = await jsonOf<Rewrapped & { findings: string[] }>(['rewrap', name, ...TO_NEW], variables);
  t.match(again.rewrapped, [{ name: form(3), alreadyDone: false }]);
  t.match(again.findings.join(), `${form(2)} is damaged`);
  await nextSecond();
  await jsonOf(['backup'], { ...variables, ...ENCRYPTED, SNAPSHOT_KEEP_LAST: '2' });
  t.match(await jsonOf(['verify', form(3), '--identity', newKey], variables), { checked: 'content' });
  t.strictSame((await snapshotsIn('damaged')).includes(name), false);
});

t.test('a form without its bundle replaces none that has it', async (t) => {
  const variables = variablesOf('without-bundle');
  const file = join(dir, 'only.pem');
  await writeFile(file, 'a key');
  const { name } = await jsonOf<Result>(['backup'], { ...variables, ...ENCRYPTED, SNAPSHOT_BUNDLE: file });
  const first = (await jsonOf<Rewrapped>(['rewrap', name, ...TO_NEW], variables)).rewrapped[0]?.name ?? '';
  const container = azurite.container('without-bundle');
  await container.deleteBlob(first.replace('.db.age', '.bundle.tar.zst.age'));
  await nextSecond();
  await jsonOf(['backup'], { ...variables, ...ENCRYPTED });
  const keep = { ...variables, SNAPSHOT_KEEP_LAST: '5' };
  t.match(await jsonOf(['prune'], keep), { removed: [] });
  const { rewrapped } = await jsonOf<Rewrapped>(['rewrap', name, ...TO_NEW], variables);
  t.match(rewrapped, [{ name: name.replace('.db', '-r3.db'), alreadyDone: false }]);
  const pruned = await jsonOf<{ removed: string[] }>(['prune'], keep);
  t.strictSame(pruned.removed.toSorted(), [first, name].toSorted());
  await container.deleteBlob(name.replace('.db.age', '-r3.bundle.tar.zst.age'));
  const lost = ['rewrap', name.replace('.db', '-r3.db'), '--recipients', stranger.recipient, '--identity', newKey];
  const without = await jsonOf<Rewrapped & { findings: string[] }>(lost, variables);
  t.match(without.findings.join(), 'its new form has none');
});

t.test('what is wrong with one snapshot does not stop the others', async (t) => {
  const variables = variablesOf('one-corrupt');
  const names: string[] = [];
  for (let i = 0; i < 3; i++) {
    names.push((await jsonOf<Result>(['backup'], { ...variables, ...ENCRYPTED })).name);
    await nextSecond();
  }
  const blob = azurite.container('one-corrupt').getBlockBlobClient(names[1] ?? '');
  const bytes = await blob.downloadToBuffer();
  const { metadata = {} } = await blob.getProperties();
  bytes[bytes.length - 30] = (bytes[bytes.length - 30] ?? 0) ^ 1;
  await blob.upload(bytes, bytes.length, { metadata });
  const result = await jsonOf<Rewrapped & { findings: string[] }>(['rewrap', ...names, ...TO_NEW], variables, 11);
  t.match(
    result.rewrapped.map(({ from }) => from),
    [names[0], names[2]],
  );
  t.match(result.findings.join(), '1 of 3 snapshots was not rewrapped');
});

t.test('what was done before a failure is said', async (t) => {
  const variables = variablesOf('half-done');
  const one = await jsonOf<Result>(['backup'], { ...variables, ...ENCRYPTED });
  await nextSecond();
  const two = await jsonOf<Result>(['backup'], { ...variables, ...ENCRYPTED });
  const second = two.name.replace('.db', '-r2.db');
  const proxy = await FaultProxy.start(azurite.url, ({ method, url }) =>
    method === 'PUT' && url.pathname.includes(second) ? { status: 403, code: 'AuthorizationFailure' } : 'pass',
  );
  t.teardown(async () => proxy.stop());
  const half = await runCommand(['rewrap', one.name, two.name, '--json', ...TO_NEW], {
    ...variables,
    SNAPSHOT_AZURE_BLOB_ENDPOINT: proxy.url,
  });
  t.equal(half.code, 12, half.stderr);
  t.match(JSON.parse(half.stdout), { rewrapped: [{ from: one.name, alreadyDone: false }] });
  t.match(await jsonOf(['rewrap', one.name, two.name, ...TO_NEW], variables), {
    rewrapped: [{ alreadyDone: true }, { name: second, alreadyDone: false }],
  });
});

t.test('a signed snapshot stays signed', async (t) => {
  const variables = variablesOf('signed');
  await jsonOf(['keygen', join(dir, 'keys')], {});
  const signing = { ...variables, SNAPSHOT_SIGNING_KEY_FILE: join(dir, 'keys', 'signing.pem') };
  const { name } = await jsonOf<Result>(['backup'], { ...signing, ...ENCRYPTED });
  const unsigned = await runCommand(['rewrap', name, ...TO_NEW], variables);
  t.equal(unsigned.code, 2);
  t.match(errorOf(unsigned).message, 'is signed');
  await jsonOf(['rewrap', name, ...TO_NEW], signing);
  const verifying = { ...signing, SNAPSHOT_VERIFICATION_KEYS_FILE: join(dir, 'keys', 'verification.pem') };
  const listed = await jsonOf<Listed[]>(['list'], verifying);
  t.strictSame(
    listed.map(({ signature }) => signature.state),
    ['valid', 'valid'],
  );
  await nextSecond();
  await jsonOf(['backup'], { ...verifying, ...ENCRYPTED });
  const pruned = await jsonOf<{ removed: string[]; findings: string[] }>(['prune'], {
    ...verifying,
    SNAPSHOT_KEEP_LAST: '5',
  });
  t.match(pruned, { removed: [name], findings: [] }, 'the old form is not missed');
});

t.test('forms that somebody else stored neither stop a new one nor take its name', async (t) => {
  const variables = variablesOf('planted');
  await jsonOf(['keygen', join(dir, 'planted')], {});
  const signing = { ...variables, SNAPSHOT_SIGNING_KEY_FILE: join(dir, 'planted', 'signing.pem') };
  const { name } = await jsonOf<Result>(['backup'], { ...signing, ...ENCRYPTED });
  const container = azurite.container('planted');
  const bytes = await container.getBlobClient(name).downloadToBuffer();
  const { signature: _, keyid: __, ...unsigned } = (await container.getBlobClient(name).getProperties()).metadata ?? {};
  const forged = { ...unsigned, uploadid: 'ab'.repeat(16), recipients: renewed.fingerprint };
  const put = async (form: number, metadata: Record<string, string>): Promise<void> => {
    const planted = container.getBlockBlobClient(name.replace('.db', `-r${form}.db`));
    await planted.upload(bytes, bytes.length, { metadata });
  };
  await put(2, {});
  await put(9999, {});
  await put(3, forged);
  const { rewrapped } = await jsonOf<Rewrapped>(['rewrap', name, ...TO_NEW], signing);
  t.match(rewrapped, [{ name: name.replace('.db', '-r4.db'), alreadyDone: false }]);
  t.match(await jsonOf(['verify', rewrapped[0]?.name ?? '', '--identity', newKey], variables), { checked: 'content' });
  await put(9998, { ...forged, uploadid: 'cd'.repeat(16), recipients: old.fingerprint });
  const full = await runCommand(['rewrap', name, '--recipients', stranger.recipient, '--identity', oldKey], signing);
  t.equal(full.code, 2, full.stderr);
  t.match(errorOf(full).message, 'no free name');
});

t.test(
  'what is not signed by a known key is signed with a warning, and what its record says is counted again',
  async (t) => {
    const variables = variablesOf('resigned');
    await jsonOf(['keygen', join(dir, 'resigned')], {});
    const { name } = await jsonOf<Result>(['backup'], variables);
    const blob = azurite.container('resigned').getBlobClient(name);
    const { metadata = {} } = await blob.getProperties();
    await blob.setMetadata({ ...metadata, revision: '999999', totalkeys: '1', livekeys: '1', hash: 'abc' });
    const signing = { ...variables, SNAPSHOT_SIGNING_KEY_FILE: join(dir, 'resigned', 'signing.pem') };
    const { rewrapped, findings } = await jsonOf<Rewrapped & { findings: string[] }>(
      ['rewrap', name, ...TO_NEW],
      signing,
    );
    t.ok(findings.some((finding) => /is unsigned, and its new form is signed by [0-9a-f]{16}\.$/.test(finding)));
    const verifying = { ...variables, SNAPSHOT_VERIFICATION_KEYS_FILE: join(dir, 'resigned', 'verification.pem') };
    const listed = await jsonOf<Listed[]>(['list'], verifying);
    const renewedForm = listed.find((each) => each.name === rewrapped[0]?.name);
    t.match(renewedForm, {
      signature: { state: 'valid' },
      revision: Number(metadata['revision']),
      totalKeys: Number(metadata['totalkeys']),
      liveKeys: Number(metadata['livekeys']),
      hash: metadata['hash'],
    });
  },
);

t.test('what cannot be rewrapped, and nothing is stored', async (t) => {
  const variables = variablesOf('refused');
  const { name } = await jsonOf<Result>(['backup'], { ...variables, ...ENCRYPTED });
  const container = azurite.container('refused');
  const copy = `other-${name}`;
  await container
    .getBlobClient(copy)
    .syncCopyFromURL(container.getBlobClient(name).url)
    .catch(async () => {
      const { metadata = {} } = await container.getBlobClient(name).getProperties();
      const bytes = await container.getBlobClient(name).downloadToBuffer();
      await container.getBlockBlobClient(copy).upload(bytes, bytes.length, { metadata });
    });
  const cases: [code: number, message: RegExp, args: string[]][] = [
    [2, /No recipients were given/, [name, '--identity', oldKey]],
    [
      2,
      /--recipients contains an entry that is not a recipient/,
      [name, '--recipients', 'age1x', '--identity', oldKey],
    ],
    [2, /no identity was given/, [name, '--recipients', renewed.recipient]],
    [2, /is encrypted for/, [name, '--recipients', renewed.recipient, '--identity', wrongKey]],
    [2, /is a file/, ['./x.db', ...TO_NEW]],
    [11, /does not count as a snapshot/, [copy, ...TO_NEW]],
    [13, /There is no snapshot/, [name.replace('2', '3'), ...TO_NEW]],
    [13, /There is no snapshot/, [name, name.replace('2', '3'), ...TO_NEW]],
    [2, /a path instead of a recipient/, [name, '--recipients', './new/recipient.txt', '--identity', oldKey]],
  ];
  for (const [code, message, args] of cases) {
    const finished = await runCommand(['rewrap', ...args], variables);
    t.equal(finished.code, code, finished.stderr);
    t.match(errorOf(finished).message, message);
  }
  const names = await azurite.names('refused');
  t.strictSame(names.toSorted(), [name, copy].toSorted(), 'all names are checked first');
  const isReadBack = ({ method, url }: Seen): boolean =>
    method === 'GET' && url.searchParams.get('comp') === null && url.pathname.includes('-r2');
  const proxy = await FaultProxy.start(azurite.url, (seen) => (isReadBack(seen) ? 'flip' : 'pass'));
  t.teardown(async () => proxy.stop());
  const flipped = await runCommand(['rewrap', name, ...TO_NEW], {
    ...variables,
    SNAPSHOT_AZURE_BLOB_ENDPOINT: proxy.url,
  });
  t.equal(flipped.code, 12, flipped.stderr);
  t.strictSame(await azurite.names('refused'), names, 'it was rolled back');
  const blob = container.getBlockBlobClient(name);
  const bytes = Buffer.from(await blob.downloadToBuffer());
  const { metadata = {} } = await blob.getProperties();
  bytes[bytes.length - 20] = (bytes[bytes.length - 20] ?? 0) ^ 1;
  await blob.upload(bytes, bytes.length, { metadata });
  t.equal((await runCommand(['rewrap', name, ...TO_NEW], variables)).code, 11, 'a corrupt one');
  t.strictSame(await azurite.names('refused'), names);
  t.notMatch(flipped.stderr, (await readFile(oldKey)).toString());
});

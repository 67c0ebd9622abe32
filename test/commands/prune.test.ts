import { once } from 'node:events';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { Azurite } from '../support/azurite.ts';
import { putHourly, putSnapshot } from '../support/catalogue.ts';
import { runCommand } from '../support/command.ts';
import { type Fault, FaultProxy, type Seen } from '../support/fault-proxy.ts';
import { type Variables, temporaryFolder } from '../support/process.ts';
import { nextSecond } from '../support/until.ts';
import { errorOf, startWorker } from '../support/worker.ts';

interface Result {
  readonly clusterId: string | null;
  readonly state: string;
  readonly kept: number;
  readonly removed: string[];
  readonly decisions: { name: string; keep: boolean; reasons: string[] }[];
  readonly findings: string[];
}

const DAY = 86_400_000;
/** Noon of yesterday: whole days before it have dates that a test can count. */
const NOON = new Date(Math.floor(Date.now() / DAY) * DAY - DAY / 2);

const dir = temporaryFolder('prune');
const azurite = await Azurite.start(join(dir, 'azurite'));
t.teardown(async () => azurite.stop());
let containers = 0;

function daysAgo(days: number): Date {
  return new Date(NOON.getTime() - days * DAY);
}

/** A container with a snapshot of each of these days before yesterday; names in the same order. */
async function fill(...days: number[]): Promise<{ container: string; names: string[]; variables: Variables }> {
  const container = `prune-${++containers}`;
  const client = azurite.container(container);
  await client.create();
  const names = await Promise.all(days.map(async (day) => putSnapshot(client, daysAgo(day))));
  return { container, names, variables: azurite.variables(container) };
}

async function prune(args: readonly string[], variables: Variables, code = 0): Promise<Result> {
  const finished = await runCommand(['prune', '--json', ...args], variables);
  if (finished.code !== code) throw new Error(`prune ended with ${finished.code}: ${finished.stderr}`);
  return JSON.parse(finished.stdout) as Result;
}

/** What a prune of so many snapshots by KEEP_LAST=2 does, when requests to delete end as the rule says. */
async function refused(
  t: Test,
  count: number,
  rule: (seen: Seen) => Fault,
  code = 0,
): Promise<Result & { names: string[]; stderr: string }> {
  const { names, variables } = await fill(...Array.from({ length: count }, (_, index) => index));
  const proxy = await FaultProxy.start(azurite.url, (seen) => (seen.method === 'DELETE' ? rule(seen) : 'pass'));
  t.teardown(async () => proxy.stop());
  const finished = await runCommand(['prune', '--json'], {
    ...variables,
    SNAPSHOT_AZURE_BLOB_ENDPOINT: proxy.url,
    SNAPSHOT_KEEP_LAST: '2',
  });
  t.equal(finished.code, code, finished.stderr);
  const { stderr } = finished;
  return { ...(JSON.parse(finished.stdout) as Result), names, stderr };
}

t.test('the table, the dry run, and the same decisions for real', async (t) => {
  const { container, variables } = await fill();
  const client = azurite.container(container);
  const prefix = 'kube';
  const names = await Promise.all([0, 1, 2, 3, 40].map(async (days) => putSnapshot(client, daysAgo(days), { prefix })));
  await client.getBlockBlobClient('notes.txt').upload('notes', 5);
  const other = await putSnapshot(client, daysAgo(50), { prefix, metadata: { clusterid: 'c0' } });
  const outside = await putSnapshot(client, daysAgo(60), { prefix: 'other/' });
  const elsewhere = await putSnapshot(client, daysAgo(-1), { prefix: 'kube-eu/' });
  const rules = { ...variables, SNAPSHOT_KEEP_DAILY: '2', SNAPSHOT_KEEP_MONTHLY: '9', SNAPSHOT_BLOB_PREFIX: prefix };

  const shown = await runCommand(['prune', '--dry-run'], rules);
  t.equal(shown.code, 0, shown.stderr);
  t.match(shown.stdout, new RegExp(`${names[0]} +\\w+  c1 +keep: newest, daily\\s+${day(0)},\\s+monthly`));
  t.match(shown.stdout, new RegExp(`${names[2]} .*remove: not kept by daily 2,\\s+monthly 9`));
  t.match(shown.stdout, new RegExp(`${other} .* c0 +keep: of another cluster`));
  t.match(shown.stdout, /Dry run: .* nothing was changed\./);
  t.match(shown.stdout, /This cluster is c1\. Snapshots of other clusters \(c0\) .*[^]*SNAPSHOT_PREVIOUS_CLUSTER_IDS/);
  t.notMatch(shown.stdout, /notes|other\//, 'nothing outside the prefix');
  t.match(shown.stdout, new RegExp(`${elsewhere} .* - +keep: under another prefix`), 'of kube-eu');
  t.equal((await azurite.names(container)).length, 9);

  const listed = await runCommand(['list', '--json'], rules);
  const records = JSON.parse(listed.stdout) as { name: string; retention: { keep: boolean; reasons: string[] } }[];
  const planned = records.map(({ name, retention: { keep, reasons } }) => ({ name, keep, reasons }));
  const gone = planned.filter(({ keep }) => !keep).map(({ name }) => name);
  t.ok(gone.length >= 1);

  const done = await prune([], rules);
  t.strictSame(done.decisions, planned, 'list says the same');
  t.match(done, { clusterId: 'c1', state: 'applied', kept: 5 - gone.length, removed: gone });
  const left = [...names, 'notes.txt', other, outside, elsewhere].filter((name) => !gone.includes(name));
  t.strictSame((await azurite.names(container)).toSorted(), left.toSorted());
});

function day(days: number): string {
  return daysAgo(days).toISOString().slice(0, 10);
}

t.test('without a rule nothing is deleted, and it says so', async (t) => {
  const { variables, container } = await fill(0, 1);
  const { code, stdout } = await runCommand(['prune'], variables);
  t.equal(code, 0);
  t.match(stdout, 'No retention rule is set (SNAPSHOT_KEEP_…): nothing is ever deleted.');
  t.match((await runCommand(['list'], variables)).stdout, / -\n\n.*; no retention rule is set/, 'list shows a dash');
  t.equal((await azurite.names(container)).length, 2);
  const empty = await fill();
  t.match(
    (await runCommand(['list'], empty.variables)).stdout,
    /no snapshot in container \S+ yet\. .*: etcd-snapshot backup\n$/,
  );
  const absent = await runCommand(['list'], azurite.variables('absent'));
  t.equal(absent.code, 12);
  t.match(errorOf(absent).hint, 'the first `etcd-snapshot backup` creates the container');
  t.match(await prune([], { ...empty.variables, SNAPSHOT_KEEP_LAST: '1' }), { clusterId: null, decisions: [] });
});

t.test('snapshots of a previous cluster id stay until it is named', async (t) => {
  const { variables, container, names } = await fill(0, 1);
  const client = azurite.container(container);
  const before = [];
  for (const days of [2, 3, 4])
    before.push(await putSnapshot(client, daysAgo(days), { metadata: { clusterid: 'a0' } }));
  const rules = { ...variables, SNAPSHOT_KEEP_LAST: '3' };
  t.match(await prune(['--cluster-id', 'a1', '--cluster-id', 'a0', '--dry-run'], rules), {
    kept: 5,
    decisions: [...names, before[0], { keep: false }, { keep: false }].map((name) =>
      typeof name === 'string' ? { name } : name,
    ),
  });
  const wrong = await runCommand(['prune', '--cluster-id', 'a0,a1'], rules);
  t.equal(wrong.code, 2);
  t.match(errorOf(wrong).message, '--cluster-id a0,a1 is not a cluster id');
  const named = await prune([], { ...rules, SNAPSHOT_PREVIOUS_CLUSTER_IDS: 'a0' });
  t.strictSame(named.removed, [before[1], before[2]]);
  t.strictSame(
    await azurite.names(container),
    [before[0], ...names].toSorted((a = '', b = '') => (a < b ? -1 : 1)),
  );
});

t.test('a suspicious newest snapshot holds retention', async (t) => {
  const { variables, container, names } = await fill(1, 2, 3);
  const newest = await putSnapshot(azurite.container(container), daysAgo(0), { metadata: { livekeys: '7' } });
  const rules = { ...variables, SNAPSHOT_KEEP_LAST: '1' };
  const { code, stdout, stderr } = await runCommand(['prune', '--dry-run'], rules);
  t.equal(code, 3);
  t.match(
    stdout,
    /remove: not kept by last 1[^]*Nothing would be deleted, because the newest snapshot is suspicious: the number of keys[^\n]*\n$/,
  );
  const message = `The newest snapshot ${newest} is suspicious: the number of keys fell from 800 to 7.`;
  t.match(stderr, `"level":"warn","message":"${message}`);
  t.notMatch(stderr, '"level":"error"', 'a dry run does what it was asked for');
  t.match(errorOf(await runCommand(['prune'], rules)).message, message);
  t.match(await prune([], rules, 3), { state: 'held', removed: [], kept: 4 });
  t.match(
    (await runCommand(['list'], rules)).stdout,
    /Retention deletes nothing, because the newest snapshot is suspicious: the\s+number\s+of\s+keys/,
  );
  t.equal((await azurite.names(container)).length, names.length + 1);
});

t.test('snapshots of a former cluster with the same id stay, with a warning', async (t) => {
  const { variables, container, names } = await fill(1, 2, 3);
  // A former one was stored before, and the service tells seconds.
  await nextSecond();
  await putSnapshot(azurite.container(container), daysAgo(0), { metadata: { revision: '7' } });
  const rules = { ...variables, SNAPSHOT_KEEP_LAST: '1' };
  const { stdout } = await runCommand(['prune', '--dry-run'], rules);
  t.match(
    stdout,
    /Nothing would be deleted, because the newest snapshot is suspicious: the revision went back from 1000 to 7\./,
  );
  for (const name of names) t.match(stdout, new RegExp(`${name} .*keep: of a former cluster with this id`));
});

t.test('snapshots dated in the future stay, cause a warning, and count for no rule', async (t) => {
  const { variables, container, names } = await fill(0, 1, 2);
  const ahead = await putSnapshot(azurite.container(container), daysAgo(-400));
  const result = await prune([], { ...variables, SNAPSHOT_KEEP_LAST: '2' });
  t.strictSame(result.removed, [names[2]]);
  t.match(result, {
    kept: 3,
    findings: [new RegExp(`^Snapshots that are dated in the future .*: 1, such as ${ahead}`)],
  });
});

t.test('what the service keeps stays, with one warning for each reason, and the others go', async (t) => {
  const answers = [
    { status: 409, code: 'BlobImmutableDueToPolicy' },
    { status: 409, code: 'BlobImmutableDueToPolicy' },
    { status: 409, code: 'BlobImmutableDueToLegalHold' },
    { status: 409, code: 'BlobBeingRehydrated' },
    { status: 412, code: 'ConditionNotMet' },
  ];
  const { names, ...result } = await refused(t, 8, ({ index }) => answers[index] ?? 'pass');
  t.match(result, { state: 'applied', kept: 7 });
  t.strictSame(result.removed, [names[7]]);
  t.match(result.decisions[2], { name: names[2], keep: true, reasons: ['protected by an immutability policy'] });
  const reasons = [
    '2 snapshots that no rule keeps could not be deleted: protected by an immutability policy.',
    '1 snapshot that no rule keeps could not be deleted: protected by a legal hold.',
    '1 snapshot that no rule keeps could not be deleted: being rehydrated.',
    '1 snapshot that no rule keeps could not be deleted: changed by another process.',
  ];
  t.strictSame(result.findings, reasons);
  t.match(result.stderr.match(/"level":"warn"/g), { length: 4 });
});

t.test('a leased blob is left to who holds the lease; one with snapshots goes, and they with it', async (t) => {
  const { variables, names, container } = await fill(0, 1, 2);
  const [, leased = '', withSnapshots = ''] = names;
  const client = azurite.container(container);
  await client.getBlobClient(leased).getBlobLeaseClient().acquireLease(-1);
  await client.getBlobClient(withSnapshots).createSnapshot();
  const result = await prune([], { ...variables, SNAPSHOT_KEEP_LAST: '1' });
  t.match(result, {
    state: 'applied',
    removed: [withSnapshots],
    findings: [/1 snapshot that no rule keeps could not be deleted: leased/],
  });
  t.equal((await client.getBlobClient(leased).getProperties()).leaseState, 'leased');
});

t.test('a lost answer, and a blob that somebody else deleted, are no failure', async (t) => {
  const { names, ...result } = await refused(t, 5, ({ index }) => {
    if (index === 0) return 'lose-answer';
    return index === 2 ? { status: 404, code: 'BlobNotFound' } : 'pass';
  });
  t.match(result, { state: 'applied', kept: 2, removed: names.slice(2), findings: [] });
});

t.test('more blobs than the service lists at once, and a reader that leaves early', async (t) => {
  const { container, variables } = await fill();
  await putHourly(azurite.container(container), 600, { prefix: 'many/' });
  await putHourly(azurite.container(container), 3, { prefix: 'man' });
  const many = { ...variables, SNAPSHOT_BLOB_PREFIX: 'many/', SNAPSHOT_KEEP_LAST: '590' };
  const { stdout } = await runCommand(['list', '--json'], many);
  const listed = JSON.parse(stdout) as { name: string; takenAt: string; retention: { keep: boolean } }[];
  t.equal(new Set(listed.map(({ name }) => name)).size, 600);
  t.ok(listed.every(({ name }) => name.startsWith('many/')));
  t.ok(
    listed.every(({ takenAt }, index) => takenAt < (listed[index - 1]?.takenAt ?? 'now')),
    'newest first',
  );
  t.match(await prune([], many), { kept: 590, removed: { length: 10 } });
  t.equal((await azurite.names(container)).length, 593);

  const leaving = startWorker(['list', '--json'], many);
  leaving.stdout?.once('data', () => leaving.stdout?.destroy());
  const [code] = (await once(leaving, 'exit')) as [number];
  t.equal(code, 0);
});

t.test('without the permission to delete it stops at once', async (t) => {
  let asked = 0;
  const { stderr, ...result } = await refused(
    t,
    5,
    () => {
      asked++;
      return { status: 403, code: 'AuthorizationPermissionMismatch' };
    },
    3,
  );
  t.equal(asked, 1);
  t.match(result, { state: 'incomplete', kept: 5, removed: [] });
  t.ok(
    result.decisions.every(({ keep }) => keep),
    'everything is still there',
  );
  t.match(
    errorOf({ stderr }).message,
    /^Retention is incomplete: the account key has no permission on container .*\(failed while deleting /,
  );
});

import { join } from 'node:path';
import type { ContainerClient } from '@azure/storage-blob';
import t, { type Test } from 'tap';
import { Azurite } from '../support/azurite.ts';
import { nameOf, putSnapshot } from '../support/catalogue.ts';
import { type Defect, type Metadata, withDefect } from '../support/defects.ts';
import { EtcdCluster, findEtcd } from '../support/etcd.ts';
import { SNAPSHOT, unfitFor } from '../support/fixtures.ts';
import { forEachOf } from '../support/parallel.ts';
import { temporaryFolder, type Variables } from '../support/process.ts';
import { metadataOf } from '../support/restored.ts';
import { jsonOf, type Output, runCommand } from '../support/command.ts';
import { nextSecond } from '../support/until.ts';
import { errorOf, withTools } from '../support/worker.ts';

interface Backup {
  readonly name: string;
  readonly clusterId: string;
  readonly retention: { readonly state: string; readonly kept: number; readonly removed: readonly string[] };
  readonly findings: readonly string[];
}

interface Listed {
  readonly name: string;
  readonly record: boolean;
  readonly problem?: string;
  readonly retention: { readonly keep: boolean } | null;
}

const MINUTE = 60_000;

const dir = temporaryFolder('snapshots');
const tools = findEtcd().at(-1);
if (tools === undefined) throw new Error('no etcd');
const skip = unfitFor(tools);
const cluster = await EtcdCluster.start({ tools, dir: join(dir, 'etcd') });
const azurite = await Azurite.start(join(dir, 'azurite'));
t.teardown(async () => Promise.all([cluster.stop(), azurite.stop()]));
t.jobs = 2;
let containers = 0;

async function newContainer(): Promise<{ client: ContainerClient; name: string; variables: Variables }> {
  const name = `snapshots-${++containers}`;
  const client = azurite.container(name);
  await client.create();
  return { client, name, variables: { ...cluster.variables, ...azurite.variables(name), ...withTools(tools!) } };
}

/** That of the fixture. */
const MEMBERS = JSON.stringify([
  { id: '90989cc434698f33', name: 'm1', peerURLs: ['http://127.0.0.1:13425'], isLearner: false },
]);

/** Stores the fixture's snapshot with a record that is as it should be, but for the defect. */
async function putReal(client: ContainerClient, takenAt: Date, defect: Defect = {}, name?: string): Promise<string> {
  const uploadid = Buffer.from(`${takenAt.getTime()}`.padEnd(16, 'x')).toString('hex');
  const usual = metadataOf({ members: MEMBERS, takenat: takenAt.toISOString(), uploadid });
  const stored = name ?? nameOf(takenAt);
  const metadata = withDefect(usual, defect);
  await client.getBlockBlobClient(stored).upload(SNAPSHOT, SNAPSHOT.length, { metadata });
  return stored;
}

/** The program understood what happened. */
function isUnderstood(t: Test, { code, stderr }: Output, what: string): void {
  t.not(code, 1, `${what}: ${stderr}`);
  t.notMatch(stderr, /TypeError|Please report|at .*\.js:\d+/, what);
}

t.test('copies, and what metadata alone makes a snapshot, push out nothing', async (t) => {
  const { client, name: container, variables } = await newContainer();
  const first = await jsonOf<Backup>([], variables);
  const { metadata = {} } = await client.getBlobClient(first.name).getProperties();
  const at = (minutes: number): Date => new Date(Date.now() - minutes * MINUTE);
  const put = async (name: string, size: number, more: Metadata = {}): Promise<string> => {
    await client.getBlockBlobClient(name).upload(Buffer.alloc(size), size, { metadata: { ...metadata, ...more } });
    return name;
  };
  const own = async (minutes: number, size: number, more: Metadata = {}): Promise<string> =>
    put(nameOf(at(minutes)), size, { takenat: at(minutes).toISOString(), uploadid: '2'.repeat(32), ...more });
  const size = Number(metadata['totalsize']) + 32;
  // As long as there is the snapshot whose upload id it has.
  const copied = await own(2, size, { uploadid: metadata['uploadid'] ?? '' });
  const shown = await jsonOf<Listed[]>(['list'], variables);
  t.match(
    shown.find(({ name }) => name === copied),
    { record: false, problem: `it is a copy of ${first.name}` },
  );
  t.match(await jsonOf(['prune'], { ...variables, SNAPSHOT_KEEP_LAST: '1' }), { removed: [] });
  await client.deleteBlob(copied);

  const forged = [
    await put(`${first.name}x`, 1),
    await put(`${first.name}.copy`, size),
    await own(1, 1, { uploadid: '3'.repeat(32) }),
    await own(3, size, { revision: '9'.repeat(16) }),
    await own(4, size, { members: '[null]' }),
    await own(5, size, { takenat: '9999-12-31T23:59:59.999Z' }),
    await own(6, size, { takenat: '+275760-09-13T00:00:00.000Z' }),
  ];
  const rules = { ...variables, SNAPSHOT_KEEP_LAST: '1' };
  for (const args of [['prune', '--dry-run'], ['prune']]) {
    const { stdout, stderr, code } = await runCommand(args, rules);
    t.equal(code, 0, stderr);
    for (const name of forged) t.match(stdout, `${name} is not counted: `);
    t.match(stderr, /Blobs that do not count as snapshots are left unchanged: 7, such as /);
  }
  t.equal((await azurite.names(container)).length, 8, 'the only snapshot is still there, and nothing else went');

  await nextSecond();
  const second = await jsonOf<Backup>([], rules);
  t.strictSame(second.retention.removed, [first.name]);
  t.match(second.findings, [/^Blobs that do not count as snapshots .*: 7, such as/]);
  t.strictSame((await azurite.names(container)).toSorted(), [...forged, second.name].toSorted());
  const listed = await jsonOf<Listed[]>(['list'], rules);
  t.strictSame(
    listed.filter(({ record }) => record).map(({ name }) => name),
    [second.name],
  );
  t.ok(
    listed.every(({ record, problem }) => record !== (problem !== undefined)),
    'each with the reason',
  );
});

/** What a record may not be, from the list of what was found. */
const SAMPLES: Readonly<Record<string, Defect>> = {
  '[null]': { members: '[null]' },
  '[1]': { members: '[1]' },
  '[{}]': { members: '[{}]' },
  'URLs that are no list': { members: '[{"peerURLs":"nope"}]' },
  'a URL that is none': { members: MEMBERS.replace('http://127.0.0.1:13425', 'nope') },
  'a URL with a line feed': { members: MEMBERS.replace(':13425', String.raw`:13425\ntouch /tmp/y`) },
  'a name that objects have': { members: `[{"__proto__":${MEMBERS}}]` },
  'no number': { revision: 'x' },
  'no version': { etcdversion: `3.5.${'9'.repeat(2000)}` },
};

t.test('records that are not well-formed end no command in an unexpected way', { skip }, async (t) => {
  const { client, variables } = await newContainer();
  const without = { ...variables, SNAPSHOT_ETCD_ENDPOINTS: '' };
  const good = await putReal(client, new Date(Date.now() - 60 * MINUTE));
  const names = new Map<string, string>();
  for (const [index, [what, defect]] of Object.entries(SAMPLES).entries()) {
    names.set(what, await putReal(client, new Date(Date.now() - (index + 1) * MINUTE), defect));
  }
  const plan = ['restore', '--plan', '--layout', 'kubeadm'];
  await forEachOf(names, async ([what, name]) => {
    for (const [args, code] of [
      [['inspect', name], 0],
      [['verify', name], 11],
      [['restore', name, '--name', 'm1', '--data-dir', join(dir, `restored-${name}`)], 0],
      [[...plan, name], 2],
    ] as const) {
      const finished = await runCommand(args, without);
      isUnderstood(t, finished, `${what}: ${args.join(' ')}`);
      t.equal(finished.code, code, `${what}: ${args[0]} ${finished.stderr}`);
      if (code === 0) t.match(finished.stderr, /ignoring the record of .*: its record is not well-formed/);
    }
  });
  const place = join(dir, 'newest.db');
  for (const args of [['list'], ['prune'], plan, ['restore', '--download', place], ['drill']]) {
    const finished = await runCommand(args, { ...without, SNAPSHOT_KEEP_LAST: '1' });
    isUnderstood(t, finished, args.join(' '));
    t.equal(finished.code, 0, `${args.join(' ')}: ${finished.stderr}`);
    t.match(finished.stdout, good, `${args.join(' ')} takes the one that is good`);
  }
  const doctor = await runCommand(['doctor'], variables);
  isUnderstood(t, doctor, 'doctor');
  t.match(doctor.stdout, /records +Blobs that do not count as snapshots are left unchanged: 9, such as/);
});

t.test('of several clusters one must be named', { skip }, async (t) => {
  const { client, variables } = await newContainer();
  const without = { ...variables, SNAPSHOT_ETCD_ENDPOINTS: '' };
  const own = await putReal(client, new Date(Date.now() - 5 * 60 * MINUTE), { clusterid: 'c1' });
  const other = await putReal(client, new Date(Date.now() - 3 * 60 * MINUTE), { clusterid: 'c2' });
  // Dated in the future, and of clusters whose prefixes begin in the same way.
  await putReal(client, new Date('2036-01-01T00:00:00.000Z'), { clusterid: 'c1' });
  for (const prefix of ['x/', '-eu/', 'prod-eu/']) {
    await putSnapshot(client, new Date(Date.now() - MINUTE), { prefix, metadata: { clusterid: 'c3' } });
  }
  const plan = ['restore', '--plan', '--layout', 'kubeadm'];
  const place = (name: string): string[] => ['restore', '--download', join(dir, name)];
  for (const args of [plan, place('several.db'), ['drill']]) {
    const refused = await runCommand(args, without);
    t.equal(refused.code, 2, refused.stderr);
    t.match(errorOf(refused), {
      message: 'There are snapshots of 2 clusters, and none was chosen: c2 (newest 3h old), c1 (newest 5h old).',
      hint: /--cluster-id/,
    });
  }
  for (const [id, name] of [
    ['c1', own],
    ['c2', other],
  ] as const) {
    for (const args of [plan, place(`${id}.db`), ['drill']]) {
      const chosen = await runCommand([...args, '--cluster-id', id], without);
      t.equal(chosen.code, 0, chosen.stderr);
      t.match(chosen.stdout, name);
    }
  }
  const lives = await runCommand(plan, { ...without, SNAPSHOT_PREVIOUS_CLUSTER_IDS: 'c1' });
  t.equal(lives.code, 0, lives.stderr);
  t.match(lives.stdout, other, 'the other one is an earlier life of this cluster');
  for (const [code, message, args] of [
    [13, /no verified snapshot of cluster c9/, [...plan, '--cluster-id', 'c9']],
    [2, /--cluster-id C1 is not a cluster id/, [...plan, '--cluster-id', 'C1']],
    [2, /belongs to cluster c1/, [...plan, own, '--cluster-id', 'c2']],
    [2, /belongs to cluster c1/, ['drill', own, '--cluster-id', 'c2']],
  ] as const) {
    const refused = await runCommand(args, without);
    t.equal(refused.code, code, refused.stderr);
    t.match(errorOf(refused).message, message);
  }
  const doctor = await runCommand(['doctor', '--json'], variables);
  t.match(doctor.stdout, /There is no snapshot of this cluster yet/, 'etcd says which one it is');

  const eu = await runCommand(plan, { ...without, SNAPSHOT_BLOB_PREFIX: 'prod' });
  t.equal(eu.code, 13, 'nothing of prod-eu');
});

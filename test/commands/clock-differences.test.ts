import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { ContainerClient } from '@azure/storage-blob';
import t from 'tap';
import { Azurite } from '../support/azurite.ts';
import { nameOf } from '../support/catalogue.ts';
import { EtcdCluster, findEtcd } from '../support/etcd.ts';
import { forEachOf } from '../support/parallel.ts';
import { run, temporaryFolder, type Variables } from '../support/process.ts';
import { nextSecond } from '../support/until.ts';
import { jsonOf } from '../support/command.ts';
import { MAIN } from '../support/worker.ts';

interface Backup {
  readonly name: string;
  readonly retention: { readonly state: string; readonly kept: number; readonly removed: readonly string[] };
}

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;

const dir = temporaryFolder('dates');
const tools = findEtcd().at(-1);
if (tools === undefined) throw new Error('no etcd');
const cluster = await EtcdCluster.start({ tools, dir: join(dir, 'etcd') });
const azurite = await Azurite.start(join(dir, 'azurite'));
t.teardown(async () => Promise.all([cluster.stop(), azurite.stop()]));
let containers = 0;

async function newContainer(): Promise<{ client: ContainerClient; name: string; variables: Variables }> {
  const name = `dates-${++containers}`;
  const client = azurite.container(name);
  await client.create();
  return { client, name, variables: { ...cluster.variables, ...azurite.variables(name) } };
}

t.test('whatever dates the others have: a backup keeps its own snapshot', async (t) => {
  const cases = [
    [-3650 * DAY, { SNAPSHOT_KEEP_LAST: '1' }],
    [-4 * MINUTE, { SNAPSHOT_KEEP_LAST: '1' }],
    [4 * MINUTE, { SNAPSHOT_KEEP_LAST: '1' }],
    [4 * MINUTE, { SNAPSHOT_KEEP_DAILY: '1', SNAPSHOT_KEEP_WITHIN: '1h' }],
    [6 * MINUTE, { SNAPSHOT_KEEP_LAST: '1' }],
    [3650 * DAY, { SNAPSHOT_KEEP_LAST: '1', SNAPSHOT_KEEP_WITHIN: '1h' }],
  ] as const;
  await forEachOf(cases, async ([offset, rules]) => {
    const { client, name: container, variables } = await newContainer();
    const first = await jsonOf<Backup>([], variables);
    const blob = client.getBlockBlobClient(first.name);
    const { metadata = {} } = await blob.getProperties();
    const takenAt = new Date(Date.now() + offset);
    const bytes = await blob.downloadToBuffer();
    const other = nameOf(takenAt);
    await client.getBlockBlobClient(other).upload(bytes, bytes.length, {
      metadata: { ...metadata, takenat: takenAt.toISOString(), uploadid: '1'.repeat(32) },
    });
    await blob.delete();
    // What was stored in the same second as the new one stays in any case.
    await nextSecond();

    const what = `${offset / MINUTE} minutes, ${JSON.stringify(rules)}`;
    const fresh = await jsonOf<Backup>([], { ...variables, ...rules });
    t.ok(!fresh.retention.removed.includes(fresh.name), what);
    t.match(fresh.retention, { state: 'applied' });
    t.ok((await azurite.names(container)).includes(fresh.name), `${what}: it is there`);
    const isCounted = offset <= 5 * MINUTE;
    const isKept = !isCounted || 'SNAPSHOT_KEEP_WITHIN' in rules;
    if (isCounted && !isKept) t.strictSame(fresh.retention.removed, [other], `${what}: it counts first`);

    const pruned = await jsonOf<{ removed: string[] }>(['prune'], { ...variables, ...rules });
    t.ok(!pruned.removed.includes(fresh.name), `${what}: prune keeps it, too`);
    const plan = await jsonOf<{ snapshot: { name: string } }>(
      ['restore', '--plan', '--force', '--layout', 'kubeadm'],
      variables,
    );
    t.equal(plan.snapshot.name, fresh.name, `${what}: it is the newest`);
  });
});

t.test('two hosts, one of them four minutes ahead', { skip: !existsSync('/usr/bin/faketime') }, async (t) => {
  const { name: container, variables } = await newContainer();
  const ahead = await run('faketime', ['-f', '+4m', process.execPath, MAIN, 'backup', '--json'], variables, dir);
  t.equal(ahead.code, 0, ahead.stderr);
  const { name } = JSON.parse(ahead.stdout) as Backup;
  // What is stored in the same second is taken for that of a worker that runs at the same time, and stays.
  await nextSecond();
  const fresh = await jsonOf<Backup>([], { ...variables, SNAPSHOT_KEEP_LAST: '1' });
  t.strictSame(fresh.retention.removed, [name]);
  t.strictSame(await azurite.names(container), [fresh.name]);
});

t.test(
  'a host an hour behind: its backup says so, and so does who takes the newest',
  { skip: !existsSync('/usr/bin/faketime') },
  async (t) => {
    const { variables } = await newContainer();
    const right = await jsonOf<Backup>([], variables);
    await cluster.etcdctl('put', 'later', 'x');
    // The service tells seconds.
    await nextSecond();
    const behind = await run('faketime', ['-f', '-1h', process.execPath, MAIN, 'backup', '--json'], variables, dir);
    t.equal(behind.code, 0, behind.stderr);
    const { name, findings } = JSON.parse(behind.stdout) as Backup & { findings: string[] };
    t.match(findings, [/^The clock of this host is (1h|60m|59m).* behind that of Azure\.$/]);
    const plan = await run(
      process.execPath,
      [MAIN, 'restore', '--plan', '--force', '--layout', 'kubeadm'],
      variables,
      dir,
    );
    t.match(plan, { code: 0, stdout: new RegExp(right.name) }, plan.stderr);
    t.match(plan.stderr, `${name} was stored after the newest snapshot ${right.name} and has a higher revision`);
  },
);

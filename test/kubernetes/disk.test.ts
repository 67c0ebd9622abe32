import { spawnSync } from 'node:child_process';
import { mkdirSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { commandsOf, KubernetesSite } from '../support/kubernetes-site.ts';
import { withoutKubernetes } from '../support/kubernetes.ts';
import { folderOnDisk, mustRun } from '../support/process.ts';

// A node whose disk is small, and an uplink that carries nothing: what etcd sends goes through the spool.

const skip = withoutKubernetes();
if (skip !== false) {
  t.plan(0, skip);
  process.exit();
}

const CRON = 'etcd-snapshot-azure-blob-job';
const MB = 1_000_000;
/** The share of the disk that is free before a backup. A kubelet evicts pods below 15%. */
const BEFORE = 0.32;

const disk = folderOnDisk('small-disk');
const mount = join(disk, 'mount');
mkdirSync(mount);
await mustRun('truncate', ['--size', '1600M', join(disk, 'image')]);
await mustRun('mkfs.ext4', ['-q', '-m', '0', join(disk, 'image')]);
await mustRun('mount', ['-o', 'loop', join(disk, 'image'), mount]);
// Before the folder is removed, in which it is.
process.prependListener('exit', () => spawnSync('umount', ['--lazy', mount]));

const site = await KubernetesSite.start([]);
const { kubernetes } = site;
t.teardown(async () => site.stop());
await site.addNode('small', join(mount, 'node'));
site.writeSecret('etcd-snapshot-secrets.txt', site.variables('disk'));
const [, secret = '', apply = ''] = commandsOf('README.md', 'Quick start');
await site.shell(secret);
await site.shell(apply);
await fill(120 * MB);

/** So much more is in the database. */
async function fill(bytes: number): Promise<void> {
  await kubernetes.etcd.fill(bytes / 100_000, 100_000, `/filler/${bytes}/`);
}

/** The share of the disk that is free. */
function free(): number {
  const { bavail, blocks } = statfsSync(mount);
  return bavail / blocks;
}

/** Fills the disk until only so much is free. */
async function fillDisk(share: number): Promise<void> {
  const { blocks, bsize } = statfsSync(mount);
  const size = Math.floor((free() - share) * blocks * bsize);
  await mustRun('fallocate', ['--length', String(size), join(mount, 'filler')]);
}

interface Seen {
  /** The smallest share of the disk that was free. */
  readonly least: number;
  readonly pressure: boolean;
  readonly log: string;
}

/** Runs a backup that cannot upload, until the disk has been the same for longer than a kubelet waits between two looks at it. */
async function backup(name: string, env: Record<string, string>): Promise<Seen> {
  const release = site.hold();
  await site.startJob(name, CRON, { env, requests: { 'ephemeral-storage': '100Mi' } });
  await site.running(name);
  await site.eventually('it uploads', async () => site.waiting() > 0);
  let [least, since, pressure] = [free(), Date.now(), false];
  await site.eventually('the disk stays as it is', async () => {
    pressure ||= (await kubernetes.condition('small', 'DiskPressure')) === 'True';
    if (free() < least - 0.002) [least, since] = [free(), Date.now()];
    return Date.now() - since > 25_000;
  });
  const log = (await kubernetes.kubectl('logs', `job/${name}`, '--namespace', 'kube-system')).stdout;
  release();
  return { least, pressure, log };
}

t.test('the scheduler does not choose a node without the room that the manifest requests', async (t) => {
  await site.startJob('unschedulable', CRON);
  const events = '/api/v1/namespaces/kube-system/events?fieldSelector=reason%3DFailedScheduling';
  await site.eventually('the scheduler says so', async () =>
    JSON.stringify(await kubernetes.get(events)).includes('Insufficient ephemeral-storage'),
  );
  t.match(await site.podsOf('unschedulable'), [{ status: { phase: 'Pending' } }]);
  await site.shell('kubectl delete job unschedulable --namespace kube-system');
});

t.test('a snapshot with enough disk space goes through the spool', async (t) => {
  await fillDisk(BEFORE);
  const { least, pressure } = await backup('spooled', {});
  t.ok(least > 0.2 && least < BEFORE - 0.03, `${(least * 100).toFixed(1)} % were free at the least`);
  t.equal(pressure, false, 'the node has no pressure, and nobody is evicted');
  t.match(await site.outcome('spooled'), { succeeded: true });
  t.ok(free() > BEFORE - 0.03, 'nothing of it is left');
});

t.test('a snapshot without enough disk space causes no disk pressure', async (t) => {
  await fill(230 * MB);
  const { least, pressure, log } = await backup('waiting', {});
  t.ok(least > 0.2, `${(least * 100).toFixed(1)} % were free at the least`);
  t.equal(pressure, false);
  t.match(log, '20 % left free (SNAPSHOT_SPOOL_RESERVE)', 'the log says that etcd has to wait');
  t.match(await site.outcome('waiting'), { succeeded: true });
});

t.test('a reserve below 15% causes disk pressure', async (t) => {
  const { least, pressure } = await backup('reckless', { SNAPSHOT_SPOOL_RESERVE: '2%' });
  t.ok(least < 0.15, `${(least * 100).toFixed(1)} %`);
  t.equal(pressure, true, 'so the tests above would have seen it');
});

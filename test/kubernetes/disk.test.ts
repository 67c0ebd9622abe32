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
/** Of the file system: a kubelet evicts pods below 15 %. */
const [BEFORE, DATABASE] = [0.32, 350 * MB];

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
const [, secret = '', apply = ''] = commandsOf('Quick start');
await site.shell(secret);
await site.shell(apply);
await kubernetes.etcd.fill(DATABASE / 100_000, 100_000, '/filler/');

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

/** Runs a backup that cannot upload until the disk has no less than it had for some seconds; returns the least that was free. */
async function leastFree(name: string, env: Record<string, string>): Promise<{ least: number; pressure: boolean }> {
  const release = site.hold();
  await site.startJob(name, CRON, { env, requests: { 'ephemeral-storage': '100Mi' } });
  await site.running(name);
  let [least, since, pressure] = [free(), Date.now(), false];
  // Longer than a kubelet waits between two looks at its disk.
  await site.eventually('the spool grows no more', async () => {
    pressure ||= (await kubernetes.condition('small', 'DiskPressure')) === 'True';
    if (free() < least - 0.002) [least, since] = [free(), Date.now()];
    return least < BEFORE - 0.05 && Date.now() - since > 25_000;
  });
  release();
  return { least, pressure };
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

t.test('the spool leaves a fifth of the disk free: the node has no pressure, and nobody is evicted', async (t) => {
  await fillDisk(BEFORE);
  const { least, pressure } = await leastFree('spooled', {});
  t.ok(least > 0.19 && least < 0.25, `${(least * 100).toFixed(1)} % were free at the least`);
  t.equal(pressure, false);
  t.match(await site.outcome('spooled'), { succeeded: true });
  t.ok(free() > BEFORE - 0.03, 'nothing of it is left');
});

t.test('with a reserve below 15 % the kubelet finds that its disk is full', async (t) => {
  const { least, pressure } = await leastFree('reckless', { SNAPSHOT_SPOOL_RESERVE: '10%' });
  t.ok(least < 0.15, `${(least * 100).toFixed(1)} %`);
  t.equal(pressure, true, 'so this test would have seen it above');
});

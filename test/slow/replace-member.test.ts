import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { EtcdCluster, findEtcd } from '../support/etcd.ts';
import { collect, temporaryFolder } from '../support/process.ts';
import { membersOf, refused, Replacing } from '../support/replacement.ts';
import { runWorker, startWorker } from '../support/worker.ts';

const KILLS = 12;

const dir = temporaryFolder('replace-slow');

async function prepare(t: Test, tools: EtcdCluster['tools'], size: number): Promise<EtcdCluster> {
  const cluster = await EtcdCluster.start({ tools, dir: join(dir, t.name.replaceAll(/\W+/g, '-')), size });
  t.teardown(async () => cluster.stop());
  await cluster.fill(200, 500);
  return cluster;
}

async function replacing(cluster: EtcdCluster, failed: string): Promise<Replacing> {
  const peer = await cluster.freeUrl();
  return new Replacing(cluster, failed, join(dir, `data-${new URL(peer).port}`), peer);
}

for (const tools of findEtcd()) {
  t.test(`etcd ${tools.version}: two of five fail one after the other`, async (t) => {
    const cluster = await prepare(t, tools, 5);
    for (const failed of ['m2', 'm5']) {
      await cluster.loseMember(failed);
      const replacement = await replacing(cluster, failed);
      const { settings } = await replacement.run(t, '--no-backup');
      await replacement.finish(t, settings, '--no-backup');
    }
  });

  t.test(`etcd ${tools.version}: two of five fail together`, async (t) => {
    const cluster = await prepare(t, tools, 5);
    await cluster.loseMember('m2');
    await cluster.loseMember('m5');
    const [first, second] = [await replacing(cluster, 'm2'), await replacing(cluster, 'm5')];
    const id = (await membersOf(cluster)).get('m5')?.split(', ')[0] ?? '';
    await refused(
      t,
      cluster,
      first.args('--yes', '--no-backup'),
      20,
      /m5 \S+ is unreachable too.*5 members, 3 healthy/,
    );

    // As the hint says: the other one is removed by hand, and its replacement is added after the first one's.
    await cluster.changeMembers('remove', id);
    await first.finish(t, (await first.run(t, '--no-backup')).settings, '--no-backup');
    const byId = [id, ...second.args('--yes', '--no-backup', '--json').slice(2)];
    const { code, stdout, stderr } = await runWorker(['replace-member', ...byId], second.variables);
    t.equal(code, 0, stderr);
    await second.finish(t, (JSON.parse(stdout) as { settings: Record<string, string> }).settings, '--no-backup');
  });

  t.test(`etcd ${tools.version}: ${KILLS} kills at random moments`, async (t) => {
    const cluster = await prepare(t, tools, 3);
    await cluster.loseMember('m3');
    const replacement = await replacing(cluster, 'm3');
    const { ms } = await runWorker(replacement.args('--dry-run', '--no-backup'), replacement.variables);
    for (let kill = 0; kill < KILLS; kill++) {
      const worker = startWorker(replacement.args('--yes', '--no-backup'), replacement.variables);
      const ended = collect(worker);
      await sleep(Math.random() * Math.min(ms, 3_000) * 1.2);
      worker.kill('SIGKILL');
      await ended;
      t.ok([2, 3].includes((await membersOf(cluster)).size), 'at most one is removed, at most one is added');
      await cluster.assertWorking();
    }
    const { settings } = await replacement.run(t, '--no-backup');
    const worker = startWorker(replacement.args('--yes', '--no-backup', '--wait'), replacement.variables);
    const joined = cluster.join(settings);
    const ended = collect(worker);
    await sleep(1_000 + Math.random() * 3_000);
    worker.kill('SIGKILL');
    await ended;
    const endpoint = await joined;
    t.equal((await replacement.run(t, '--no-backup', '--wait')).state, 'done');
    await replacement.verify(t, endpoint);
  });
  t.test(`etcd ${tools.version}: a member that is corrupt, and still runs`, async (t) => {
    const cluster = await prepare(t, tools, 3);
    const leader = await cluster.leader();
    const corrupt = cluster.members.find(({ name }) => name !== leader)?.name ?? '';
    const id = (await membersOf(cluster)).get(corrupt)?.split(', ')[0] ?? '';
    const memberID = BigInt(`0x${id}`).toString();
    await cluster.gateway('/v3/maintenance/alarm', { action: 'ACTIVATE', memberID, alarm: 'CORRUPT' });
    const replacement = await replacing(cluster, corrupt);
    const { settings } = await replacement.run(t, '--no-backup');
    const endpoint = await cluster.join(settings);
    const { code, stdout } = await runWorker(replacement.args('--yes', '--no-backup'), replacement.variables);
    t.equal(code, 0);
    t.match(
      stdout,
      /The alarm CORRUPT of the removed member [0-9a-f]+ is still set\. To clear it, run: etcdctl alarm disarm/,
    );
    await cluster.stopMember(corrupt);
    await cluster.etcdctl('alarm', 'disarm');
    await replacement.verify(t, endpoint);
  });
}

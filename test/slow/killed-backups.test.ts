import { createHash } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { Azurite } from '../support/azurite.ts';
import { EtcdCluster, findEtcd } from '../support/etcd.ts';
import { collect, mustRun, temporaryFolder } from '../support/process.ts';
import { runWorker, startWorker } from '../support/worker.ts';

const KILLS = 200;

const dir = temporaryFolder('kills');
const tools = findEtcd().at(-1);
if (tools === undefined) throw new Error('no etcd');
const azurite = await Azurite.start(join(dir, 'azurite'));
t.teardown(async () => azurite.stop());
const container = azurite.container('kills');
await container.create();

for (const [size, keys] of [
  ['small', 20],
  ['large', 500],
] as const) {
  t.test(`${KILLS / 2} kills of a ${size} backup at random moments`, async (t) => {
    const cluster = await EtcdCluster.start({ tools, dir: join(dir, size) });
    t.teardown(async () => cluster.stop());
    await cluster.fill(keys, 50_000);
    const variables = { ...cluster.variables, ...azurite.variables('kills') };
    const whole = await runWorker([], variables);
    t.equal(whole.code, 0, whole.stderr);
    await empty();

    const ends: Record<string, number> = {};
    for (let kill = 0; kill < KILLS / 2; kill++) {
      const signal = kill % 2 === 0 ? 'SIGKILL' : 'SIGTERM';
      const delay = Math.random() * whole.ms * 1.1;
      // Of its own, for the service may yet do what a run asked for that was killed before.
      const prefix = `${size}-${kill}/`;
      const worker = startWorker([], { ...variables, SNAPSHOT_BLOB_PREFIX: prefix });
      const ended = collect(worker);
      await sleep(delay);
      worker.kill(signal);
      const { code, stdout, stderr } = await ended;

      const visible = (await azurite.names('kills')).filter((name) => name.startsWith(prefix));
      const what = `${signal} after ${Math.round(delay)} ms: code ${code}, ${visible.length} visible`;
      const isProven = stderr.includes('read back stored snapshot');
      if (stdout.includes('successfully')) t.ok(isProven, `${what}: ${stderr}`);
      if (isProven) t.equal(visible.length, 1, `${what}, as it said`);
      else if (signal === 'SIGTERM' && !visible.some((name) => stderr.includes(`${name} may be stored`))) {
        t.strictSame(visible, [], `${what}: ${stderr}`);
      }
      const end = `${signal}, ${visible.length === 0 ? 'nothing' : 'a snapshot'} visible`;
      ends[end] = (ends[end] ?? 0) + 1;
    }
    for (const name of await azurite.names('kills')) t.ok(await isSound(name), `${name} is sound`);
    t.comment(JSON.stringify(ends));
    t.equal((await runWorker([], variables)).code, 0, 'after all of it a backup still works');
    await empty();
  });
}

/** Whether a visible blob is exactly what its record says, and a snapshot to etcd's own tool. */
async function isSound(name: string): Promise<boolean> {
  const blob = container.getBlobClient(name);
  const bytes = await blob.downloadToBuffer();
  const { metadata } = await blob.getProperties();
  const file = join(dir, 'visible.db');
  await writeFile(file, bytes);
  await mustRun(tools?.snapshotTool ?? '', ['snapshot', 'status', file], { ETCDCTL_API: '3' });
  return createHash('sha256').update(bytes).digest('hex') === metadata?.['sha256'];
}

async function empty(): Promise<void> {
  for (const name of await azurite.names('kills')) await container.deleteBlob(name);
}

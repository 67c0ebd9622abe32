import { existsSync } from 'node:fs';
import { cp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { Azurite } from '../support/azurite.ts';
import { findEtcd } from '../support/etcd.ts';
import { SNAPSHOT, unfitFor } from '../support/fixtures.ts';
import { mustRun, temporaryFolder } from '../support/process.ts';
import { metadataOf, RECORDED_NAME as STORED, type Restored } from '../support/restored.ts';
import { jsonOf, runCommand } from '../support/command.ts';
import { errorOf, withTools } from '../support/worker.ts';

const tools = findEtcd().at(-1);
if (tools === undefined) throw new Error('no etcd');
const skip = unfitFor(tools);
const bare = withTools(tools);
const dir = temporaryFolder('restore-again');
const file = join(dir, 'snapshot.db');
await writeFile(file, SNAPSHOT);

t.test('a second restore of a snapshot is not the cluster that the first one made', { skip }, async (t) => {
  const place = join(dir, 'm1');
  const restored = join(place, 'restored');
  await mustRun('mkdir', [place]);
  const restore = ['restore', file, '--name', 'm1', '--data-dir', restored];
  const swap = ['restore', '--swap', '--data-dir', place];
  await jsonOf(restore, bare);
  await jsonOf(swap, bare);

  const again = await runCommand(restore, bare);
  t.equal(again.code, 20, again.stderr);
  t.match(errorOf(again).message, /m1\/member\/wal belongs to cluster [0-9a-f]+, like the restored data/);
  t.match(errorOf(again).hint, /another --initial-cluster-token, the same on all members, or restore from a plan/);
  t.notOk(existsSync(restored) || existsSync(`${restored}.restoring`), 'nothing appears, and nothing is left');

  await cp(join(place, 'member'), join(restored, 'member'), { recursive: true });
  const swapped = await runCommand(swap, bare);
  t.equal(swapped.code, 20, swapped.stderr);
  t.match(errorOf(swapped).message, /like the restored data/);
  t.ok(existsSync(join(place, 'member/snap/db')) && existsSync(join(restored, 'member/snap/db')), 'nothing was moved');
  await rm(restored, { recursive: true });

  const wal = join(dir, 'separate-wal');
  const separate = await runCommand([...restore, '--wal-dir', wal], bare);
  t.equal(separate.code, 20, 'also with a separate WAL');
  t.notOk(existsSync(wal));

  await jsonOf([...restore, '--initial-cluster-token', 'another'], bare);
  const { undo } = await jsonOf<{ undo: string }>(swap, bare);
  await jsonOf(undo.split(' ').slice(1), bare);
});

t.test('a second restore from the same plan is not the first cluster either', { skip }, async (t) => {
  const azurite = await Azurite.start(join(dir, 'azurite'));
  t.teardown(async () => azurite.stop());
  const container = azurite.container('again');
  await container.createIfNotExists();
  const { members } = await jsonOf<{ members: object[] }>(['inspect', file], {});
  const metadata = metadataOf({ members: JSON.stringify(members) });
  await container.getBlockBlobClient(STORED).upload(SNAPSHOT, SNAPSHOT.length, { metadata });
  const variables = { ...azurite.variables('again'), ...bare };
  const [place, plan] = [join(dir, 'planned'), join(dir, 'plan.json')];
  await jsonOf(['restore', STORED, '--plan', '--layout', 'kubeadm', '--data-dir', place, '--output', plan], variables);
  const { members: planned } = await jsonOf<{ members: { name: string }[] }>(
    ['restore', '--plan', '--from-plan', plan],
    {},
  );
  const restore = ['restore', '--from-plan', plan, '--member', planned[0]?.name ?? ''];
  await jsonOf(restore, variables);
  await jsonOf(['restore', '--swap', '--data-dir', place], variables);

  t.match(await jsonOf(restore, variables), { alreadyDone: true, dataDir: place });
  await rm(join(place, 'member/etcd-snapshot-restore.json'));
  const unmarked = await runCommand(restore, variables);
  t.equal(unmarked.code, 20, unmarked.stderr);
  t.match(errorOf(unmarked).message, /like the restored data/);
});

t.test('the next step names a separate WAL directory', { skip }, async (t) => {
  const [data, wal] = [join(dir, 'data of m1'), join(dir, 'wal of m1')];
  const args = ['restore', file, '--name', 'm1', '--data-dir', data, '--wal-dir', wal];
  const next = `start etcd with --data-dir '${data}' --wal-dir '${wal}'`;
  t.match(await jsonOf<Restored>(args, bare), { next, walDir: wal });
  await rm(data, { recursive: true });
  await rm(wal, { recursive: true });
  const { stdout } = await runCommand(args, bare);
  t.match(stdout, next);

  for (const other of [data, join(data, 'member/wal'), dir, `${data}/`]) {
    const refused = await runCommand([...args.slice(0, -1), other], bare);
    t.equal(refused.code, 2, refused.stderr);
    t.match(errorOf(refused).message, /are the same, or one is in the other/);
  }
});

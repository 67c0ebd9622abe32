import { constants, getPriority } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { Azurite } from '../support/azurite.ts';
import { EtcdCluster, findEtcd } from '../support/etcd.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { collect, temporaryFolder } from '../support/process.ts';
import { startWorker } from '../support/worker.ts';

const dir = temporaryFolder('priority');
const [tools] = findEtcd();
if (tools === undefined) throw new Error('no etcd');
const cluster = await EtcdCluster.start({ tools, dir: join(dir, 'etcd') });
const azurite = await Azurite.start(join(dir, 'azurite'));
t.teardown(async () => Promise.all([cluster.stop(), azurite.stop()]));

t.test('a backup runs with a lower priority; commands that somebody waits for do not', async (t) => {
  let asked = Promise.withResolvers<void>();
  const proxy = await FaultProxy.start(azurite.url, () => {
    asked.resolve();
    return 'hang';
  });
  t.teardown(async () => proxy.stop());
  const variables = { ...cluster.variables, ...azurite.variables('priority'), SNAPSHOT_AZURE_BLOB_ENDPOINT: proxy.url };
  const { PRIORITY_BELOW_NORMAL, PRIORITY_NORMAL } = constants.priority;
  for (const [command, priority] of [
    ['backup', PRIORITY_BELOW_NORMAL],
    ['list', PRIORITY_NORMAL],
    ['drill', PRIORITY_NORMAL],
  ] as const) {
    asked = Promise.withResolvers<void>();
    const worker = startWorker([command], variables);
    const finished = collect(worker);
    await asked.promise;
    t.equal(getPriority(worker.pid), priority, command);
    worker.kill('SIGTERM');
    await finished;
  }
});

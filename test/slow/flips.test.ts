import { join } from 'node:path';
import t from 'tap';
import { Azurite } from '../support/azurite.ts';
import { EtcdCluster, findEtcd } from '../support/etcd.ts';
import { errorOf, runWorker } from '../support/worker.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';
import { temporaryFolder } from '../support/process.ts';

const RUNS = 500;

const dir = temporaryFolder('flips');
const azurite = await Azurite.start(join(dir, 'azurite'));
t.teardown(async () => azurite.stop());

t.test(`one random bit flipped between etcd and the worker, ${RUNS} times`, async (t) => {
  const versions = findEtcd();
  const ends: Record<string, number> = {};
  for (const tools of versions) {
    const cluster = await EtcdCluster.start({ tools, dir: join(dir, tools.version) });
    t.teardown(async () => cluster.stop());
    await cluster.fill(200, 10_000);
    const variables = { ...cluster.variables, ...azurite.variables('flips') };

    const counting = await TcpProxy.start(cluster.endpoints);
    const whole = await runWorker([], { ...variables, SNAPSHOT_ETCD_ENDPOINTS: counting.url });
    const total = counting.passed;
    await counting.stop();
    t.equal(whole.code, 0, 'the proxy alone does no harm');
    const before = await azurite.names('flips');

    for (let run = 0; run < RUNS / versions.length; run++) {
      // The first kilobyte holds greetings and headers, many of whose bits mean nothing: a snapshot that comes whole in spite
      // of them is right to be stored.
      const target = 1024 + Math.floor(Math.random() * (total - 2048));
      const bit = 1 << Math.floor(Math.random() * 8);
      let passed = 0;
      let flipped = false;
      const proxy = await TcpProxy.start(cluster.endpoints, () => (chunk) => {
        const at = target - passed;
        passed += chunk.length;
        if (flipped || at < 0 || at >= chunk.length) return chunk;
        flipped = true;
        const changed = Buffer.from(chunk);
        changed.writeUInt8((changed[at] ?? 0) ^ bit, at);
        return changed;
      });
      const finished = await runWorker([], { ...variables, SNAPSHOT_ETCD_ENDPOINTS: proxy.url });
      await proxy.stop();
      const what = `etcd ${tools.version}, byte ${target} of ${total}, bit ${bit}`;
      t.ok(flipped, what);
      t.strictSame(await azurite.names('flips'), before, `${what}: nothing visible`);
      t.ok([10, 11].includes(finished.code ?? 0), `${what}: code ${finished.code}`);
      const kind =
        finished.code === 0 ? 'stored' : `${finished.code} ${errorOf(finished).message.replace(/.*127.0.0.1:\d+/, '')}`;
      ends[kind.slice(0, 60)] = (ends[kind.slice(0, 60)] ?? 0) + 1;
    }
    await azurite.container('flips').delete();
  }
  t.comment(JSON.stringify(ends, undefined, 1));
});

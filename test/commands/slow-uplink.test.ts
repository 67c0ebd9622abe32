import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { CLEAR_LINE } from '../../src/progress.ts';
import { Azurite } from '../support/azurite.ts';
import { EtcdCluster, findEtcd } from '../support/etcd.ts';
import { type Fault, FaultProxy } from '../support/fault-proxy.ts';
import { collect, freePort, run, temporaryFolder, type Variables } from '../support/process.ts';
import { until } from '../support/until.ts';
import { MAIN, startWorker } from '../support/worker.ts';

/** More than the blocks under way, the queue and what gRPC takes in advance hold together. */
const DATABASE = 75_000_000;

/** Bytes of a block. */
const BLOCK = 5 * 2 ** 20;

const dir = temporaryFolder('uplink');
const spool = temporaryFolder('uplink-spool');
const tools = findEtcd().at(-1);
if (tools === undefined) throw new Error('no etcd');
const metrics = `http://127.0.0.1:${await freePort()}`;
const flags = ['--listen-metrics-urls', metrics];
const [cluster, azurite] = await Promise.all([
  EtcdCluster.start({ tools, dir: join(dir, 'etcd'), flags }),
  Azurite.start(join(dir, 'azurite')),
]);
t.teardown(async () => Promise.all([cluster.stop(), azurite.stop()]));
await cluster.fill(DATABASE / 50_000, 50_000);

/** How many Snapshot calls etcd has brought to their end: its read transactions are over then. */
async function snapshotsSent(): Promise<number> {
  const text = await (await fetch(`${metrics}/metrics`)).text();
  const counts = text.matchAll(/^grpc_server_handled_total\{.*grpc_method="Snapshot".*\} (\d+)$/gm);
  return [...counts].reduce((sum, [, count]) => sum + Number(count), 0);
}

interface Running {
  readonly open: () => void;
  readonly log: () => string;
  /** How many blocks the uplink has been given. */
  readonly blocks: () => number;
  readonly ended: Ended;
}

/** Starts a backup through an uplink that carries nothing before it is opened. */
async function backup(t: Test, variables: Variables): Promise<Running> {
  const opened = Promise.withResolvers<void>();
  const proxy = await FaultProxy.start(azurite.url, async ({ method }): Promise<Fault> => {
    if (method === 'PUT') await opened.promise;
    return 'pass';
  });
  t.teardown(async () => proxy.stop());
  const worker = startWorker(['--json'], {
    ...cluster.variables,
    ...azurite.variables('uplink'),
    SNAPSHOT_AZURE_BLOB_ENDPOINT: proxy.url,
    ...variables,
  });
  let log = '';
  worker.stderr?.on('data', (text: string) => (log += text));
  const ended = collect(worker).then(({ code, stdout, stderr }) => {
    t.equal(code, 0, stderr);
    return JSON.parse(stdout) as { spilledBytes: number };
  });
  const blocks = (): number => proxy.seen.filter((operation) => operation === 'PUT block').length;
  return { open: opened.resolve, log: () => log, blocks, ended };
}

type Ended = Promise<{ spilledBytes: number }>;

t.test('a blocked uplink does not block etcd: the rest goes through the spool', async (t) => {
  const before = await snapshotsSent();
  const { open, ended } = await backup(t, { SNAPSHOT_SPOOL_DIR: spool });
  await until(async () => (await snapshotsSent()) > before);
  t.pass('etcd’s read transaction is over before the first block is stored');
  open();
  const { spilledBytes } = await ended;
  t.ok(spilledBytes > DATABASE / 4, `${spilledBytes} bytes went through the spool`);
  t.strictSame(readdirSync(spool), [], 'nothing is left there');
});

t.test('a limit of the rate does not block etcd either', async (t) => {
  const before = await snapshotsSent();
  const limited = { SNAPSHOT_SPOOL_DIR: spool, SNAPSHOT_MAX_UPLOAD_RATE: '6MiB' };
  const { open, blocks, ended } = await backup(t, limited);
  open();
  await until(async () => (await snapshotsSent()) > before);
  t.ok(blocks() < DATABASE / BLOCK - 1, `when etcd's read transaction is over, ${blocks()} blocks were begun`);
  const { spilledBytes } = await ended;
  t.ok(spilledBytes > 0, `${spilledBytes} bytes went through the spool`);
});

t.test('without a spool etcd waits, and the log says so', async (t) => {
  const before = await snapshotsSent();
  const { open, log, ended } = await backup(t, {});
  await until(() => log().includes('etcd has to wait'));
  t.equal(await snapshotsSent(), before, 'etcd has more to send');
  open();
  t.equal((await ended).spilledBytes, 0);
});

t.test('with a fast uplink nothing is written to the disk', async (t) => {
  const small = await EtcdCluster.start({ tools, dir: join(dir, 'small') });
  t.teardown(async () => small.stop());
  // What fits into the memory of the queue is never too much for the uplink.
  await small.fill(200, 50_000);
  const { open, ended } = await backup(t, {
    ...small.variables,
    SNAPSHOT_SPOOL_DIR: spool,
    SNAPSHOT_BLOB_PREFIX: 'small/',
  });
  open();
  t.equal((await ended).spilledBytes, 0);
});

t.test('on a terminal, streaming and reading back show how far they are', async (t) => {
  // Slower than work that needs no progress line.
  const proxy = await FaultProxy.start(azurite.url, async (): Promise<Fault> => sleep(200, 'pass'));
  t.teardown(async () => proxy.stop());
  const { code, stdout } = await run('script', ['-qec', `'${process.execPath}' -- '${MAIN}'`, '/dev/null'], {
    ...cluster.variables,
    ...azurite.variables('terminal'),
    SNAPSHOT_AZURE_BLOB_ENDPOINT: proxy.url,
  });
  t.equal(code, 0, stdout);
  const shown = stdout.replaceAll(CLEAR_LINE, '<clear>');
  t.match(shown, /\rstreaming from \S+ +\d+% +\d+ MB of \d\d MB /);
  t.match(shown, /\rreading back +\d+% +\d+ MB of \d\d MB /);
  t.match(shown, /<clear>\d\d:\d\d:\d\d info: stored snapshot/, 'a line of the log does not stand behind the progress');
});

/**
 * How long a backup over a slow uplink keeps etcd's read transaction open, beside readers of the same snapshot that do nothing
 * else, interleaved, all over TLS. etcd's own metric tells the time, so nothing of the reader's side is in it.
 *
 *   node scripts/bench-uplink.ts [--megabytes 500] [--rate 5000000] [--runs 5] [--dir /dev/shm]
 *
 * etcd, Azurite and the spool are under --dir, in memory unless told. The result is a Markdown table.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Azurite } from '../test/support/azurite.ts';
import { makeAuthority } from '../test/support/certificates.ts';
import { EtcdCluster, findEtcd } from '../test/support/etcd.ts';
import { FaultProxy } from '../test/support/fault-proxy.ts';
import { collect, freePort, launch } from '../test/support/process.ts';
import { startWorker } from '../test/support/worker.ts';

const { values: options } = parseArgs({
  options: {
    megabytes: { type: 'string', default: '500' },
    rate: { type: 'string', default: '5000000' },
    runs: { type: 'string', default: '5' },
    dir: { type: 'string', default: '/dev/shm' },
  },
});

const METRIC = 'etcd_disk_backend_snapshot_duration_seconds';

const READER = `
  import { readFileSync } from 'node:fs';
  import { Connection } from ${JSON.stringify(new URL('../src/etcd/connection.ts', import.meta.url))};
  import { snapshotPieces } from ${JSON.stringify(new URL('../src/etcd/snapshot.ts', import.meta.url))};
  const [endpoint, ca, cert, key] = process.argv.slice(1);
  const connection = new Connection(endpoint, { ca: readFileSync(ca), cert: readFileSync(cert), key: readFileSync(key) });
  for await (const piece of snapshotPieces(connection, new AbortController().signal)) piece.length;
  connection.close();`;

const tools = findEtcd().at(-1);
if (tools === undefined) throw new Error('no etcd');
const dir = mkdtempSync(join(options.dir, 'etcd-snapshot-bench-'));
process.on('exit', () => rmSync(dir, { recursive: true, force: true }));
const tls = await makeAuthority(join(dir, 'certs'));
const metrics = `http://127.0.0.1:${await freePort()}`;
const flags = ['--listen-metrics-urls', metrics];
const cluster = await EtcdCluster.start({ tools, dir: join(dir, 'etcd'), tls, flags });
const azurite = await Azurite.start(join(dir, 'azurite'));
const bytesPerSecond = Number(options.rate);
const proxy = await FaultProxy.start(azurite.url, ({ method }) => (method === 'PUT' ? { bytesPerSecond } : 'pass'));
await cluster.fill(Number(options.megabytes) * 20, 50_000);

interface Snapshots {
  readonly count: number;
  readonly seconds: number;
}

/** The snapshots that the member has sent so far, and for how long it held its read transaction for them. */
async function snapshots(): Promise<Snapshots> {
  const text = await (await fetch(`${metrics}/metrics`)).text();
  const value = (name: string): number => Number(new RegExp(`^${METRIC}_${name} (\\S+)$`, 'm').exec(text)?.[1]);
  return { count: value('count'), seconds: value('sum') };
}

/** Seconds of the one read transaction that begins meanwhile. */
async function readTransaction(start: () => Promise<() => Promise<unknown>>): Promise<number> {
  const before = await snapshots();
  const stop = await start();
  let after = before;
  for (; after.count === before.count; after = await snapshots()) await sleep(100);
  await stop();
  return after.seconds - before.seconds;
}

const rows: Record<string, { start: () => Promise<() => Promise<unknown>>; seconds: number[] }> = {
  'a reader that does nothing': {
    start: async () => {
      const { ca, cert, key } = tls.client;
      const args = ['--input-type=module', '-e', READER, cluster.endpoints, ca, cert, key];
      const ended = collect(launch(process.execPath, args));
      return async () => ended;
    },
    seconds: [],
  },
  'etcdctl snapshot save': {
    start: async () => {
      const ended = cluster.etcdctl('snapshot', 'save', join(dir, 'saved.db'));
      return async () => ended;
    },
    seconds: [],
  },
  [`backup, upload at ${bytesPerSecond / 1e6} MB/s, spool`]: {
    start: async () => {
      const worker = startWorker([], {
        ...cluster.variables,
        ...azurite.variables('uplink'),
        SNAPSHOT_AZURE_BLOB_ENDPOINT: proxy.url,
        SNAPSHOT_SPOOL_DIR: dir,
      });
      const ended = collect(worker);
      // What follows is the rest of the upload, of which etcd knows nothing.
      return async () => {
        worker.kill('SIGTERM');
        await ended;
      };
    },
    seconds: [],
  },
};

// The first round warms up and does not count.
for (let round = 0; round <= Number(options.runs); round++) {
  for (const { start, seconds } of Object.values(rows)) {
    const measured = await readTransaction(start);
    if (round > 0) seconds.push(measured);
  }
}

const median = (numbers: readonly number[]): number => numbers.toSorted((a, b) => a - b)[numbers.length >> 1] ?? NaN;
const base = median(Object.values(rows)[0]?.seconds ?? []);
console.log(
  `etcd ${tools.version}, ${options.megabytes} MB, seconds of the read transaction, ${options.runs} runs each\n`,
);
console.log('| | median | min | max | ratio |\n| --- | ---: | ---: | ---: | ---: |');
for (const [name, { seconds }] of Object.entries(rows)) {
  const cells = [median(seconds), Math.min(...seconds), Math.max(...seconds), median(seconds) / base];
  console.log(`| ${name} | ${cells.map((cell) => cell.toFixed(2)).join(' | ')} |`);
}
await Promise.all([cluster.stop(), azurite.stop(), proxy.stop()]);
process.exit(0);

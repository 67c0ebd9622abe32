import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { FaultProxy } from '../../test/support/fault-proxy.ts';
import { collect, launch, type Variables } from '../../test/support/process.ts';
import { startWorker } from '../../test/support/worker.ts';
import { type Bench, nameOfSize, program, roomIn, say } from '../bench.ts';
import { markdown, MB, ratios, spread } from '../figures.ts';
import type { Command } from '../measure.ts';
import { Source } from '../source.ts';
import { BlobTarget } from '../target.ts';
import type { Report } from '../verdicts.ts';

const SIZE = 500 * MB;
const BYTES_PER_SECOND = 5 * MB;

/** Starts a reader of the snapshot; what it returns ends it. */
type Start = () => () => Promise<unknown>;

/**
 * How long a backup over a slow uplink keeps etcd's read transaction open, beside readers of the same snapshot that do nothing
 * else. etcd's own metric tells the time, so nothing of the reader's side is in it.
 */
export async function uplinkSection({ tools, tls, memory, rounds }: Bench): Promise<Report> {
  say(`filling etcd with ${nameOfSize(SIZE)}`);
  const room = roomIn(memory, 'uplink');
  const source = await Source.start({ tools, tls, dir: join(room, 'etcd'), size: SIZE, valueSize });
  const target = await BlobTarget.start('azurite', join(room, 'azurite'), tls);
  const proxy = await FaultProxy.start(target.url, ({ method }) =>
    method === 'PUT' ? { bytesPerSecond: BYTES_PER_SECOND } : 'pass',
  );
  const variables = {
    ...source.cluster.variables,
    ...target.variables,
    SNAPSHOT_AZURE_BLOB_ENDPOINT: proxy.url,
    SNAPSHOT_SPOOL_DIR: room,
  };
  const backup =
    (more: Variables): Start =>
    () => {
      const worker = startWorker([], { ...variables, ...more });
      const ended = collect(worker);
      // What follows is the rest of the upload, of which etcd knows nothing.
      return async () => {
        worker.kill('SIGTERM');
        await ended;
      };
    };
  const readers: Record<string, Start> = {
    'a reader that does nothing': () => toItsEnd(program('drain', ...source.place)),
    '`etcdctl snapshot save`': () => toItsEnd(source.save(join(room, 'saved.db'))),
    [`backup, upload at ${BYTES_PER_SECOND / MB} MB/s, spool`]: backup({}),
    'backup, SNAPSHOT_MAX_UPLOAD_RATE=5MiB, spool': backup({
      SNAPSHOT_AZURE_BLOB_ENDPOINT: target.url,
      SNAPSHOT_MAX_UPLOAD_RATE: '5MiB',
    }),
  };
  const seconds = new Map(Object.keys(readers).map((name) => [name, [] as number[]]));
  // The first round warms up and does not count.
  for (let round = 0; round <= rounds; round++) {
    for (const [name, start] of Object.entries(readers)) {
      say(`round ${round} of ${rounds}: ${name}`);
      const measured = await readTransaction(source, start);
      if (round > 0) seconds.get(name)?.push(measured);
    }
  }
  await Promise.all([source.stop(), target.stop(), proxy.stop()]);
  const [base = []] = seconds.values();
  const rows = [...seconds].map(([name, measured]) => [name, spread(measured), spread(ratios(measured, base))]);
  const title = `Slow uplink: etcd's read transaction, ${nameOfSize(SIZE)}`;
  return { tables: [markdown(title, ['', 'seconds', 'ratio'], rows)], targets: [] };
}

/** Large, to fill quickly, but a hundred of them must fit into one request. */
function valueSize(): number {
  return 10_000;
}

function toItsEnd([command = '', ...args]: Command): ReturnType<Start> {
  const ended = collect(launch(command, args));
  return async () => ended;
}

/** Seconds of the one read transaction that begins meanwhile: it is counted when it ends. */
async function readTransaction(source: Source, start: Start): Promise<number> {
  const before = await source.readTransactions();
  const stop = start();
  let after = before;
  for (; after === before; after = await source.readTransactions()) await sleep(100);
  await stop();
  return after - before;
}

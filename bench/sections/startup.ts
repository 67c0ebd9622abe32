import { connect, createServer } from 'node:net';
import { once } from 'node:events';
import { join } from 'node:path';
import { collect, launch } from '../../test/support/process.ts';
import { MAIN } from '../../test/support/worker.ts';
import { type Bench, roomIn, say } from '../bench.ts';
import { markdown, MB, ratios, spread } from '../figures.ts';
import { Source } from '../source.ts';
import { BlobTarget } from '../target.ts';
import type { Report } from '../verdicts.ts';

const SMALL = 3 * MB;
/** They take no time, so that more of them are no trouble. */
const TIMES = 3;

/** From the start of the process to the first connection to etcd, which a relay sees, beside a Node that does nothing. */
export async function startupSection({ tools, tls, memory, rounds }: Bench): Promise<Report> {
  const room = roomIn(memory, 'startup');
  const source = await Source.start({ tools, tls, dir: join(room, 'etcd'), size: SMALL });
  const target = await BlobTarget.start('azurite', join(room, 'azurite'), tls);
  const server = new URL(source.endpoint);
  let connected = Promise.withResolvers<number>();
  const relay = createServer((client) => {
    connected.resolve(performance.now());
    const upstream = connect(Number(server.port), server.hostname);
    client.pipe(upstream).pipe(client);
    for (const socket of [client, upstream]) socket.on('error', () => socket.destroy());
  });
  relay.listen(0, '127.0.0.1');
  await once(relay, 'listening');
  const address = relay.address();
  if (address === null || typeof address === 'string') throw new Error('not listening');
  const variables = {
    ...source.cluster.variables,
    ...target.variables,
    SNAPSHOT_ETCD_ENDPOINTS: `https://127.0.0.1:${address.port}`,
  };
  const [bare, first]: [number[], number[]] = [[], []];
  for (let round = 0; round <= rounds * TIMES; round++) {
    if (round % TIMES === 0) say('start-up');
    const beforeNode = performance.now();
    await collect(launch(process.execPath, ['-e', '0']));
    const node = performance.now() - beforeNode;
    connected = Promise.withResolvers<number>();
    const start = performance.now();
    const backup = collect(launch(process.execPath, [MAIN, 'backup'], variables, room));
    backup.then(({ stderr }) => connected.reject(new Error(stderr)), connected.reject);
    const ms = (await connected.promise) - start;
    await backup;
    // The first round warms up.
    if (round === 0) continue;
    bare.push(node);
    first.push(ms);
  }
  relay.close();
  await Promise.all([source.stop(), target.stop()]);
  const times = ratios(first, bare);
  const rows = [
    ['`node -e 0`, to its end', spread(bare, 0), '1.00'],
    ['this worker, to its first connection to etcd', spread(first, 0), spread(times)],
  ];
  return {
    tables: [markdown('Start-up', ['', 'ms', 'ratio'], rows)],
    targets: [{ what: 'first connection to etcd / `node -e 0`', limit: 2, rounds: times }],
  };
}

import { connect, createServer } from 'node:net';
import { once } from 'node:events';
import { join } from 'node:path';
import { collect, launch } from '../../test/support/process.ts';
import { type Bench, roomIn, say, worker } from '../bench.ts';
import { markdown, MB, ratios, spread } from '../figures.ts';
import { Source } from '../source.ts';
import { BlobTarget } from '../target.ts';
import type { Report } from '../verdicts.ts';

const SMALL = 3 * MB;
/** They take no time, so that more of them are no trouble. */
const TIMES = 3;

/** From the start of the process to the first connection to etcd, which a relay sees, beside a Node that loads HTTP/2. */
export async function startupSection({ tools, tls, memory, rounds }: Bench): Promise<Report> {
  const room = roomIn(memory, 'startup');
  const source = await Source.start({ tools, tls, dir: join(room, 'etcd'), size: SMALL });
  const store = await BlobTarget.start('azurite', join(room, 'azurite'), tls);
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
    ...store.variables,
    SNAPSHOT_ETCD_ENDPOINTS: `https://127.0.0.1:${address.port}`,
  };
  const [command = '', ...args] = worker('backup');
  const [bare, http2, first]: [number[], number[], number[]] = [[], [], []];
  for (let round = 0; round <= rounds * TIMES; round++) {
    if (round % TIMES === 0) say('start-up');
    const node = await milliseconds('0');
    const loading = await milliseconds("require('node:http2')");
    connected = Promise.withResolvers<number>();
    const start = performance.now();
    const backup = collect(launch(command, args, variables, room));
    backup.then(({ stderr }) => connected.reject(new Error(stderr)), connected.reject);
    const ms = (await connected.promise) - start;
    await backup;
    // The first round warms up.
    if (round === 0) continue;
    bare.push(node);
    http2.push(loading);
    first.push(ms);
  }
  relay.close();
  await Promise.all([source.stop(), store.stop()]);
  const times = ratios(first, http2);
  const rows = [
    ['`node -e 0`, to its end', spread(bare, 0), spread(ratios(bare, http2))],
    ['Node with `node:http2`, to its end', spread(http2, 0), '1.00'],
    ['this worker, to its first connection to etcd', spread(first, 0), spread(times)],
  ];
  const target = {
    what: 'first connection to etcd / loading `node:http2`',
    goal: 1.5,
    rounds: times,
    command: '--sections startup',
  };
  return { tables: [markdown('Start-up', ['', 'ms', 'ratio'], rows)], targets: [target] };
}

/** Of a Node that evaluates this, to its end. */
async function milliseconds(code: string): Promise<number> {
  const start = performance.now();
  await collect(launch(process.execPath, ['-e', code]));
  return performance.now() - start;
}

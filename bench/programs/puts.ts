/**
 * What a client of etcd feels: writes a small key every few milliseconds until SIGTERM, then prints the latencies in
 * milliseconds as JSON.
 *
 *   node bench/programs/puts.ts ENDPOINT CA CERT KEY
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { connectTo } from './connect.ts';

const EVERY_MS = 5;

const connection = connectTo(process.argv.slice(2));
const put = { key: Buffer.from('/registry/leases/bench'), value: Buffer.alloc(300, 'lease') };
const over = new AbortController();
process.once('SIGTERM', () => over.abort());
await connection.ask('KV', 'put', put, 10_000);
console.log('ready');
const latencies: number[] = [];
while (!over.signal.aborted) {
  const start = performance.now();
  await connection.ask('KV', 'put', put, 10_000);
  const took = performance.now() - start;
  latencies.push(took);
  await sleep(Math.max(0, EVERY_MS - took));
}
console.log(JSON.stringify(latencies));
connection.close();

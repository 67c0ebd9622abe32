/**
 * Starts the command `browse` and lists the pods of a namespace twice. A file gets when the first answer was there, since the start, and how
 * long the second one took, in seconds, and the most memory that `browse` had, in MiB.
 *
 *   node bench/programs/browse.ts NAMESPACE FILE COMMAND [ARGUMENT…]
 */
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

const [namespace = '', file = '', command = '', ...args] = process.argv.slice(2);
// Loads the client of this program, which is not measured.
await (await fetch('data:,')).text();
const started = performance.now();
const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
let url: string | undefined;
for await (const line of createInterface(child.stderr)) {
  ({ url } = JSON.parse(line) as { url?: string });
  if (url !== undefined) break;
}
/** Seconds. */
const listPods = async (): Promise<number> => {
  const start = performance.now();
  const answer = await fetch(`${url}/api/v1/namespaces/${namespace}/pods`);
  const { items } = (await answer.json()) as { items: readonly object[] };
  if (items.length === 0) throw new Error('the namespace has no pod');
  return (performance.now() - start) / 1000;
};
await listPods();
const first = (performance.now() - started) / 1000;
const second = await listPods();
const status = readFileSync(`/proc/${child.pid}/status`, 'utf8');
const memory = Number(/^VmHWM:\s*(\d+) kB$/m.exec(status)?.[1]) / 1024;
writeFileSync(file, JSON.stringify({ first, second, memory }));
child.kill('SIGTERM');
await new Promise((resolve) => child.on('exit', resolve));
process.exit(0);

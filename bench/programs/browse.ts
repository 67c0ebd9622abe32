/**
 * Starts `browse` and asks twice for the pods of a namespace. The time of the second answer, in seconds, goes to a file.
 *
 *   node bench/programs/browse.ts MAIN SNAPSHOT NAMESPACE FILE
 */
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

const [main = '', snapshot = '', namespace = '', file = ''] = process.argv.slice(2);
const child = spawn(main, ['browse', snapshot, '--port', '0'], { stdio: ['ignore', 'ignore', 'pipe'] });
let url: string | undefined;
for await (const line of createInterface(child.stderr)) {
  ({ url } = JSON.parse(line) as { url?: string });
  if (url !== undefined) break;
}
const pods = async (): Promise<number> => {
  const answer = await fetch(`${url}/api/v1/namespaces/${namespace}/pods`);
  const { items } = (await answer.json()) as { items: readonly object[] };
  if (items.length === 0) throw new Error('the namespace has no pod');
  return items.length;
};
const first = await pods();
const start = performance.now();
if ((await pods()) !== first) throw new Error('the second answer is another one');
writeFileSync(file, String((performance.now() - start) / 1000));
child.kill('SIGTERM');
await new Promise((resolve) => child.on('exit', resolve));
process.exit(0);

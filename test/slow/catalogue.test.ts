import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { Azurite } from '../support/azurite.ts';
import { putHourly } from '../support/catalogue.ts';
import { collect, temporaryFolder } from '../support/process.ts';
import { startWorker } from '../support/worker.ts';

const COUNT = 20_000;
const MIB = 1024;

const dir = temporaryFolder('catalogue');
const azurite = await Azurite.start(join(dir, 'azurite'));
t.teardown(async () => azurite.stop());
const container = azurite.container('catalogue');
await container.create();
await putHourly(container, COUNT);

t.test(`${COUNT} snapshots are listed and pruned in the memory of the CronJob`, async (t) => {
  const variables = { ...azurite.variables('catalogue'), SNAPSHOT_KEEP_DAILY: '800', SNAPSHOT_TIMEOUT: '15m' };
  for (const [args, lines] of [
    [['list'], COUNT + 4],
    [['list', '--json'], COUNT * 30],
    [['prune', '--dry-run'], COUNT + 5],
  ] as const) {
    const worker = startWorker(args, variables);
    const ended = collect(worker);
    let peak = 0;
    for (let over = false; !over; over = await Promise.race([ended.then(() => true), sleep(20, false)])) {
      peak = Math.max(peak, peakKiB(worker.pid));
    }
    const { code, stdout, ms } = await ended;
    t.equal(code, 0);
    t.ok(stdout.split('\n').length >= lines, 'every one is shown');
    t.ok(peak > 0 && peak < 480 * MIB, `${args.join(' ')}: ${Math.round(peak / MIB)} MiB, ${Math.round(ms)} ms`);
  }
});

/** The most memory that a process has had so far; 0 when it is gone. */
function peakKiB(pid: number | undefined): number {
  try {
    return Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0);
  } catch {
    return 0;
  }
}

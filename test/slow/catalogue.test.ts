import { join } from 'node:path';
import t from 'tap';
import { Azurite } from '../support/azurite.ts';
import { putHourly } from '../support/catalogue.ts';
import { collectPeak } from '../support/peak.ts';
import { temporaryFolder } from '../support/process.ts';
import { startWorker } from '../support/worker.ts';

const COUNT = 20_000;

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
    const { code, stdout, ms, peak } = await collectPeak(worker);
    t.equal(code, 0);
    t.ok(stdout.split('\n').length >= lines, 'every one is shown');
    t.ok(peak > 0 && peak < 480, `${args.join(' ')}: ${Math.round(peak)} MiB, ${Math.round(ms)} ms`);
  }
});

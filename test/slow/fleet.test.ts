import { statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { collectPeak } from '../support/peak.ts';
import { Daemon, freePort, temporaryFolder } from '../support/process.ts';
import { startWorker } from '../support/worker.ts';

const COUNT = 10_000;
const SNAPSHOTS = 120;
const dir = temporaryFolder('fleet');
const port = await freePort();
const url = `http://127.0.0.1:${port}`;
const requests = async (): Promise<number> => Number(await (await fetch(`${url}/requests`)).text());
const store = await Daemon.start(
  process.execPath,
  [join(import.meta.dirname, '../../bench/programs/containers.ts'), String(port), String(SNAPSHOTS)],
  async () =>
    requests().then(
      () => true,
      () => false,
    ),
);
t.teardown(async () => store.stop());

const list = join(dir, 'containers.txt');
writeFileSync(list, Array.from({ length: COUNT }, (_, index) => `testaccount/cluster-${index}\n`).join(''));

/** As in the image. */
const IMAGE = {
  NODE_OPTIONS: '--max-semi-space-size=1',
  MALLOC_ARENA_MAX: '1',
  MALLOC_MMAP_THRESHOLD_: '1000000',
};

for (const output of ['--json', '--html'] as const) {
  t.test(`a report on ${COUNT} containers with ${output} in 256 MiB`, async (t) => {
    const page = join(dir, 'report.html');
    const before = await requests();
    const { code, stdout, stderr, peak, ms } = await collectPeak(
      startWorker(['report', '--containers', list, output, ...(output === '--html' ? [page] : [])], {
        ...IMAGE,
        SNAPSHOT_AZURE_ACCOUNT_NAME: 'testaccount',
        SNAPSHOT_AZURE_ACCOUNT_KEY: Buffer.alloc(64).toString('base64'),
        SNAPSHOT_AZURE_BLOB_ENDPOINT: `${url}/testaccount`,
      }),
    );
    t.equal(code, 0, stderr.slice(-1000));
    if (output === '--html') t.ok(statSync(page).size > COUNT * 3000);
    else t.equal((JSON.parse(stdout) as { clusters: unknown[] }).clusters.length, COUNT);
    t.equal((await requests()) - before, 2 * COUNT, 'a listing and the properties of each container');
    t.ok(peak > 0 && peak < 256, `${Math.round(peak)} MiB, ${Math.round(ms / 1000)} s`);
  });
}

import { randomBytes } from 'node:crypto';
import { statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Daemon, freePort } from '../../test/support/process.ts';
import { type Bench, roomIn, say, worker } from '../bench.ts';
import { markdown, MB } from '../figures.ts';
import { measure } from '../measure.ts';
import type { Report } from '../verdicts.ts';

const SNAPSHOTS = 120;
/** How many clusters, and what is printed. */
const REPORTS = [
  [1_000, ['--metrics', '--json', '--html']],
  [10_000, ['--json', '--html']],
] as const;

/** MiB that a report on ten thousand clusters can use. */
const MEMORY_GOAL = 256;

/**
 * Dollars for 10,000 requests to block blobs, hot tier, zone-redundant, West Europe: what Azure's page of prices said in 2025.
 * Nobody looked them up again. A listing is billed like a write.
 */
const PRICES = { list: 0.0625, read: 0.005 };

/** Reports on many clusters, whose containers a simulated store lists at once: time, memory, requests, and what Azure charges for these. */
export async function fleetSection({ memory }: Bench): Promise<Report> {
  const room = roomIn(memory, 'fleet');
  const port = await freePort();
  const program = join(import.meta.dirname, '..', 'programs', 'containers.ts');
  const url = `http://127.0.0.1:${port}`;
  const asked = async (): Promise<number> => Number(await (await fetch(`${url}/requests`)).text());
  const store = await Daemon.start(process.execPath, [program, String(port), String(SNAPSHOTS)], async () =>
    asked().then(
      () => true,
      () => false,
    ),
  );
  const variables = {
    SNAPSHOT_AZURE_ACCOUNT_NAME: 'testaccount',
    SNAPSHOT_AZURE_ACCOUNT_KEY: randomBytes(64).toString('base64'),
    SNAPSHOT_AZURE_BLOB_ENDPOINT: `${url}/testaccount`,
  };
  const rows: string[][] = [];
  const peaks: number[] = [];
  for (const [count, outputs] of REPORTS) {
    const list = join(room, `${count}.txt`);
    writeFileSync(list, Array.from({ length: count }, (_, index) => `testaccount/cluster-${index}\n`).join(''));
    for (const output of outputs) {
      say(`report on ${count} clusters: ${output}`);
      const page = join(room, 'report.html');
      const before = await asked();
      const args = ['report', '--containers', list, output, ...(output === '--html' ? [page] : [])];
      const { wall, cpu, rss } = await measure([worker(...args)], variables, room);
      const requests = (await asked()) - before;
      const dollars = ((count * PRICES.list + (requests - count) * PRICES.read) / 10_000).toFixed(4);
      const size = output === '--html' ? `, ${(statSync(page).size / MB).toFixed(0)} MB` : '';
      rows.push([
        ...[`${count} clusters, ${output}${size}`, wall.toFixed(0), ((wall / count) * 1000).toFixed(1)],
        ...[cpu.toFixed(0), rss.toFixed(0), String(requests), dollars],
      ]);
      peaks.push(rss);
    }
  }
  await store.stop();
  const columns = ['', 's', 's per 1,000 clusters', 'CPU s', 'MiB', 'requests', 'dollars'];
  return {
    tables: [markdown(`Reports: ${SNAPSHOTS} snapshots and 13 drills of each cluster`, columns, rows)],
    targets: [
      {
        what: 'MiB of a report on 10,000 clusters',
        goal: MEMORY_GOAL,
        rounds: [Math.max(...peaks)],
        digits: 0,
        command: '--sections fleet',
      },
    ],
  };
}

import { join } from 'node:path';
import { MAIN } from '../../test/support/worker.ts';
import { type Bench, type Contender, interleave, nameOfSize, roomIn, say, worker } from '../bench.ts';
import { markdown, ratios, spread } from '../figures.ts';
import type { Command } from '../measure.ts';
import { Source } from '../source.ts';
import { BlobTarget } from '../target.ts';
import type { Report } from '../verdicts.ts';

const NORMAL = 'this worker, as in the image';

/** What each trick gains alone: the same backup with and without it, in turns. */
export async function tricksSection(bench: Bench, sizes: readonly number[]): Promise<Report> {
  const tables: string[] = [];
  for (const size of sizes) tables.push(await tricksOf(bench, size));
  return { tables, targets: [] };
}

async function tricksOf(bench: Bench, size: number): Promise<string> {
  say(`filling etcd with ${nameOfSize(size)}`);
  const room = roomIn(bench.memory, 'tricks');
  const source = await Source.start({ tools: bench.tools, tls: bench.tls, dir: join(room, 'etcd'), size });
  const target = await BlobTarget.start('https', join(room, 'sink'), bench.tls);
  await target.clear();
  const contender = (title: string, command: Command, more: Readonly<Record<string, string>> = {}): Contender => ({
    title,
    commands: () => [command],
    variables: () => ({ ...source.cluster.variables, ...target.variables, ...more }),
    afterwards: async () => target.clear(),
  });
  const costs = await interleave(bench, [
    contender(NORMAL, worker('backup')),
    contender('without the compile cache', without('NODE_COMPILE_CACHE')),
    // A code cache is of one set of flags.
    contender('without it, and with the young generation of Node', [
      ...without('NODE_COMPILE_CACHE').slice(0, -2),
      process.execPath,
      '--',
      MAIN,
      'backup',
    ]),
    contender('without the settings of malloc', without('MALLOC_')),
    contender('with `SNAPSHOT_COMPRESSION=zstd`', worker('backup'), { SNAPSHOT_COMPRESSION: 'zstd' }),
    contender('with `SNAPSHOT_CONTENT_MD5=on`', worker('backup'), { SNAPSHOT_CONTENT_MD5: 'on' }),
    contender('with `SNAPSHOT_READ_BACK=off`, and so an MD5 of each block', worker('backup'), {
      SNAPSHOT_READ_BACK: 'off',
    }),
  ]);
  await Promise.all([source.stop(), target.stop()]);
  const normal = costs.get(NORMAL) ?? [];
  const rows = [...costs].map(([title, runs]) => [
    title,
    spread(
      ratios(
        runs.map(({ wall }) => wall),
        normal.map(({ wall }) => wall),
      ),
    ),
    spread(
      ratios(
        runs.map(({ cpu }) => cpu),
        normal.map(({ cpu }) => cpu),
      ),
    ),
    Math.max(...runs.map(({ rss }) => rss)).toFixed(0),
  ]);
  const columns = ['wall, ratio', 'CPU, ratio', 'peak RSS MiB'];
  return markdown(`Each trick alone, ${nameOfSize(size)} to the sink over TLS`, ['', ...columns], rows);
}

/** The worker without the variables whose names begin like this. */
function without(prefix: string): Command {
  return worker('backup').filter((word) => !word.startsWith(prefix));
}

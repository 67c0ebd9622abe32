import { join } from 'node:path';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { FaultProxy } from '../../test/support/fault-proxy.ts';
import type { Variables } from '../../test/support/process.ts';
import { type Bench, type Contender, interleave, nameOfSize, roomIn, say, worker } from '../bench.ts';
import { GB, markdown, MB, ratios, spread } from '../figures.ts';
import type { Cost } from '../measure.ts';
import { Source } from '../source.ts';
import { BlobTarget } from '../target.ts';
import type { Report, Target } from '../verdicts.ts';

const PLAIN = 'plain';
const COMPRESSED = 'compressed (zstd)';
const SEALED = 'compressed and encrypted (zstd, age)';

const UPLINK_SIZE = 700 * MB;
const UPLINK_BYTES_PER_SECOND = 20 * MB;
/** A plain backup over the slow uplink takes long, and its time differs little between rounds. */
const MOST_ROUNDS = 3;

type Costs = ReadonlyMap<string, readonly (Cost & { readonly seen: number | undefined })[]>;

/** What compression and encryption cost where the store is fast, and save where the uplink is slow. */
export async function sealedSection(bench: Bench, size: number): Promise<Report> {
  const settings = { ...bench, rounds: Math.min(bench.rounds, MOST_ROUNDS) };
  const uplinkSize = Math.min(size, UPLINK_SIZE);
  const fast = await backups(settings, size);
  const slow = await backups(settings, uplinkSize, UPLINK_BYTES_PER_SECOND);
  const rate = `an uplink of ${UPLINK_BYTES_PER_SECOND / MB} MB/s`;
  const tables = [
    table(`${nameOfSize(size)}, plain and sealed, to the sink over TLS`, fast),
    table(`${nameOfSize(uplinkSize)}, plain and sealed, over ${rate}`, slow),
  ];
  return { tables, targets: size < GB ? [] : targetsFor(nameOfSize(size), rate, fast, slow) };
}

/** @param bytesPerSecond of all uploads together; undefined = no limit */
async function backups(bench: Bench, size: number, bytesPerSecond?: number): Promise<Costs> {
  say(`filling etcd with ${nameOfSize(size)}`);
  const room = roomIn(bench.memory, 'sealed');
  const source = await Source.start({ tools: bench.tools, tls: bench.tls, dir: join(room, 'etcd'), size });
  const target = await BlobTarget.start('https', join(room, 'sink'), bench.tls);
  await target.clear();
  const limited = async (rate: number): Promise<FaultProxy> =>
    FaultProxy.start(target.url, ({ method }) => (method === 'PUT' ? { bytesPerSecond: rate } : 'pass'), bench.tls);
  const proxy = bytesPerSecond === undefined ? undefined : await limited(bytesPerSecond);
  const recipient = await identityToRecipient(await generateX25519Identity());
  const contender = (title: string, more: Variables = {}): Contender => ({
    title,
    commands: () => [worker('backup')],
    variables: () => ({
      ...{ ...source.cluster.variables, ...target.variables, ...more },
      SNAPSHOT_AZURE_BLOB_ENDPOINT: proxy?.url ?? target.url,
    }),
    afterwards: async () => target.clear(),
  });
  const zstd = { SNAPSHOT_COMPRESSION: 'zstd' };
  const costs = await interleave(
    bench,
    [
      contender(PLAIN),
      contender(COMPRESSED, zstd),
      contender(SEALED, { ...zstd, SNAPSHOT_ENCRYPTION_RECIPIENTS: recipient }),
    ],
    async (run) => source.readTransactionsOf(run),
  );
  await Promise.all([source.stop(), target.stop(), proxy?.stop()]);
  return costs;
}

function of(costs: Costs, title: string, figure: 'wall' | 'rss' | 'seen'): number[] {
  return (costs.get(title) ?? []).map((cost) => cost[figure] ?? NaN);
}

function table(title: string, costs: Costs): string {
  const rows = [...costs].map(([name, runs]) => [
    name,
    spread(of(costs, name, 'wall')),
    spread(ratios(of(costs, name, 'wall'), of(costs, PLAIN, 'wall'))),
    spread(runs.map(({ cpu }) => cpu)),
    Math.max(...of(costs, name, 'rss')).toFixed(0),
    spread(of(costs, name, 'seen')),
  ]);
  return markdown(title, ['', 'wall s', 'ratio', 'CPU s', 'peak RSS MiB', "etcd's read transaction s"], rows);
}

function targetsFor(size: string, uplink: string, fast: Costs, slow: Costs): Target[] {
  const compare = (
    what: string,
    goal: number,
    costs: Costs,
    title: string,
    base: string,
    figure: 'wall' | 'seen',
  ): Target => ({
    ...{ what, goal, rounds: ratios(of(costs, title, figure), of(costs, base, figure)) },
    command: '--sections sealed',
  });
  const more = of(fast, SEALED, 'rss').map((rss, round) => rss - (of(fast, PLAIN, 'rss')[round] ?? NaN));
  return [
    compare(`${size}: compressed / plain, wall`, 1.1, fast, COMPRESSED, PLAIN, 'wall'),
    compare(`${size}: encrypted, too / compressed, wall`, 1.25, fast, SEALED, COMPRESSED, 'wall'),
    compare(`${size}: compressed and encrypted / plain, read transaction`, 1, fast, SEALED, PLAIN, 'seen'),
    compare(`${uplink}: compressed / plain, wall`, 0.33, slow, COMPRESSED, PLAIN, 'wall'),
    {
      what: `${size}: peak RSS of compressed and encrypted, more than plain, MiB`,
      ...{ goal: 40, rounds: more, judged: Math.max(...more), digits: 0, command: '--sections sealed' },
    },
  ];
}

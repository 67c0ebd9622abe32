import { join } from 'node:path';
import type { Variables } from '../../test/support/process.ts';
import { type Bench, type Contender, interleave, nameOfSize, program, roomIn, say, worker } from '../bench.ts';
import { GB, markdown, MB, median, MIB, ratios, spread } from '../figures.ts';
import type { Command, Cost } from '../measure.ts';
import { Source } from '../source.ts';
import { BlobTarget, STORE_TITLES, type StoreName } from '../target.ts';
import type { Report, Target } from '../verdicts.ts';

const PROVEN = 'this worker';
const UNREAD = 'this worker, `SNAPSHOT_READ_BACK=off`';
const CHAIN = "the book's chain";
const SAVE = '`etcdctl snapshot save` to disk';
const SAVE_MEMORY = "limit: etcd's stream, its own client (save to memory)";
const DRAIN = "limit: etcd's stream, our client (thrown away)";
const CARRY = "limit: our client into the SDK's `uploadStream`, nothing verified";
const UPLOAD = "limit: the upload alone (the SDK's `uploadFile`)";

/** MiB that the verifier's facts take for each GiB of a Kubernetes-like database, with a tenth for the noise. */
const FACTS_PER_GIB = 33 * 1.1;

type Costs = (Cost & { readonly seen: number | undefined })[];

/** The whole job, beside what it replaces and beside what nobody can be faster than. */
export async function backupSection(bench: Bench): Promise<Report> {
  const [tables, targets]: [string[], Target[]] = [[], []];
  const peaks = new Map<number, readonly number[]>();
  for (const size of bench.sizes) {
    say(`filling etcd with ${nameOfSize(size)}`);
    const room = roomIn(bench.memory, 'backup');
    const source = await Source.start({ tools: bench.tools, tls: bench.tls, dir: join(room, 'etcd'), size });
    const file = join(room, 'snapshot.db');
    await source.saveTo(file);
    for (const store of bench.stores ?? storesFor(size)) {
      const target = await BlobTarget.start(store, join(room, store), bench.tls);
      await target.clear();
      const contenders = contendersFor(bench, source, target, store, file);
      const costs = await interleave(bench, contenders, async (run) => {
        const before = await source.readTransactions();
        await run();
        return (await source.readTransactions()) - before;
      });
      tables.push(table(size, store, costs));
      targets.push(...targetsFor(size, store, costs));
      const peak = (costs.get(PROVEN) ?? []).map(({ rss }, round) => Math.max(rss, peaks.get(size)?.[round] ?? 0));
      peaks.set(size, peak);
      await target.stop();
    }
    await source.stop();
  }
  return { tables, targets: [...targets, ...memoryTargets(peaks)] };
}

function storesFor(size: number): StoreName[] {
  if (size < 100 * MB) return ['azurite'];
  return size < GB ? ['azurite', 'https'] : ['https'];
}

function contendersFor(
  { hasCli, tools }: Bench,
  source: Source,
  target: BlobTarget,
  store: StoreName,
  file: string,
): Contender[] {
  const afterwards = async (): Promise<void> => target.clear();
  const variables = { ...source.cluster.variables, ...target.variables };
  const unread = { ...variables, SNAPSHOT_READ_BACK: 'off' };
  const chain = (folder: string): Command[] => {
    const saved = join(folder, 'snapshot.db');
    const upload = ['az', 'storage', 'blob', 'upload', '--container-name', 'bench', '--file', saved];
    return [
      source.save(saved),
      ['env', 'ETCDCTL_API=3', tools.snapshotTool, 'snapshot', 'status', saved],
      ['az', 'storage', 'container', 'create', '--name', 'bench'],
      [...upload, '--name', `kubernetes-etcd-snapshot_${Date.now()}.db`, '--no-progress'],
    ];
  };
  const cli = (folder: string): Variables => target.cliVariables(folder);
  const all: Contender[] = [
    { title: PROVEN, commands: () => [worker('backup')], variables: () => variables, afterwards },
    { title: UNREAD, commands: () => [worker('backup')], variables: () => unread, afterwards },
    ...(hasCli ? [{ title: CHAIN, commands: chain, variables: cli, afterwards }] : []),
    { title: SAVE, commands: (folder) => [source.save(join(folder, 'snapshot.db'))] },
  ];
  if (store === 'azurite') return all;
  return [
    ...all,
    { title: SAVE_MEMORY, commands: () => [source.save(`${file}.again`)] },
    {
      title: CARRY,
      commands: () => [program('carry', ...source.place)],
      variables: () => target.variables,
      afterwards,
    },
    { title: DRAIN, commands: () => [program('drain', ...source.place)] },
    { title: UPLOAD, commands: () => [program('upload', file)], variables: () => target.variables, afterwards },
  ];
}

function table(size: number, store: StoreName, costs: ReadonlyMap<string, Costs>): string {
  const base = slowerLimit(costs) ?? costs.get(CHAIN) ?? costs.get(SAVE) ?? [];
  const rows = [...costs].map(([name, runs]) => {
    const transactions = runs.map(({ seen = NaN }) => seen);
    const written = median(runs.map(({ written: bytes = NaN }) => bytes));
    return [
      name,
      spread(walls(runs)),
      spread(ratios(walls(runs), walls(base))),
      spread(runs.map(({ cpu }) => cpu)),
      spread(runs.map(({ machine }) => machine)),
      Math.max(...runs.map(({ rss }) => rss)).toFixed(0),
      Number.isNaN(written) ? 'not counted' : written.toFixed(0),
      Math.max(...transactions) === 0 ? '–' : spread(transactions, size < GB ? 3 : 2),
    ];
  });
  const columns = [
    'wall s',
    'ratio',
    'CPU s',
    'with servers',
    'peak RSS MiB',
    'MB to disk',
    "etcd's read transaction s",
  ];
  return markdown(`${nameOfSize(size)} to ${STORE_TITLES[store]}`, ['', ...columns], rows);
}

/** By its median; undefined where the limits were not measured. */
function slowerLimit(costs: ReadonlyMap<string, Costs>): Costs | undefined {
  const limits = [SAVE_MEMORY, UPLOAD].flatMap((name) => {
    const runs = costs.get(name);
    return runs === undefined ? [] : [runs];
  });
  return limits.toSorted((a, b) => median(walls(b)) - median(walls(a)))[0];
}

function walls(runs: Costs): number[] {
  return runs.map(({ wall }) => wall);
}

function targetsFor(size: number, store: StoreName, costs: ReadonlyMap<string, Costs>): Target[] {
  const runs = (name: string): Costs => costs.get(name) ?? [];
  const place = `${nameOfSize(size)} to ${STORE_TITLES[store]}`;
  // Without what the file system notes of files that are read for the first time, which are some KB.
  const written = runs(PROVEN).map(({ written: bytes = 0 }) => Math.floor(bytes * 10) / 10);
  const targets: Target[] = [
    { what: `${place}: MB to disk`, limit: 0, rounds: written, judged: Math.max(...written), digits: 1 },
  ];
  if (size < 100 * MB && store === 'azurite' && costs.has(CHAIN)) {
    const cpus = (name: string): number[] => runs(name).map(({ cpu }) => cpu);
    targets.push(
      { what: `${place}: wall / the chain`, limit: 1 / 5, rounds: ratios(walls(runs(PROVEN)), walls(runs(CHAIN))) },
      { what: `${place}: CPU / the chain`, limit: 1 / 4, rounds: ratios(cpus(PROVEN), cpus(CHAIN)) },
    );
  }
  const slower = slowerLimit(costs);
  if (slower === undefined || size < GB) return targets;
  for (const [name, title] of [
    [CARRY, 'nothing verified'],
    [UNREAD, 'without read-back'],
    [PROVEN, 'with read-back'],
  ] as const) {
    const against = (limit: Costs): number[] => ratios(walls(runs(name)), walls(limit));
    targets.push(
      { what: `${place}, ${title}: wall / slower limit`, limit: 1.15, rounds: against(slower) },
      { what: `${place}, ${title}: wall / etcdctl's save to disk`, limit: 1, rounds: against(runs(SAVE)) },
    );
  }
  return targets;
}

/** @param peaks MiB of each round, by size of the database in bytes */
function memoryTargets(peaks: ReadonlyMap<number, readonly number[]>): Target[] {
  const sizes = [...peaks.keys()].toSorted((a, b) => a - b);
  const [bounded, beyond] = [sizes.filter((size) => size <= 240 * MB), sizes.filter((size) => size > 240 * MB)];
  const of = (size = NaN): readonly number[] => peaks.get(size) ?? [];
  const targets: Target[] = [];
  if (bounded.length > 0) {
    const rounds = bounded.flatMap(of);
    const judged = Math.max(...rounds);
    targets.push({ what: 'peak RSS up to 240 MB, MiB', limit: 160, rounds, judged, digits: 0 });
  }
  const [small, large] = [bounded.at(-1), beyond.at(-1)];
  if (small !== undefined && large !== undefined) {
    const growth = (from = NaN, to = NaN): number => ((to - from) / (large - small)) * 1024 * MIB;
    const rounds = of(large).map((peak, round) => growth(of(small)[round], peak));
    const judged = growth(Math.max(...of(small)), Math.max(...of(large)));
    targets.push({ what: 'growth of it beyond, MiB per GiB', limit: FACTS_PER_GIB, rounds, judged, digits: 0 });
  }
  return targets;
}

import { createReadStream, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { constants, createZstdCompress } from 'node:zlib';
import type { Variables } from '../../test/support/process.ts';
import { type Bench, type Contender, interleave, nameOfSize, program, roomIn, say, worker } from '../bench.ts';
import { GB, markdown, MB, median, MIB, ratios, spread } from '../figures.ts';
import type { Command, Cost } from '../measure.ts';
import { Source } from '../source.ts';
import { BlobTarget, STORE_TITLES, type StoreName } from '../target.ts';
import type { Report, Target } from '../verdicts.ts';

const PROVEN = 'this worker';
const UNREAD = 'this worker, `SNAPSHOT_READ_BACK=off`';
const CHAIN = "the shell worker's chain";
const SAVE = '`etcdctl snapshot save` to disk';
const SAVE_MEMORY = "limit: etcd's stream, its own client (save to memory)";
const DRAIN = "limit: etcd's stream, our client (thrown away)";
const UPLOAD = "limit: the upload alone (the SDK's `uploadFile`)";

/** MiB that the verifier's page index takes for each GiB of a Kubernetes-like database, with a tenth for the noise. */
const INDEX_PER_GIB = 33 * 1.1;

/** Up to here every contender runs against every store; beyond, only those that the goals need. */
const SMALL = 240 * MB;

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
    const ratio = (await zstdRatio(file)).toFixed(1);
    for (const store of bench.stores ?? storesFor(size)) {
      const target = await BlobTarget.start(store, join(room, store), bench.tls);
      await target.clear();
      const contenders = contendersFor(bench, source, target, { store, file, size });
      const costs = await interleave(bench, contenders, async (run) => source.readTransactionsOf(run));
      tables.push(
        table(`${nameOfSize(size)} (zstd makes it ${ratio} times smaller) to ${STORE_TITLES[store]}`, costs, size),
      );
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
  return size > SMALL ? ['https'] : ['azurite', 'https'];
}

function contendersFor(
  { hasCli, tools }: Bench,
  source: Source,
  target: BlobTarget,
  { store, file, size }: { readonly store: StoreName; readonly file: string; readonly size: number },
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
  const worksLike: Contender[] = [
    { title: PROVEN, commands: () => [worker('backup')], variables: () => variables, afterwards },
    { title: UNREAD, commands: () => [worker('backup')], variables: () => unread, afterwards },
    { title: SAVE, commands: (folder) => [source.save(join(folder, 'snapshot.db'))] },
  ];
  if (size > SMALL && size < GB) return worksLike;
  const all = [...worksLike, ...(hasCli ? [{ title: CHAIN, commands: chain, variables: cli, afterwards }] : [])];
  if (store === 'azurite') return all;
  return [
    ...all,
    { title: SAVE_MEMORY, commands: () => [source.save(`${file}.again`)] },
    { title: DRAIN, commands: () => [program('drain', ...source.place)] },
    { title: UPLOAD, commands: () => [program('upload', file)], variables: () => target.variables, afterwards },
  ];
}

/** How many times smaller zstd at level 1 makes a file. */
async function zstdRatio(file: string): Promise<number> {
  let compressed = 0;
  const zstd = createZstdCompress({ params: { [constants.ZSTD_c_compressionLevel]: 1 } });
  for await (const chunk of createReadStream(file).pipe(zstd) as AsyncIterable<Buffer>) compressed += chunk.length;
  return statSync(file).size / compressed;
}

function table(title: string, costs: ReadonlyMap<string, Costs>, size: number): string {
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
  return markdown(title, ['', ...columns], rows);
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
  const has = (...titles: string[]): boolean => titles.every((title) => costs.has(title));
  const of = (title: string, figure: (cost: Costs[number]) => number): number[] => (costs.get(title) ?? []).map(figure);
  const wall = (title: string): number[] => walls(costs.get(title) ?? []);
  const cpu = (title: string): number[] => of(title, (cost) => cost.cpu);
  /** The wall time that the same work takes with all processors at work. */
  const least = (title: string): number[] => of(title, ({ machine }) => machine / availableParallelism());
  const read = (title: string): number[] => of(title, ({ seen = NaN }) => seen);

  const targets: Target[] = [];
  const command = `--sections backup --sizes ${nameOfSize(size).replace(' ', '')} --stores ${store}`;
  const add = (what: string, goal: number, rounds: number[], floor?: number[]): void =>
    void targets.push({ what: `${nameOfSize(size)}: ${what}`, goal, rounds, ...(floor && { floor }), command });
  const addWall = (title: string, what: string, goal: number, base: number[]): void =>
    add(what, goal, ratios(wall(title), base), ratios(least(title), base));

  // Without what the file system notes of files that are read for the first time, which are some KB.
  const written = of(PROVEN, ({ written: bytes = 0 }) => Math.floor(bytes * 10) / 10);
  targets.push({
    ...{ what: `${nameOfSize(size)} to ${STORE_TITLES[store]}: MB to disk`, goal: 0, command },
    ...{ rounds: written, judged: Math.max(...written), digits: 1 },
  });
  if (size < 100 * MB && store === 'azurite' && has(CHAIN)) {
    addWall(PROVEN, 'wall / the chain', 0.12, wall(CHAIN));
    add('CPU / the chain', 0.12, ratios(cpu(PROVEN), cpu(CHAIN)));
  }
  if (size > SMALL && size < GB && store === 'https') {
    addWall(PROVEN, "wall / etcdctl's save", 1.5, wall(SAVE));
    addWall(UNREAD, "without read-back: wall / etcdctl's save", 1.4, wall(SAVE));
    add("CPU / etcdctl's save", 1.25, ratios(cpu(PROVEN), cpu(SAVE)));
    add("without read-back: CPU / etcdctl's save", 1.05, ratios(cpu(UNREAD), cpu(SAVE)));
  }
  if (size < GB || !has(DRAIN)) return targets;
  const apart = cpu(DRAIN).map((seconds, round) => seconds + (cpu(UPLOAD)[round] ?? NaN));
  const slower = walls(slowerLimit(costs) ?? []);
  add("CPU / (etcd's stream + the SDK's upload)", 1.35, ratios(cpu(PROVEN), apart));
  add("without read-back: CPU / (etcd's stream + the SDK's upload)", 1.1, ratios(cpu(UNREAD), apart));
  add(`wall / (machine seconds / ${availableParallelism()})`, 1.15, ratios(wall(PROVEN), least(PROVEN)));
  addWall(PROVEN, 'wall / slower limit', 1.5, slower);
  addWall(UNREAD, 'without read-back: wall / slower limit', 1.25, slower);
  add("etcd's read transaction / during etcdctl's save", 1.15, ratios(read(PROVEN), read(SAVE)));
  if (has(CHAIN)) addWall(PROVEN, 'wall / the chain', 0.75, wall(CHAIN));
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
    targets.push({
      what: 'peak RSS up to 240 MB, MiB',
      goal: 140,
      rounds,
      judged,
      digits: 0,
      command: '--sections backup --sizes 3MB,240MB',
    });
  }
  const [small, large] = [bounded.at(-1), beyond.at(-1)];
  if (small !== undefined && large !== undefined) {
    const growth = (from = NaN, to = NaN): number => ((to - from) / (large - small)) * 1024 * MIB;
    const rounds = of(large).map((peak, round) => growth(of(small)[round], peak));
    const judged = growth(Math.max(...of(small)), Math.max(...of(large)));
    targets.push({
      what: 'growth of it beyond, MiB per GiB',
      goal: INDEX_PER_GIB,
      rounds,
      judged,
      digits: 0,
      command: '--sections backup --sizes 240MB,2GB',
    });
  }
  return targets;
}

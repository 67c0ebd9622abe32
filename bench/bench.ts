import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Authority } from '../test/support/certificates.ts';
import type { EtcdTools } from '../test/support/etcd.ts';
import { mustRun, type Variables } from '../test/support/process.ts';
import { MAIN } from '../test/support/worker.ts';
import { type Command, type Cost, measure } from './measure.ts';
import { GB, MB } from './figures.ts';
import type { StoreName } from './target.ts';

/** What all sections work with. */
export interface Bench {
  readonly tools: EtcdTools;
  readonly tls: Authority;
  /** Where servers keep their data: in memory where there is room, so that no disk is measured. */
  readonly memory: string;
  /** Where what is measured writes its files: on a disk. */
  readonly disk: string;
  readonly rounds: number;
  /** Bytes of the databases. */
  readonly sizes: readonly number[];
  /** Undefined = those that suit the size. */
  readonly stores: readonly StoreName[] | undefined;
  /** Whether the Azure CLI is there. */
  readonly hasCli: boolean;
}

/** Something to be measured beside others. */
export interface Contender {
  readonly title: string;
  readonly commands: (folder: string) => readonly Command[];
  readonly variables?: (folder: string) => Variables;
  /** Follows each run, and is not measured. */
  readonly afterwards?: () => Promise<void>;
}

/** As in the Dockerfile. */
const MALLOC = ['MALLOC_ARENA_MAX=1', 'MALLOC_MMAP_THRESHOLD_=1000000'];

let compileCache = '';

/** Makes the compile cache that the image has, too. */
export async function makeCompileCache(folder: string): Promise<void> {
  compileCache = join(folder, 'compile-cache');
  await mustRun(join(import.meta.dirname, '..', 'scripts', 'bundle', 'compile-cache.sh'), [MAIN, compileCache]);
}

/** The worker, as the image runs it. */
export function worker(...args: string[]): Command {
  return ['env', ...MALLOC, `NODE_COMPILE_CACHE=${compileCache}`, MAIN, ...args];
}

export function program(name: string, ...args: string[]): Command {
  return [process.execPath, join(import.meta.dirname, 'programs', `${name}.ts`), ...args];
}

/**
 * Runs the contenders in turn, round after round, so that what disturbs the machine disturbs all of them; the first round
 * warms up and does not count, unless it is the only one.
 * @param watch runs around each of them, and adds what it saw
 */
export async function interleave<Seen = undefined>(
  bench: Bench,
  contenders: readonly Contender[],
  watch?: (run: () => Promise<Cost>) => Promise<Seen>,
): Promise<Map<string, (Cost & { readonly seen: Seen | undefined })[]>> {
  const costs = new Map(contenders.map(({ title }) => [title, [] as (Cost & { readonly seen: Seen | undefined })[]]));
  const warmUp = bench.rounds > 1 ? 1 : 0;
  for (let round = 0; round < bench.rounds + warmUp; round++) {
    for (const contender of contenders) {
      say(`round ${round + 1 - warmUp} of ${bench.rounds}: ${contender.title}`);
      const { cost, seen } = await once(bench, contender, watch);
      if (round >= warmUp) costs.get(contender.title)?.push({ ...cost, seen });
    }
  }
  return costs;
}

async function once<Seen>(
  { disk }: Bench,
  { commands, variables, afterwards }: Contender,
  watch: ((run: () => Promise<Cost>) => Promise<Seen>) | undefined,
): Promise<{ cost: Cost; seen: Seen | undefined }> {
  const folder = mkdtempSync(join(disk, 'run-'));
  let cost: Cost | undefined;
  const run = async (): Promise<Cost> => (cost = await measure(commands(folder), variables?.(folder) ?? {}, folder));
  try {
    const seen = watch === undefined ? (await run(), undefined) : await watch(run);
    await afterwards?.();
    if (cost === undefined) throw new Error('nothing ran');
    return { cost, seen };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** An empty folder in memory for the servers of one section. */
export function roomIn(parent: string, name: string): string {
  const room = join(parent, name);
  rmSync(room, { recursive: true, force: true });
  mkdirSync(room, { recursive: true });
  return room;
}

/** Progress, on stderr. */
export function say(text: string): void {
  console.error(`${new Date().toISOString().slice(11, 19)}  ${text}`);
}

export function nameOfSize(bytes: number): string {
  return bytes >= GB ? `${bytes / GB} GB` : `${bytes / MB} MB`;
}

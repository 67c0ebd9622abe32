import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { VerdictWithoutHash } from '../../src/snapshot/verify/verdict.ts';
import { SnapshotVerifier } from '../../src/snapshot/verify/verifier.ts';
import { PAGE } from './bbolt.ts';
import { databaseOf, databaseVectors } from './databases.ts';
import { fuzz, fuzzDatabase, type Fuzzed } from './fuzz.ts';
import { temporaryFolder } from './process.ts';
import { Random } from './random.ts';
import { type Tool, tools } from './tools.ts';
import { snapshotOf, type Status } from './vectors.ts';

const BUDGET = 16 * 1024 * 1024;
const SLOWEST = 5_000;
const BASES = [
  'etcd-3.4.23-compacted',
  'etcd-3.4.23-rootsplit',
  'etcd-3.5.16-auth',
  'etcd-3.5.16-k8s',
  'etcd-3.5.16-pageimages',
  'etcd-3.5.30-cluster3',
  'etcd-3.5.30-leases',
  'etcd-3.6.16-bumped',
  'etcd-3.6.16-compacting',
];

/** Copies of databases, with a few pages behind the last one, and snapshots without their sha256. */
const databases = (): Buffer[] => [
  ...databaseVectors()
    .filter(({ verdict }) => verdict === 'accept')
    .map((vector) => databaseOf(vector).subarray(0, (vector.highWaterMarks[0] + 2) * PAGE)),
  ...BASES.slice(0, 3).map((name) => snapshotOf(name).subarray(0, -32)),
];

export interface Outcome {
  mutations: number;
  accepted: number;
  undecided: number;
  /** How often a real tool was asked about an accepted mutation. */
  asked: number;
  /** What must not be. */
  readonly failures: string[];
}

/**
 * Verifies the mutations that belong to the seeds from `first` on, and asks the real tools about those that are accepted:
 * none may be refused, and the numbers must be the same. `askUpTo` limits how many are asked about.
 * `databases` are verified without a sha256.
 */
export async function fuzzing(
  first: number,
  mutations: number,
  askUpTo: number,
  what: 'snapshots' | 'databases' = 'snapshots',
): Promise<Outcome> {
  const outcome: Outcome = { mutations, accepted: 0, undecided: 0, asked: 0, failures: [] };
  const isSnapshot = what === 'snapshots';
  const bases = isSnapshot ? BASES.map(snapshotOf) : databases();
  const oracles = tools();
  const folder = temporaryFolder('fuzzing');
  const asking = new Set<Promise<void>>();
  for (let seed = first; seed < first + mutations; seed++) {
    const mutated = (isSnapshot ? fuzz : fuzzDatabase)(new Random(seed).of(bases), seed);
    const verdict = attempt(mutated, new Random(seed), isSnapshot, outcome.failures);
    if (verdict === undefined) continue;
    if (!verdict.ok && verdict.undecided) outcome.undecided++;
    if (!verdict.ok) continue;
    outcome.accepted++;
    if (outcome.accepted > askUpTo || oracles.length === 0) continue;
    const file = join(folder, `${seed}.snap`);
    writeFileSync(file, mutated.bytes);
    const asked = ask(oracles, file, mutated, verdict, outcome).finally(() => {
      rmSync(file);
      asking.delete(asked);
    });
    asking.add(asked);
    if (asking.size >= 2) await Promise.race(asking);
  }
  await Promise.all(asking);
  return outcome;
}

function attempt(
  { what, bytes }: Fuzzed,
  random: Random,
  isSnapshot: boolean,
  failures: string[],
): VerdictWithoutHash | undefined {
  const start = performance.now();
  try {
    const verifier = new SnapshotVerifier({ memoryBudget: BUDGET });
    for (let at = 0; at < bytes.length;) {
      const length = random.of([4096, 32_768, 1 + random.below(50_000)]);
      verifier.push(bytes.subarray(at, at + length));
      at += length;
    }
    const verdict = isSnapshot ? verifier.finish() : verifier.finishWithoutHash();
    if (verifier.peakMemory > BUDGET) failures.push(`${what}: took ${verifier.peakMemory} bytes`);
    if (performance.now() - start > SLOWEST) failures.push(`${what}: took ${performance.now() - start} ms`);
    if (!verdict.ok && verdict.problems.length > 100) failures.push(`${what}: ${verdict.problems.length} problems`);
    return verdict;
  } catch (error) {
    failures.push(`${what}: threw ${error instanceof Error ? error.stack : String(error)}`);
    return undefined;
  }
}

async function ask(
  oracles: readonly Tool[],
  file: string,
  { what }: Fuzzed,
  verdict: VerdictWithoutHash & { ok: true },
  outcome: Outcome,
): Promise<void> {
  const { hash, revision, totalKeys, totalKeys36, totalSize } = verdict.snapshot.facts;
  for (const oracle of oracles) {
    outcome.asked++;
    const status = await oracle.status(file);
    const ours = `${hash} ${revision} ${oracle.is36 ? totalKeys36 : totalKeys} ${totalSize}`;
    if (ours === textOf(status)) continue;
    // `status` stumbles over a damaged meta page that nobody goes by; a restore does not.
    const restored = status === undefined && !verdict.report.hashChecked ? await oracle.restored(file) : undefined;
    if (restored?.revision === revision) continue;
    outcome.failures.push(`${what}: ${oracle.name} says ${textOf(status) ?? 'no'}, we say ${ours}`);
  }
}

function textOf(status: Status | undefined): string | undefined {
  return status && `${status.hash.toString(16)} ${status.revision} ${status.totalKey} ${status.totalSize}`;
}

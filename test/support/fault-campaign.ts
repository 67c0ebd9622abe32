import { createHash } from 'node:crypto';
import { join } from 'node:path';
import type { ContainerClient } from '@azure/storage-blob';
import type { Test } from 'tap';
import { SnapshotVerifier } from '../../src/snapshot/verify/verifier.ts';
import type { Azurite } from './azurite.ts';
import { EtcdCluster, findEtcd } from './etcd.ts';
import { type Fault, FaultProxy, type FaultRule } from './fault-proxy.ts';
import type { Finished } from './process.ts';
import { Random } from './random.ts';
import { errorOf, runWorker } from './worker.ts';

/** Faults that a run must survive when they are few, and those that may end it. */
const PASSING: readonly ((random: Random) => Fault)[] = [
  () => ({ status: 503, code: 'ServerBusy' }),
  () => ({ status: 500, code: 'InternalError' }),
  () => ({ status: 429, retryAfter: 1 }),
  (random) => ({ status: random.of([408, 502, 504]) }),
  () => 'reset',
  () => 'lose-answer',
  () => 'cut',
  () => 'short',
  (random) => ({ cutAfter: random.below(10_000_000) }),
  (random) => ({ bytesPerSecond: 5_000_000 + random.below(10_000_000) }),
];
const ENDING: readonly ((random: Random) => Fault)[] = [
  () => 'hang',
  (random) => ({ stallAfter: random.below(1_000_000) }),
  () => 'flip',
  () => 'other-range',
  () => ({ status: 403, code: 'AuthorizationPermissionMismatch' }),
];

/** So many requests of a run, from this one on, meet the fault. */
interface Misfortune {
  readonly at: number;
  readonly times: number;
  readonly fault: Fault;
}

interface Plan {
  readonly command: 'backup' | 'verify' | 'list';
  readonly misfortunes: readonly Misfortune[];
  /** Whether the run must come to a good end all the same. */
  readonly isSurvivable: boolean;
  /** Seconds. */
  readonly timeout: number;
}

export interface Ends {
  /** How many runs of a command ended with a code. */
  readonly counts: Record<string, number>;
  /** What broke a promise, with the seed that does it again. */
  readonly failures: readonly string[];
}

/** A cluster and the container with its snapshots. */
interface Ground {
  readonly cluster: EtcdCluster;
  readonly container: string;
}

/** A database of one block, and one of several. */
export async function startClusters(t: Test, dir: string): Promise<EtcdCluster[]> {
  const tools = findEtcd().at(-1);
  if (tools === undefined) throw new Error('no etcd');
  return Promise.all(
    [20, 300].map(async (keys) => {
      const cluster = await EtcdCluster.start({ tools, dir: join(dir, String(keys)) });
      t.teardown(async () => cluster.stop());
      await cluster.fill(keys, 50_000);
      return cluster;
    }),
  );
}

/**
 * Runs the worker so many times, each time with faults of its own seed between it and Azurite, and looks after each run at
 * what is stored, past the faults: whether it is whole, whether anything is lost, whether the exit code told the truth.
 * @param name of the campaign, whose containers are its own
 */
export async function faultCampaign(
  azurite: Azurite,
  clusters: readonly EtcdCluster[],
  name: string,
  seed: number,
  runs: number,
): Promise<Ends> {
  const grounds = clusters.map((cluster, index) => ({ cluster, container: `${name}-${index}` }));
  const counts: Record<string, number> = {};
  const failures: string[] = [];
  for (const { cluster, container } of grounds) {
    const { code, stderr } = await runWorker([], { ...cluster.variables, ...azurite.variables(container) });
    if (code !== 0) throw new Error(stderr);
  }
  for (let run = seed; run < seed + runs; run++) {
    const random = new Random(run);
    const ground = random.of(grounds);
    const plan = makePlan(random);
    const before = await look(azurite.container(ground.container));
    const finished = await suffer(azurite, ground, plan, random.of([...before.keys()]));
    const after = await look(azurite.container(ground.container));
    const end = `${plan.command} ${finished.code}`;
    counts[end] = (counts[end] ?? 0) + 1;
    for (const failure of [
      ...wrongEnd(plan, finished),
      ...wrongChanges(plan, finished, before, after),
      ...(await unsoundOnes(azurite.container(ground.container), before, after)),
    ]) {
      const told = finished.stderr.slice(-1500);
      failures.push(`seed ${run}, ${ground.container}, ${JSON.stringify(plan)}: ${failure}\n${told}`);
    }
  }
  return { counts, failures };
}

function makePlan(random: Random): Plan {
  const command = random.of(['backup', 'backup', 'backup', 'backup', 'verify', 'list'] as const);
  const isMild = random.below(2) === 0;
  const misfortunes = Array.from({ length: 1 + random.below(4) }, () => ({
    // A list is few requests, a backup of several blocks about ten, and some more with what is repeated.
    at: random.below(command === 'backup' ? 9 : 3),
    times: isMild || random.below(8) > 0 ? 1 + random.below(3) : 1000,
    fault: random.of(isMild ? PASSING : [...PASSING, ...ENDING])(random),
  }));
  // A store that has never answered is not waited for long.
  const isAnsweredSoon = [0, 1, 2].some((request) => !misfortunes.some((one) => strikes(one, request)));
  return {
    command,
    misfortunes,
    isSurvivable: isMild && isAnsweredSoon,
    timeout: isMild ? 120 : random.of([6, 6, 25]),
  };
}

function strikes({ at, times }: Misfortune, request: number): boolean {
  return at <= request && request < at + times;
}

/** Runs the worker through a proxy that keeps to the plan. */
async function suffer(azurite: Azurite, ground: Ground, plan: Plan, victim: string): Promise<Finished> {
  let request = 0;
  const rule: FaultRule = ({ method, url }) => {
    const now = request++;
    const fault = plan.misfortunes.find((misfortune) => strikes(misfortune, now))?.fault ?? 'pass';
    // What is listed has no checksum: against changed answers there is TLS.
    return fault === 'flip' && (method !== 'GET' || url.searchParams.has('comp')) ? 'pass' : fault;
  };
  const proxy = await FaultProxy.start(azurite.url, rule);
  try {
    return await runWorker([plan.command, ...(plan.command === 'verify' ? [victim] : []), '--json'], {
      ...ground.cluster.variables,
      ...azurite.variables(ground.container),
      SNAPSHOT_AZURE_BLOB_ENDPOINT: proxy.url,
      SNAPSHOT_KEEP_LAST: '3',
      SNAPSHOT_TIMEOUT: `${plan.timeout}s`,
    });
  } finally {
    await proxy.stop();
  }
}

interface Visible {
  readonly etag: string;
  readonly sha256: string;
}

async function look(container: ContainerClient): Promise<ReadonlyMap<string, Visible>> {
  const visible = new Map<string, Visible>();
  for await (const { name, properties, metadata } of container.listBlobsFlat({ includeMetadata: true })) {
    visible.set(name, { etag: properties.etag, sha256: metadata?.['sha256'] ?? '' });
  }
  return visible;
}

function wrongEnd({ command, misfortunes, isSurvivable }: Plan, { code, stderr }: Finished): string[] {
  const codes: (number | null)[] = command === 'backup' ? [0, 3, 12] : [0, 12];
  const isFlipped = misfortunes.some(({ fault }) => fault === 'flip');
  // The time that storage took may end when etcd is asked.
  if (command === 'backup' && stderr.includes('SNAPSHOT_TIMEOUT')) codes.push(10);
  if (command === 'verify' && isFlipped) codes.push(11);
  return [
    ...(codes.includes(code) ? [] : [`code ${code}`]),
    ...(isSurvivable && code !== 0 ? [`code ${code} after faults that pass`] : []),
  ];
}

/** What a run changed must be what it said, and no more. */
function wrongChanges(
  { command }: Plan,
  finished: Finished,
  before: ReadonlyMap<string, Visible>,
  after: ReadonlyMap<string, Visible>,
): string[] {
  const came = [...after.keys()].filter((name) => !before.has(name));
  const gone = [...before.keys()].filter((name) => !after.has(name));
  const changed = [...before].filter(([name, { etag }]) => after.has(name) && after.get(name)?.etag !== etag);
  const isStored = command === 'backup' && (finished.code === 0 || finished.code === 3);
  const { name, sha256, retention } = isStored ? (JSON.parse(finished.stdout) as Result) : NOTHING;
  const mayBeGone = (missing: string): boolean =>
    retention.removed.includes(missing) || (finished.code === 3 && errorOf(finished).message.includes(missing));
  return [
    ...changed.map(([blob]) => `${blob} was changed`),
    ...gone.filter((blob) => !mayBeGone(blob)).map((blob) => `${blob} is lost`),
    ...retention.removed.filter((blob) => after.has(blob)).map((blob) => `${blob} is still there`),
    ...(isStored && after.get(name)?.sha256 !== sha256 ? [`${name} is not there`] : []),
    ...(came.length > (command === 'backup' ? 1 : 0) ? [`${came.join(' and ')} came`] : []),
  ];
}

interface Result {
  readonly name: string;
  readonly sha256: string;
  readonly retention: { readonly removed: readonly string[] };
}

const NOTHING: Result = { name: '', sha256: '', retention: { removed: [] } };

/** New blobs that are not whole, sound and as their record says, whatever the run said about them. */
async function unsoundOnes(
  container: ContainerClient,
  before: ReadonlyMap<string, Visible>,
  after: ReadonlyMap<string, Visible>,
): Promise<string[]> {
  const unsound: string[] = [];
  for (const [name, { sha256 }] of after) {
    if (before.has(name)) continue;
    const bytes = await container.getBlobClient(name).downloadToBuffer();
    const verifier = new SnapshotVerifier();
    verifier.push(bytes);
    const isSound = verifier.finish().ok && createHash('sha256').update(bytes).digest('hex') === sha256;
    if (!isSound) unsound.push(`${name} is visible and not sound`);
  }
  return unsound;
}

import type { RetentionConfig } from '../config/config.ts';
import { uncounted } from '../retention/apply.ts';
import { ofFormerCluster, planRetention, type RetentionPlan } from '../retention/retention-plan.ts';
import { findSuperseded } from '../retention/superseded.ts';
import { CLOCK_SKEW_MS, isOrphan, type Kept, momentOf, newestFirst, type Recorded } from '../snapshot/inventory.ts';
import { blobSizeOf, fileSizeOf } from '../snapshot/record.ts';
import type { RecordSignature } from '../snapshot/signature-state.ts';
import { type Encoding, takenAtOf } from '../snapshot/snapshot-name.ts';
import type { StoredBlob } from '../store/catalogue.ts';
import type { Contents, Immutability } from '../store/container-reader.ts';
import type { DrillNote } from '../store/drill-notes.ts';
import { counted, humanSpan, printable } from '../text.ts';
import type { ClusterPlace } from './container-list.ts';
import { DAY_MS, historyOf, type Interval, type Objective, objectiveOf } from './history.ts';
import { copiesText, intervalText } from './words.ts';

/** Days of the strip in the page. */
export const STRIP_DAYS = 90;

/** Days over which the objective and the trend are computed. */
export const OBJECTIVE_DAYS = 30;

/** What is expected of every cluster. */
export interface Expectations {
  /** Milliseconds between snapshots; undefined = the usual distance of each cluster. */
  readonly objective: number | undefined;
  /** Milliseconds within which a drill must have succeeded. */
  readonly drillWithin: number;
  /** Ids that clusters had before, and the rules of retention, as they are configured here. */
  readonly retention: RetentionConfig;
  /** Whether the strip is needed, which takes most of the memory of a cluster: only the page shows it. */
  readonly hasStrip: boolean;
  /** Compares snapshots with the second place; undefined where there is none, or it is that of other containers. */
  readonly copiesOf?: ((first: Pick<Contents, 'prefix' | 'blobs'>, now: Date) => Copies) | undefined;
}

/** What a second place lacks, or why it could not be read, as a sentence. */
export type Copies =
  { readonly missing: number; readonly lagSeconds: number } | { readonly missing: undefined; readonly problem: string };

/** The worst first. */
export const STATES = ['unreachable', 'invalid', 'late', 'not-drilled', 'ok'] as const;
export type State = (typeof STATES)[number];

/** Why a cluster needs attention. */
export interface Problem {
  readonly state: State;
  /** One sentence. */
  readonly message: string;
}

/** One cluster of a report. */
export interface Cluster {
  readonly place: ClusterPlace;
  /** Of its worst problem. */
  readonly state: State;
  /** The worst first. */
  readonly problems: readonly Problem[];
  /** What else an auditor asks about, in sentences. */
  readonly exceptions: readonly string[];
  /** Undefined where the container could not be read. */
  readonly facts: Facts | undefined;
}

/** What a container says of a cluster. Times are milliseconds since 1970. */
export interface Facts {
  readonly clusterId: string | undefined;
  /** The newest valid snapshot. */
  readonly newest: Newest | undefined;
  /** Milliseconds that are usual between snapshots. */
  readonly usual: number;
  /** Times without a snapshot that are more than twice the usual ones, of the days of the strip; the newest first. */
  readonly gaps: readonly Interval[];
  /** Undefined without a snapshot. */
  readonly objective: Objective | undefined;
  /** Since the oldest snapshot of these days. */
  readonly trend: Trend | undefined;
  /** When the content of a snapshot was last read and verified in full: before it was stored, or in a drill. */
  readonly lastVerification:
    { readonly at: number; readonly snapshot: string; readonly by: 'backup' | 'drill' } | undefined;
  readonly lastDrill: DrillNote | undefined;
  readonly drills: Float64Array;
  readonly snapshots: number;
  /** Those that a mark keeps, the newest first. */
  readonly kept: readonly (Kept & { readonly name: string })[];
  /** Undefined where it is not known. */
  readonly copies: Copies | undefined;
  readonly anomalies: readonly string[];
  readonly immutability: Immutability;
  /** Bytes of all blobs of the cluster. */
  readonly storedBytes: number;
  /** Of the days of the strip, the oldest first; empty where it is not needed. */
  readonly strip: Strip;
}

interface Newest {
  readonly name: string;
  readonly takenAt: number;
  /** Bytes of the snapshot, and of its blob. */
  readonly size: number;
  readonly storedSize: number;
  readonly revision: number;
  /** Live keys where they were counted, or else all of them. */
  readonly keys: number;
  /** Undefined where it is not known. */
  readonly etcdVersion: string | undefined;
  readonly encoding: Encoding | undefined;
  readonly recipients: readonly string[];
  readonly signature: RecordSignature;
  readonly hasBundle: boolean;
}

interface Trend {
  readonly since: number;
  readonly size: number;
  readonly keys: number;
}

/** Numbers of each snapshot, in arrays, which take a tenth of the memory of objects. */
export interface Strip {
  readonly at: Float64Array;
  readonly size: Float64Array;
  readonly keys: Float64Array;
}

/** A container that could not be read. */
export function unreachable(place: ClusterPlace, message: string): Cluster {
  const problem = { state: 'unreachable', message } as const;
  return { place, state: problem.state, problems: [problem], exceptions: [], facts: undefined };
}

/** @param place the part of the container that the contents are of */
export function clusterOf(
  place: ClusterPlace,
  contents: Contents,
  immutability: Immutability,
  expectations: Expectations,
  now: Date,
): Cluster {
  const { prefix, blobs, bytes } = contents;
  const time = now.getTime();
  const plan = planRetention(blobs, expectations.retention, now);
  const snapshots = snapshotsOf(plan, expectations.retention.previousClusterIds, now);
  const [newest] = snapshots;
  const history = historyOf(snapshots, time);
  const objective = expectations.objective ?? history.usual;
  const drills = contents.drills.filter(isOf(contents, snapshots, plan.otherClusterIds.length > 0));
  const lastDrill = drills.toSorted((a, b) => b.at.getTime() - a.at.getTime())[0];
  const facts: Facts = {
    clusterId: newest?.record.clusterId,
    newest: newest && newestOf(newest),
    usual: history.usual,
    gaps: history.gaps.filter(({ to }) => to > time - STRIP_DAYS * DAY_MS),
    objective: objectiveOf(history, objective, OBJECTIVE_DAYS, time),
    trend: trendOf(snapshots, time),
    lastVerification: lastVerification(newest, lastDrill),
    lastDrill,
    drills: Float64Array.from(drills.map(({ at }) => at.getTime())).toSorted(),
    snapshots: snapshots.length,
    kept: snapshots.flatMap(({ name, kept }) => (kept === undefined ? [] : [{ ...kept, name }])),
    copies: expectations.copiesOf?.({ prefix, blobs }, now),
    anomalies: plan.anomalies,
    immutability,
    storedBytes: bytes,
    strip: stripOf(expectations.hasStrip ? snapshots : [], time),
  };
  const messages = {
    invalid: invalidNewest(prefix, blobs, newest, time),
    late: whyLate(facts, objective, time),
    'not-drilled': whyNotDrilled(lastDrill, expectations.drillWithin, time),
  };
  const problems = (['invalid', 'late', 'not-drilled'] as const).flatMap((state): Problem[] => {
    const message = messages[state];
    return message === undefined ? [] : [{ state, message }];
  });
  // Copied, because strings of an answer hold all of it in memory.
  return structuredClone({
    place: { ...place, prefix },
    state: problems[0]?.state ?? 'ok',
    problems,
    exceptions: [
      ...exceptionsOf(facts),
      ...plan.otherClusterIds.map((id) => `Snapshots of another cluster are in the same place: ${id}.`),
      ...uncounted(plan, now).map(({ sentence }) => printable(sentence)),
    ],
    facts,
  } satisfies Cluster);
}

/**
 * Whether a drill was one of the cluster: of one of its snapshots, or of one that is gone. Where other clusters have snapshots in the
 * same place, one that is gone counts only if it was not older than those of the cluster.
 */
function isOf(
  { prefix, blobs }: Contents,
  snapshots: readonly Recorded<StoredBlob>[],
  hasOthers: boolean,
): (drill: DrillNote) => boolean {
  const timeOf = (name: string): number | undefined => takenAtOf(prefix, name)?.getTime();
  const own = new Set(snapshots.map(({ name }) => timeOf(name)));
  const there = new Set(blobs.map(({ name }) => timeOf(name)));
  const oldest = Math.min(...[...own].map((time) => time ?? Infinity));
  return ({ snapshot }) => {
    const time = timeOf(snapshot);
    if (time === undefined) return false;
    return own.has(time) || (!there.has(time) && (!hasOthers || time >= oldest));
  };
}

/** The newest first; of a snapshot in several forms the last, and none of a former cluster with the same id. */
function snapshotsOf(
  { own, current }: RetentionPlan<StoredBlob>,
  previousIds: readonly string[],
  now: Date,
): Recorded<StoredBlob>[] {
  const dated = newestFirst(own, now);
  const superseded = findSuperseded(dated);
  const former = current === undefined ? undefined : ofFormerCluster(dated, [current.record.clusterId, ...previousIds]);
  return dated.filter((snapshot) => former?.has(snapshot) !== true && !superseded.has(snapshot));
}

function newestOf(snapshot: Recorded<StoredBlob>): Newest {
  const { name, record, signature = { state: 'unsigned', keyId: null }, bundle } = snapshot;
  return {
    ...{ name, takenAt: momentOf(snapshot), size: fileSizeOf(record), storedSize: blobSizeOf(record) },
    ...{ revision: record.revision, keys: keysOf(snapshot), etcdVersion: record.etcdVersion },
    ...{ encoding: record.encoding, recipients: record.recipients ?? [], signature, hasBundle: bundle !== undefined },
  };
}

function keysOf({ record }: Recorded<StoredBlob>): number {
  return record.liveKeys ?? record.totalKeys;
}

function trendOf(snapshots: readonly Recorded<StoredBlob>[], now: number): Trend | undefined {
  const first = snapshots.findLast((snapshot) => momentOf(snapshot) > now - OBJECTIVE_DAYS * DAY_MS);
  return first && { since: momentOf(first), size: fileSizeOf(first.record), keys: keysOf(first) };
}

function stripOf(snapshots: readonly Recorded<StoredBlob>[], now: number): Strip {
  const recent = snapshots.filter((snapshot) => momentOf(snapshot) > now - STRIP_DAYS * DAY_MS).toReversed();
  return {
    at: Float64Array.from(recent, momentOf),
    size: Float64Array.from(recent, ({ record }) => fileSizeOf(record)),
    keys: Float64Array.from(recent, keysOf),
  };
}

/** Every snapshot was verified before it was stored; a drill verifies it again. */
function lastVerification(
  newest: Recorded<StoredBlob> | undefined,
  drill: DrillNote | undefined,
): Facts['lastVerification'] {
  const drilledAt = drill?.at.getTime() ?? -Infinity;
  if (drill !== undefined && (newest === undefined || drilledAt > momentOf(newest))) {
    return { at: drilledAt, snapshot: drill.snapshot, by: 'drill' };
  }
  return newest && { at: momentOf(newest), snapshot: newest.name, by: 'backup' };
}

/** A blob with the name of a snapshot that is newer than the newest valid one: somebody takes it for the newest. */
function invalidNewest(
  prefix: string,
  blobs: readonly StoredBlob[],
  newest: Recorded<StoredBlob> | undefined,
  now: number,
): string | undefined {
  const since = newest === undefined ? -Infinity : momentOf(newest);
  const timeOf = ({ name, storedAt }: StoredBlob): number =>
    Math.min(takenAtOf(prefix, name)?.getTime() ?? -Infinity, storedAt.getTime());
  const [blob] = blobs
    .filter((each) => each.record === undefined && !isOrphan(each))
    .filter((each) => timeOf(each) > since && timeOf(each) <= now + CLOCK_SKEW_MS)
    .toSorted((a, b) => timeOf(b) - timeOf(a));
  if (blob === undefined) return undefined;
  const why = blob.problem ?? 'it has no record of this program, so nothing proves what it contains';
  return `The newest snapshot ${printable(blob.name)} is not valid: ${printable(why)}.`;
}

function whyLate({ newest }: Facts, objective: number, now: number): string | undefined {
  if (newest === undefined) return 'There is no valid snapshot.';
  const age = now - newest.takenAt;
  if (age <= 2 * objective) return undefined;
  return `The newest snapshot is ${humanSpan(age)} old, more than twice the objective of ${humanSpan(objective)}.`;
}

function whyNotDrilled(last: DrillNote | undefined, within: number, now: number): string | undefined {
  if (last === undefined) return 'No drill has succeeded yet.';
  const age = now - last.at.getTime();
  return age <= within ? undefined : `The last drill succeeded ${humanSpan(age)} ago, not within ${humanSpan(within)}.`;
}

function exceptionsOf({ objective, gaps, anomalies, copies }: Facts): string[] {
  const missed = objective?.held === false ? objective.longest : undefined;
  const others = gaps.filter(({ from }) => from !== missed?.from);
  const [longest] = others.toSorted((a, b) => b.to - b.from - (a.to - a.from));
  const more = missed === undefined || others.length === gaps.length ? '' : 'more ';
  return [
    ...anomalies.map((anomaly) => printable(`The newest snapshot is suspicious: ${anomaly}.`)),
    ...(objective === undefined || objective.held ? [] : [whyMissed(objective)]),
    ...(longest === undefined
      ? []
      : [`${counted(others.length, `${more}gap`)} within ${STRIP_DAYS} days, the longest ${intervalText(longest)}.`]),
    ...(copies === undefined || copies.missing === 0 ? [] : [`The second place ${copiesText(copies)}.`]),
  ];
}

function whyMissed({ objective, longest }: Objective): string {
  const text = `${humanSpan(objective)} between snapshots`;
  return `The objective of ${text} was missed within ${OBJECTIVE_DAYS} days: none for ${intervalText(longest)}.`;
}

/** The worst first; of those that are equally bad the one with the oldest newest snapshot. */
export function worstFirst(clusters: readonly Cluster[]): Cluster[] {
  const newest = ({ facts }: Cluster): number => facts?.newest?.takenAt ?? -Infinity;
  return clusters.toSorted(
    (a, b) =>
      STATES.indexOf(a.state) - STATES.indexOf(b.state) ||
      compare(newest(a), newest(b)) ||
      compare(a.place.name, b.place.name),
  );
}

function compare<T extends number | string>(a: T, b: T): number {
  return a < b ? -1 : Number(a > b);
}

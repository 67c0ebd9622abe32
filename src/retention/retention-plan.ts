import type { RetentionConfig, RetentionRules } from '../config/config.ts';
import {
  type CataloguedBlob,
  hasNewerData,
  CLOCK_SKEW_MS,
  ELSEWHERE,
  isFutureDated,
  isRecorded,
  isUntrusted,
  malformed,
  momentOf,
  newestFirst,
  type Recorded,
} from '../snapshot/inventory.ts';
import { keptText } from '../snapshot/marks.ts';
import type { SnapshotRecord } from '../snapshot/record.ts';
import { signatureText } from '../snapshot/signature-state.ts';
import { formOf } from '../snapshot/snapshot-name.ts';
import { areOthers, findAnomalies } from './anomalies.ts';
import { lostProtection } from './lost-protection.ts';
import { findGone } from './missing-snapshots.ts';
import { findSuperseded, findUnproven } from './superseded.ts';

const DAY_MS = 86_400_000;

/** Names the hour, day, ISO week, month or year in UTC that a moment lies in; moments of one period have one name. */
export const PERIODS = {
  hourly: (moment: Date) => moment.toISOString().slice(0, 13),
  daily: (moment: Date) => moment.toISOString().slice(0, 10),
  weekly: isoWeek,
  monthly: (moment: Date) => moment.toISOString().slice(0, 7),
  yearly: (moment: Date) => moment.toISOString().slice(0, 4),
} as const;

/** Such as `2026-W53`: weeks begin on Mondays, and belong to the year that has most of their days. */
function isoWeek(moment: Date): string {
  const daysSinceMonday = (moment.getUTCDay() + 6) % 7;
  const thursday = new Date(moment.getTime() + (3 - daysSinceMonday) * DAY_MS);
  const year = thursday.getUTCFullYear();
  const week = Math.floor((thursday.getTime() - Date.UTC(year, 0, 1)) / DAY_MS / 7) + 1;
  return `${year}-W${String(week).padStart(2, '0')}`;
}

/** What retention would do with everything under the prefix, and what holds it. */
export interface RetentionPlan<T> {
  /** The snapshot that defines "this cluster"; undefined if there is none with a record. */
  readonly current: Recorded<T> | undefined;
  /** What casts doubt on it, compared with earlier ones, in sentences: if there is any, nothing is deleted. */
  readonly anomalies: readonly string[];
  /** No rule is set. */
  readonly isOff: boolean;
  readonly decisions: readonly Decision<T>[];
  /** Snapshots of this cluster, and of its previous ids. */
  readonly own: readonly Recorded<T>[];
  /** Those of them whose date is wrong. */
  readonly futureDated: readonly Recorded<T>[];
  /** Those of a former cluster that had the same id: they stay. */
  readonly former: readonly T[];
  /** Blobs with metadata of this tool that are no snapshots: they decide nothing, and stay. */
  readonly malformed: readonly T[];
  /** How the newest one is less protected than the one before it, in words that follow "it is not". */
  readonly lost: readonly string[];
  /** Names of snapshots of this cluster that are gone although no rule let them go, without the prefix. */
  readonly missing: readonly string[];
  /** Ids of other clusters that have snapshots here. */
  readonly otherClusterIds: readonly string[];
}

/** @param fresh the snapshot that was just taken, and the anomalies that are known already; by default the newest there is */
export function planRetention<T extends CataloguedBlob>(
  catalogue: readonly T[],
  { rules, previousClusterIds }: RetentionConfig,
  now: Date,
  fresh?: { readonly snapshot: Recorded<T>; readonly anomalies: readonly string[] },
): RetentionPlan<T> {
  const dated = newestFirst(catalogue, now);
  const current = fresh?.snapshot ?? dated[0];
  const clusterIds = [...(current === undefined ? [] : [current.record.clusterId]), ...previousClusterIds];
  const isOwn = ({ record }: Recorded<T>): boolean => clusterIds.includes(record.clusterId);
  const recorded = catalogue.filter(isRecorded);
  const own = recorded.filter(isOwn);
  const others = recorded.filter((snapshot) => !isOwn(snapshot));
  const earlier = dated.filter((snapshot) => snapshot !== current).map(({ record }) => record);
  const anomalies = current === undefined ? [] : findAnomalies(current.record, earlier, previousClusterIds);
  const decide = (more: readonly T[]): Decision<T>[] =>
    decideRetention([...catalogue, ...more], clusterIds, rules, now, fresh?.snapshot);
  const decisions = decide([]);
  const unusable = malformed(catalogue);
  // Without a rule here, another job can have removed them by its rules.
  const gone = hasRule(rules) ? findGone(own) : [];
  const missing = gone.length === 0 ? [] : namesOfKept(new Set<T>(gone), decide(gone));
  return {
    current,
    anomalies: [...(fresh?.anomalies ?? []), ...anomalies],
    isOff: !hasRule(rules),
    decisions,
    former: decisions.flatMap(({ snapshot, reasons }) => (reasons.includes(FORMER) ? [snapshot] : [])),
    own,
    malformed: unusable,
    lost: lostProtection(current, dated.filter(isOwn)),
    missing: missing.filter((name) => !unusable.some((blob) => blob.name.endsWith(name))),
    futureDated: own.filter((snapshot) => isFutureDated(snapshot, now)),
    otherClusterIds: [...new Set(others.map(({ record }) => record.clusterId))],
  };
}

/** The beginning of the reason to keep the oldest of all snapshots, before the name of a rule. */
const OLDEST = 'oldest ';

/**
 * Those that retention would have kept. To be the oldest of all is no sufficient reason: a long rule that was added later would
 * miss a snapshot for years.
 */
function namesOfKept<T extends CataloguedBlob>(gone: ReadonlySet<T>, decisions: readonly Decision<T>[]): string[] {
  const kept = decisions.filter(({ keep, reasons }) => keep && !reasons.every((reason) => reason.startsWith(OLDEST)));
  return kept.flatMap(({ snapshot }) => (gone.has(snapshot) ? snapshot.name : []));
}

/** The reason to keep all forms of the newest snapshot. */
const NEWEST = 'newest';

/** The reason to keep the snapshots of a former cluster with the same id. */
const FORMER = 'of a former cluster with this id';

export interface Decision<T> {
  readonly snapshot: T;
  readonly keep: boolean;
  /** Short, as for a table: every rule that keeps it, with the period, or why it goes. */
  readonly reasons: readonly string[];
}

/**
 * Decides for every blob whether it stays, with all reasons. Only snapshots of this cluster can be removed, never the newest
 * of them, and none without a rule. The rules are those of restic: of each of the newest n periods that have a snapshot the
 * newest one stays, and while there are fewer periods, the oldest of all as well. Snapshots that a mark keeps stay, and are not counted.
 * @param clusterIds of this cluster; the others than the first are previous ids, and make one history with it
 * @param fresh the snapshot that was just stored: it is the newest and counts first, whatever date it has
 */
export function decideRetention<T extends CataloguedBlob>(
  catalogue: readonly T[],
  clusterIds: readonly string[],
  rules: RetentionRules,
  now: Date,
  fresh?: Recorded<T>,
): Decision<T>[] {
  const unkept = `not kept by ${rulesInWords(rules).join(', ')}`;
  const own = newestFirst(catalogue, now).filter(({ record }) => clusterIds.includes(record.clusterId));
  const former = ofFormerCluster(own, clusterIds, fresh);
  const superseded = findSuperseded(own);
  const unproven = findUnproven(own);
  const history = own.filter((each) => !former.has(each) && !superseded.has(each) && !unproven.has(each));
  const safe = neverRemoved(history, clusterIds[0], fresh);
  // A snapshot with a mark stays anyway, and must not take the place of another one.
  const counted = history.filter((snapshot) => snapshot.kept === undefined);
  const kept = keptByRules(counted, rules, fresh?.kept === undefined ? fresh : undefined);
  return catalogue.map((snapshot) => {
    const stays = (...reasons: string[]): Decision<T> => ({ snapshot, keep: true, reasons });
    if (!isRecorded(snapshot)) return stays(whyNotCounted(snapshot));
    if (!clusterIds.includes(snapshot.record.clusterId)) return stays('of another cluster');
    if (!hasRule(rules)) return stays('no rule is set');
    if (former.has(snapshot)) return stays(FORMER);
    if (unproven.has(snapshot)) return stays(`not read back by ${snapshot.notReadBackBy}`);
    const last = superseded.get(snapshot);
    // Without signatures anybody who can write can forge a later form of the newest snapshot.
    const isOfNewest = last !== undefined && safe.get(last) === NEWEST;
    const reason = safe.get(snapshot) ?? (isOfNewest ? NEWEST : undefined);
    const always = reason ?? (isFutureDated(snapshot, now) ? 'dated in the future' : undefined);
    if (last !== undefined && always === undefined && snapshot.kept === undefined) {
      return { snapshot, keep: false, reasons: [`superseded by ${last.name}`] };
    }
    const mark = snapshot.kept === undefined ? [] : [keptText(snapshot.kept)];
    const reasons = [...(always === undefined ? [] : [always]), ...mark, ...(kept.get(snapshot) ?? [])];
    return reasons.length > 0 ? stays(...reasons) : { snapshot, keep: false, reasons: [unkept] };
  });
}

/**
 * Snapshots with the id of this cluster that are not part of its history. etcd derives the id from peer URLs and token, so a
 * cluster that is rebuilt on the same addresses gets the same id; but its revisions begin again, or all its members have other names.
 * All that is older than such a difference belongs to the former cluster, unless its id is configured as a previous id.
 * @param own the newest first
 */
export function ofFormerCluster<T extends CataloguedBlob>(
  own: readonly Recorded<T>[],
  [clusterId, ...previousIds]: readonly string[],
  fresh?: Recorded<T>,
): Set<CataloguedBlob> {
  if (clusterId === undefined || previousIds.includes(clusterId)) return new Set();
  const ordered = fresh === undefined ? own : [fresh, ...own.filter((snapshot) => snapshot !== fresh)];
  const sameId = ordered.filter(({ record }) => record.clusterId === clusterId);
  let lowest: Recorded<T> | undefined;
  let newerMembers: SnapshotRecord['members'] = [];
  const border = sameId.findIndex((snapshot) => {
    const { members, imported } = snapshot.record;
    if (areOthers(newerMembers, members)) return true;
    if (members.length > 0) newerMembers = members;
    // Its date comes from the name or the time of a file, which can be wrong.
    if (imported !== undefined) return false;
    if (lowest !== undefined && isHigherBefore(snapshot, lowest)) return true;
    if (lowest === undefined || snapshot.record.revision < lowest.record.revision) lowest = snapshot;
    return false;
  });
  return new Set(border < 0 ? [] : sameId.slice(border));
}

/**
 * Whether a snapshot that was taken and stored before the other has the higher revision. Two that overlap can differ. When a later
 * form of it was stored says nothing.
 */
function isHigherBefore(one: Recorded<CataloguedBlob>, other: Recorded<CataloguedBlob>): boolean {
  const wasStoredBefore = one.storedAt < other.storedAt || formOf(one.name) > 1;
  const isBefore = momentOf(other) - momentOf(one) > CLOCK_SKEW_MS && wasStoredBefore;
  return isBefore && one.record.revision > other.record.revision;
}

/**
 * What must never be removed, with the reason: the fresh snapshot and the newest one with a plausible date, or the one that is
 * both; and what another host stored later, where clocks do not show whether it is newer.
 * @param history the newest first
 */
function neverRemoved<T extends CataloguedBlob>(
  history: readonly Recorded<T>[],
  clusterId: string | undefined,
  fresh: Recorded<T> | undefined,
): Map<CataloguedBlob, string> {
  // While the cluster has none under its own id, that of a previous id is all that there is.
  const dated = history.find(({ record }) => record.clusterId === clusterId) ?? history[0];
  const newest = fresh === undefined || !history.includes(fresh) ? [fresh, dated] : [fresh];
  const withKeys = history.find(hasWholeBundle);
  const isLater = (other: Recorded<T>): boolean => {
    // Two workers that have just stored theirs must not both remove the other's.
    if (fresh !== undefined) return other.storedAt >= fresh.storedAt;
    if (dated === undefined || other.storedAt <= dated.storedAt) return false;
    return momentOf(dated) - momentOf(other) <= CLOCK_SKEW_MS || hasNewerData(other, dated);
  };
  return new Map([
    // Without it, the keys of the cluster would be gone if newer bundles were not complete.
    ...(withKeys === undefined ? [] : [[withKeys, 'newest with a complete bundle'] as const]),
    ...history.filter(isLater).map((snapshot) => [snapshot, 'stored later'] as const),
    ...newest.flatMap((snapshot) => (snapshot === undefined ? [] : [[snapshot, NEWEST] as const])),
  ]);
}

function hasWholeBundle({ record, bundle }: Recorded<CataloguedBlob>): boolean {
  return bundle !== undefined && record.bundleMissing === undefined;
}

/** For a table. */
function whyNotCounted(blob: CataloguedBlob): string {
  const { problem, signature } = blob;
  if (signature !== undefined && isUntrusted(blob)) return signatureText(signature);
  if (problem === ELSEWHERE) return 'under another prefix';
  return problem === undefined ? 'no record' : 'not counted as a snapshot';
}

export function hasRule(rules: RetentionRules): boolean {
  return Object.values(rules).some((value) => value !== undefined);
}

/** Such as `last 3`, `daily 7`, `within 14d`. */
function rulesInWords({ within, ...counts }: RetentionRules): string[] {
  const counted = Object.entries(counts).filter(([, count]) => count !== undefined);
  return [
    ...counted.map(([rule, count]) => `${rule} ${count}`),
    ...(within === undefined ? [] : [`within ${exactDuration(within)}`]),
  ];
}

/**
 * The reasons to keep the snapshots of a history, the newest first; those without one are not in the map. A fresh one whose
 * date is not plausible is not part of the history.
 */
function keptByRules(
  history: readonly Recorded<CataloguedBlob>[],
  rules: RetentionRules,
  fresh: Recorded<CataloguedBlob> | undefined,
): Map<CataloguedBlob, string[]> {
  const kept = new Map<CataloguedBlob, string[]>();
  const keep = (snapshot: CataloguedBlob, reason: string): void => {
    kept.set(snapshot, [...(kept.get(snapshot) ?? []), reason]);
  };
  const others = history.filter((snapshot) => snapshot !== fresh);
  const freshFirst = fresh === undefined ? others : [fresh, ...others];
  for (const snapshot of freshFirst.slice(0, rules.last ?? 0)) keep(snapshot, `last ${rules.last}`);
  for (const rule of ['hourly', 'daily', 'weekly', 'monthly', 'yearly'] as const) {
    const periods = new Set<string>();
    for (const snapshot of history) {
      if (periods.size === (rules[rule] ?? 0)) break;
      const period = PERIODS[rule](snapshot.record.takenAt);
      if (!periods.has(period)) keep(snapshot, `${rule} ${period}`);
      else if (snapshot === history.at(-1)) keep(snapshot, `${OLDEST}${rule}`);
      periods.add(period);
    }
  }
  const [newest] = history;
  if (rules.within === undefined || newest === undefined) return kept;
  const since = momentOf(newest) - rules.within * 1000;
  for (const snapshot of history.filter((one) => momentOf(one) > since)) {
    keep(snapshot, `within ${exactDuration(rules.within)}`);
  }
  return kept;
}

/** In the largest unit that divides it, such as `14d` or `36h`. */
function exactDuration(seconds: number): string {
  const units = { d: 86_400, h: 3600, m: 60 };
  const [unit, size] = Object.entries(units).find(([, each]) => seconds % each === 0) ?? ['s', 1];
  return `${seconds / size}${unit}`;
}

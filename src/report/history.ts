import { parseSnapshotName } from '../snapshot/snapshot-name.ts';
import { momentOf, type CataloguedBlob, type Recorded } from '../snapshot/inventory.ts';
import { usualDistance } from '../snapshot/usual-distance.ts';

/* When snapshots were taken, and when none was. Times are milliseconds since 1970. */

const MINUTE_MS = 60_000;
export const DAY_MS = 24 * 60 * MINUTE_MS;

const USUAL = { last: 20, fewest: 2, fallback: DAY_MS, least: MINUTE_MS };

/** So many usual distances in a row are no coincidence: retention has removed nothing that is newer. */
const ROW = 3;

/** A schedule is never exact, and a backup takes time: a tenth more than the objective does not miss it. */
const TOLERANCE = 1.1;

/** A time between two snapshots, or since the last one. */
export interface Interval {
  readonly from: number;
  readonly to: number;
}

/** When snapshots were taken. */
export interface History {
  /** Milliseconds. */
  readonly usual: number;
  /** Between snapshots, and since the newest; the newest first. Those in which retention can have removed snapshots are not here. */
  readonly intervals: readonly Interval[];
  /** Intervals that are more than twice the usual distance. */
  readonly gaps: readonly Interval[];
}

/**
 * @param snapshots the newest first
 * @param now also ends an interval: the current one
 */
export function historyOf(snapshots: readonly Recorded<CataloguedBlob>[], now: number): History {
  const between = snapshots.map((snapshot, index) => intervalBefore(snapshot, snapshots[index + 1])).filter(isKnown);
  const median = usualDistance(
    between.map(({ from, to }) => to - from),
    USUAL,
  );
  // A schedule is in minutes.
  const usual = Math.round(median / MINUTE_MS) * MINUTE_MS;
  const isUsual = (interval: Interval): boolean => interval.to - interval.from <= 2 * usual;
  // Retention thins out what is old: there, a long distance says nothing, unless the record itself says what came before.
  const dense = between.findLastIndex((_, index) => {
    const row = between.slice(index - ROW + 1, index + 1);
    return row.length === ROW && row.every(isUsual);
  });
  const observed = between.filter(({ isExact }, index) => isExact || index <= dense || dense < 0);
  const [newest] = snapshots;
  const current = newest === undefined ? [] : [{ from: momentOf(newest), to: Math.max(now, momentOf(newest)) }];
  const intervals = [...current, ...observed.map(({ from, to }) => ({ from, to }))];
  return { usual, intervals, gaps: intervals.filter((interval) => !isUsual(interval)) };
}

/** Before the oldest snapshot nothing is known, unless its record names an earlier one. */
function intervalBefore(
  snapshot: Recorded<CataloguedBlob>,
  older: Recorded<CataloguedBlob> | undefined,
): (Interval & { readonly isExact: boolean }) | undefined {
  const to = momentOf(snapshot);
  const named = parseSnapshotName(snapshot.record.previous ?? '')?.takenAt.getTime() ?? -Infinity;
  const visible = older === undefined ? -Infinity : momentOf(older);
  // A name has whole seconds.
  const isExact = Number.isFinite(named) && named <= to;
  const from = Math.max(isExact ? named : -Infinity, visible);
  return Number.isFinite(from) ? { from, to, isExact } : undefined;
}

function isKnown<T>(value: T | undefined): value is T {
  return value !== undefined;
}

/** Whether the recovery point objective held. */
export interface Objective {
  /** Milliseconds. */
  readonly objective: number;
  readonly held: boolean;
  /** The longest time without a new snapshot. */
  readonly longest: Interval;
  /** Since when this is known. */
  readonly since: number;
}

/** @param days before now that count @returns undefined without a snapshot */
export function objectiveOf(
  { intervals }: History,
  objective: number,
  days: number,
  now: number,
): Objective | undefined {
  const start = now - days * DAY_MS;
  const counted = intervals.filter(({ to }) => to > start);
  const [longest] = counted.toSorted((a, b) => b.to - b.from - (a.to - a.from));
  if (longest === undefined) return undefined;
  const since = Math.max(start, Math.min(...counted.map(({ from }) => from)));
  return { objective, held: longest.to - longest.from <= objective * TOLERANCE, longest, since };
}

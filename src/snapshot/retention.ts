import type { RetentionRules } from '../config.ts';
import { PERIODS } from './period.ts';
import type { SnapshotRecord } from './record.ts';

/** A blob that may be a snapshot, as the catalogue knows it; without a record it is none of ours. */
export interface CataloguedSnapshot {
  readonly name: string;
  /** By the clock of the service. */
  readonly storedAt: Date;
  readonly record: SnapshotRecord | undefined;
}

/** A snapshot of this tool. */
export type Recorded<T> = T & { readonly record: SnapshotRecord };

export interface Decision<T> {
  readonly snapshot: T;
  readonly keep: boolean;
  /** Short, as for a table: every rule that keeps it, with the period, or why it goes. */
  readonly reasons: readonly string[];
}

/** Clocks differ by so much without being wrong. */
const CLOCK_SKEW_MS = 5 * 60_000;

/**
 * Decides for every blob whether it stays, with all reasons. Only snapshots with this tool's record for this cluster can go,
 * never the newest of them, and none at all without a rule. The rules are those of restic: of each of the newest n periods
 * that have a snapshot the newest one stays, and while there are fewer periods, the oldest of all as well.
 * @param clusterIds of this cluster; others than the first are of its earlier lives, and make one history with it
 */
export function decideRetention<T extends CataloguedSnapshot>(
  catalogue: readonly T[],
  clusterIds: readonly string[],
  rules: RetentionRules,
  now: Date,
): Decision<T>[] {
  const unkept = `not kept by ${rulesInWords(rules).join(', ')}`;
  const history = newestFirst(catalogue, now).filter(({ record }) => clusterIds.includes(record.clusterId));
  const newest = history.find(({ record }) => record.clusterId === clusterIds[0]);
  const kept = keptByRules(history, rules);
  return catalogue.map((snapshot) => {
    const stays = (...reasons: string[]): Decision<T> => ({ snapshot, keep: true, reasons });
    if (!isRecorded(snapshot)) return stays('no record');
    if (!clusterIds.includes(snapshot.record.clusterId)) return stays('of another cluster');
    if (!hasRule(rules)) return stays('no rule is set');
    if (isFutureDated(snapshot, now)) return stays('dated in the future');
    const reasons = [...(snapshot === newest ? ['newest'] : []), ...(kept.get(snapshot) ?? [])];
    return reasons.length > 0 ? stays(...reasons) : { snapshot, keep: false, reasons: [unkept] };
  });
}

/** All snapshots with a record whose date can be relied upon, in an order that does not depend on the catalogue's. */
export function newestFirst<T extends CataloguedSnapshot>(catalogue: readonly T[], now: Date): Recorded<T>[] {
  return catalogue
    .filter(isRecorded)
    .filter((snapshot) => !isFutureDated(snapshot, now))
    .toSorted((a, b) => b.record.takenAt.getTime() - a.record.takenAt.getTime() || (a.name < b.name ? 1 : -1));
}

/** A clock was wrong when it was taken: it must not count, or it would stand for good ones. */
export function isFutureDated({ record, storedAt }: Recorded<CataloguedSnapshot>, now: Date): boolean {
  return record.takenAt.getTime() > Math.min(storedAt.getTime(), now.getTime()) + CLOCK_SKEW_MS;
}

export function isRecorded<T extends CataloguedSnapshot>(snapshot: T): snapshot is Recorded<T> {
  return snapshot.record !== undefined;
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

/** The reasons by which the snapshots of a history, the newest first, are kept; those without one are not in the map. */
function keptByRules(
  history: readonly Recorded<CataloguedSnapshot>[],
  rules: RetentionRules,
): Map<CataloguedSnapshot, string[]> {
  const kept = new Map<CataloguedSnapshot, string[]>();
  const keep = (snapshot: CataloguedSnapshot, reason: string): void => {
    kept.set(snapshot, [...(kept.get(snapshot) ?? []), reason]);
  };
  for (const snapshot of history.slice(0, rules.last ?? 0)) keep(snapshot, `last ${rules.last}`);
  for (const rule of ['hourly', 'daily', 'weekly', 'monthly', 'yearly'] as const) {
    const periods = new Set<string>();
    for (const snapshot of history) {
      if (periods.size === (rules[rule] ?? 0)) break;
      const period = PERIODS[rule](snapshot.record.takenAt);
      if (!periods.has(period)) keep(snapshot, `${rule} ${period}`);
      else if (snapshot === history.at(-1)) keep(snapshot, `oldest ${rule}`);
      periods.add(period);
    }
  }
  const [newest] = history;
  if (rules.within === undefined || newest === undefined) return kept;
  const since = newest.record.takenAt.getTime() - rules.within * 1000;
  for (const snapshot of history.filter(({ record }) => record.takenAt.getTime() > since)) {
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

import type { SnapshotRecord } from './record.ts';

/** A blob that may be a snapshot, as the catalogue knows it; without a record it is none of ours. */
export interface CataloguedSnapshot {
  readonly name: string;
  readonly record: SnapshotRecord | undefined;
}

export interface RetentionRules {
  readonly keepLast: number | undefined;
}

export interface Decision<T> {
  readonly snapshot: T;
  readonly keep: boolean;
  readonly reason: string;
}

/**
 * Decides for every blob whether it stays, with the reason. Only snapshots with this tool's record for this cluster can
 * go, never the newest of them, and none at all without a rule.
 */
export function decideRetention<T extends CataloguedSnapshot>(
  catalogue: readonly T[],
  clusterId: string,
  rules: RetentionRules,
): Decision<T>[] {
  const own = catalogue
    .filter(({ record }) => record?.clusterId === clusterId)
    .toSorted((a, b) => Number(b.record?.takenAt) - Number(a.record?.takenAt) || (a.name < b.name ? 1 : -1));
  const rank = new Map(own.map((snapshot, index) => [snapshot, index]));
  return catalogue.map((snapshot) => {
    const index = rank.get(snapshot);
    if (snapshot.record === undefined) return { snapshot, keep: true, reason: 'has no record of this tool' };
    if (index === undefined) return { snapshot, keep: true, reason: 'belongs to another cluster' };
    if (rules.keepLast === undefined) return { snapshot, keep: true, reason: 'no retention rule is set' };
    if (index === 0) return { snapshot, keep: true, reason: 'the newest proven snapshot' };
    return index < rules.keepLast
      ? { snapshot, keep: true, reason: `one of the last ${rules.keepLast}` }
      : { snapshot, keep: false, reason: `older than the last ${rules.keepLast}` };
  });
}

import type { RetentionConfig } from '../config/config.ts';
import {
  type CataloguedBlob,
  isFutureDated,
  isRecorded,
  malformed,
  newestFirst,
  type Recorded,
} from '../snapshot/inventory.ts';
import { findAnomalies } from './anomalies.ts';
import { decideRetention, FORMER, type Decision, hasRule } from './decide.ts';

/** What retention would do with everything under the prefix, and what holds it. */
export interface RetentionPlan<T> {
  /** The snapshot whose cluster "this cluster" is; undefined when there is none with a record. */
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
  /** Those that have the id of this cluster, and are of an earlier one: they stay. */
  readonly former: readonly T[];
  /** Blobs with metadata of this tool that are no snapshots: they decide nothing, and stay. */
  readonly malformed: readonly T[];
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
  const decisions = decideRetention(catalogue, clusterIds, rules, now, fresh?.snapshot);
  return {
    current,
    anomalies: [...(fresh?.anomalies ?? []), ...anomalies],
    isOff: !hasRule(rules),
    decisions,
    former: decisions.flatMap(({ snapshot, reasons }) => (reasons.includes(FORMER) ? [snapshot] : [])),
    own,
    malformed: malformed(catalogue),
    futureDated: own.filter((snapshot) => isFutureDated(snapshot, now)),
    otherClusterIds: [...new Set(others.map(({ record }) => record.clusterId))],
  };
}

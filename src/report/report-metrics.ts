import type { Samples } from '../monitoring/metrics.ts';
import type { Cluster, Facts, State } from './facts.ts';
import type { Report } from './summary.ts';

/** What monitoring gets of a report: the label of a sample is the name of the cluster. */
export function reportMetrics({ clusters, generatedAt }: Report): Samples {
  const each = (value: (cluster: Cluster) => number | undefined): Record<string, number> =>
    // The worst is the first: of two with one name, which prefixes such as `a` and `a/` have, it counts.
    Object.fromEntries(
      clusters.toReversed().flatMap((cluster) => {
        const number = value(cluster);
        return number === undefined ? [] : [[cluster.place.name, number] as const];
      }),
    );
  const known = (value: (facts: Facts, cluster: Cluster) => number | undefined): Record<string, number> =>
    each((cluster) => cluster.facts && value(cluster.facts, cluster));
  return {
    etcd_snapshot_report_timestamp_seconds: each(() => generatedAt / 1000),
    etcd_snapshot_report_reachable: each(({ facts }) => Number(facts !== undefined)),
    etcd_snapshot_report_late: known((_, cluster) => Number(has(cluster, 'late'))),
    etcd_snapshot_report_newest_valid: known((_, cluster) => Number(!has(cluster, 'invalid'))),
    etcd_snapshot_report_drilled: known((_, cluster) => Number(!has(cluster, 'not-drilled'))),
    etcd_snapshot_report_newest_timestamp_seconds: known(({ newest }) => newest && newest.takenAt / 1000),
    etcd_snapshot_report_newest_size_bytes: known(({ newest }) => newest?.size),
    etcd_snapshot_report_newest_keys: known(({ newest }) => newest?.keys),
    etcd_snapshot_report_usual_interval_seconds: known(({ newest, usual }) => newest && usual / 1000),
    etcd_snapshot_report_objective_held: known(({ objective }) => objective && Number(objective.held)),
    etcd_snapshot_report_gaps: known(({ gaps }) => gaps.length),
    etcd_snapshot_report_drill_timestamp_seconds: known(({ lastDrill }) => lastDrill && lastDrill.at.getTime() / 1000),
    etcd_snapshot_report_drill_recovery_seconds: known(({ lastDrill }) => lastDrill && lastDrill.recoveryMs / 1000),
    etcd_snapshot_report_snapshots: known(({ snapshots }) => snapshots),
    etcd_snapshot_report_stored_bytes: known(({ storedBytes }) => storedBytes),
    etcd_snapshot_report_copies_missing: known(({ copies }) => copies?.missing),
    etcd_snapshot_report_copy_lag_seconds: known(({ copies }) =>
      copies?.missing === undefined ? undefined : copies.lagSeconds,
    ),
    etcd_snapshot_report_keep_end_timestamp_seconds: known(({ kept }) => firstEnd(kept)),
    etcd_snapshot_report_exceptions: known((_, { exceptions }) => exceptions.length),
  };
}

/** Seconds since 1970; undefined where none ends. */
function firstEnd(kept: Facts['kept']): number | undefined {
  const ends = kept.flatMap(({ until }) => (until === undefined ? [] : [until.getTime() / 1000]));
  return ends.length === 0 ? undefined : Math.min(...ends);
}

function has({ problems }: Cluster, state: State): boolean {
  return problems.some((problem) => problem.state === state);
}

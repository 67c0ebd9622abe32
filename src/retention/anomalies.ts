import type { SnapshotRecord } from '../snapshot/record.ts';
import { printable } from '../text.ts';

/** A key count below this share of the previous one has collapsed. */
const KEYS_LEFT = 1 / 2;
/** A defragmentation shrinks a database too: more must be gone before its size alone is an anomaly. */
const SIZE_LEFT = 1 / 4;

/**
 * What casts doubt on a valid snapshot compared with the records of earlier ones, in sentences; nothing for the first one.
 * It is compared with the newest record of its own cluster. Without one it is an anomaly that the newest is of another
 * cluster: a restored cluster has a new id.
 * @param previousClusterIds ids that the cluster is known to have had before
 */
export function findAnomalies(
  current: SnapshotRecord,
  earlier: readonly SnapshotRecord[],
  previousClusterIds: readonly string[],
): string[] {
  const newestFirst = earlier.toSorted((a, b) => b.takenAt.getTime() - a.takenAt.getTime());
  const previous = newestFirst.find(({ clusterId }) => clusterId === current.clusterId);
  const [other] = newestFirst;
  if (previous === undefined) {
    if (other === undefined || previousClusterIds.includes(other.clusterId)) return [];
    const ids = [...previousClusterIds, other.clusterId].join();
    return [
      `the cluster id is ${current.clusterId}, but the snapshots here are of cluster ${other.clusterId}` +
        ` (after a restore of that cluster set SNAPSHOT_PREVIOUS_CLUSTER_IDS=${ids})`,
    ];
  }
  const anomalies: string[] = [];
  for (const { id, name } of current.members) {
    const before = previous.members.find((member) => member.id === id)?.name ?? '';
    if (name !== '' && before !== '' && name !== before) {
      anomalies.push(`member ${id} is ${printable(name)}, but was ${printable(before)} (was the cluster rebuilt?)`);
    }
  }
  if (current.revision < previous.revision) {
    anomalies.push(`the revision went back from ${previous.revision} to ${current.revision}`);
  }
  const [keysBefore, keys] = comparableKeys(previous, current);
  if (keys < keysBefore * KEYS_LEFT) anomalies.push(`the number of keys fell from ${keysBefore} to ${keys}`);
  if (current.totalSize < previous.totalSize * SIZE_LEFT) {
    anomalies.push(`the size fell from ${previous.totalSize} to ${current.totalSize} bytes`);
  }
  return anomalies;
}

/** Live keys where both know them: a compaction shrinks the total, and that is its job. */
function comparableKeys(previous: SnapshotRecord, current: SnapshotRecord): [previous: number, current: number] {
  if (previous.liveKeys === undefined || current.liveKeys === undefined) return [previous.totalKeys, current.totalKeys];
  return [previous.liveKeys, current.liveKeys];
}

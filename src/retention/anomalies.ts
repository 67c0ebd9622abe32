import type { RecordedMember, SnapshotRecord } from '../snapshot/record.ts';

/** A key count below this share of the previous one has collapsed. */
const KEYS_LEFT = 1 / 2;
/** A defragmentation shrinks a database too: more must be gone before its size alone is an anomaly. */
const SIZE_LEFT = 1 / 4;

/**
 * What casts doubt on a valid snapshot compared with the records of earlier ones, in sentences; nothing for the first one.
 * It is compared with the newest record of its own cluster. Without one it is an anomaly that the newest belongs to another
 * cluster: a restored cluster has a new id.
 * @param previousClusterIds ids that the cluster is known to have had before
 */
export function findAnomalies(
  current: SnapshotRecord,
  earlier: readonly SnapshotRecord[],
  previousClusterIds: readonly string[],
): string[] {
  const newestFirst = earlier.toSorted((a, b) => b.takenAt.getTime() - a.takenAt.getTime());
  const own = newestFirst.filter(({ clusterId }) => clusterId === current.clusterId);
  const [previous] = own;
  const [other] = newestFirst;
  if (previous === undefined) {
    if (other === undefined || previousClusterIds.includes(other.clusterId)) return [];
    const ids = [...previousClusterIds, other.clusterId].join();
    return [
      `the cluster id is ${current.clusterId}, but the snapshots here belong to cluster ${other.clusterId}` +
        ` (after a restore of that cluster set SNAPSHOT_PREVIOUS_CLUSTER_IDS=${ids})`,
    ];
  }
  const anomalies: string[] = [];
  // The members of an imported file can be unknown.
  const before = own.find(({ members }) => members.length > 0)?.members ?? [];
  if (areOthers(current.members, before)) {
    anomalies.push('all members have new names under the same ids, as in a rebuilt cluster');
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

/**
 * Whether two lists of members with the same ids are of two clusters: all have other names. etcd derives ids from addresses, so
 * a rebuilt cluster gets the same. A single member may have been renamed.
 */
export function areOthers(members: readonly RecordedMember[], before: readonly RecordedMember[]): boolean {
  const names = new Map(before.map(({ id, name }) => [id, name]));
  const known = members.filter(({ id, name }) => name !== '' && (names.get(id) ?? '') !== '');
  return known.length > 1 && known.every(({ id, name }) => name !== names.get(id));
}

import { failuresIn } from '../snapshot/failure-marks.ts';
import { type CataloguedBlob, type ClusterIds, momentOf, newestFirst, type Recorded } from '../snapshot/inventory.ts';
import type { StoredEvent } from '../store/events.ts';
import { counted, humanAge } from '../text.ts';

/** Distances between snapshots from which the usual one is computed. */
const LAST = 20;

/** The usual distance with fewer than three snapshots. */
const DAY_MS = 24 * 3_600_000;

/**
 * Whether a new snapshot ends a time of failures, or a gap of more than twice the usual distance.
 * @param blobs the inventory, the new snapshot included
 * @returns a sentence about it; undefined = the backup before succeeded in time
 */
export function recoveryOf(
  fresh: Recorded<CataloguedBlob>,
  blobs: readonly CataloguedBlob[],
  events: readonly Pick<StoredEvent, 'kind' | 'fields' | 'storedAt'>[],
  { previousClusterIds }: ClusterIds,
  now: Date,
): string | undefined {
  const ids = new Set([fresh.record.clusterId, ...previousClusterIds]);
  const earlier = newestFirst(blobs, now)
    .filter(({ record }) => ids.has(record.clusterId))
    .filter(({ name }) => name !== fresh.name);
  const [previous] = earlier;
  // Both times are of the service.
  const failures = failuresIn(events, 'backup').filter(
    ({ storedAt }) => previous === undefined || storedAt > previous.storedAt,
  );
  const age = previous === undefined ? 0 : momentOf(fresh) - momentOf(previous);
  if (failures.length === 0 && age <= 2 * usualDistance(earlier.map(momentOf))) return undefined;
  const failed = failures.length === 0 ? '' : `${counted(failures.length, 'run')} failed before it`;
  const since = previous === undefined ? '' : `the previous snapshot is ${humanAge(age)} older`;
  const sentence = [failed, since].filter((part) => part !== '').join('; ');
  return `${sentence.charAt(0).toUpperCase()}${sentence.slice(1)}.`;
}

/** The median, in milliseconds. @param taken the newest first */
function usualDistance(taken: readonly number[]): number {
  const distances = taken.slice(1, LAST + 1).map((time, index) => (taken[index] ?? time) - time);
  const median = distances.toSorted((a, b) => a - b)[distances.length >> 1];
  return distances.length < 2 || median === undefined ? DAY_MS : median;
}

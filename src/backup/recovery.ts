import { failuresIn } from '../snapshot/failure-marks.ts';
import { type CataloguedBlob, type ClusterIds, momentOf, newestFirst, type Recorded } from '../snapshot/inventory.ts';
import type { StoredEvent } from '../store/events.ts';
import { usualDistance } from '../snapshot/usual-distance.ts';
import { counted, humanAge } from '../text.ts';

const USUAL = { last: 20, fewest: 2, fallback: 24 * 3_600_000, least: 0 };

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
  const distances = earlier.slice(1).map((one, index) => momentOf(earlier[index] ?? one) - momentOf(one));
  const age = previous === undefined ? 0 : momentOf(fresh) - momentOf(previous);
  if (failures.length === 0 && age <= 2 * usualDistance(distances, USUAL)) return undefined;
  const failed = failures.length === 0 ? '' : `${counted(failures.length, 'run')} failed before it`;
  const since = previous === undefined ? '' : `the previous snapshot is ${humanAge(age)} older`;
  const sentence = [failed, since].filter((part) => part !== '').join('; ');
  return `${sentence.charAt(0).toUpperCase()}${sentence.slice(1)}.`;
}

import type { CataloguedBlob, Recorded } from '../snapshot/inventory.ts';
import { parseSnapshotName } from '../snapshot/snapshot-name.ts';

/**
 * Snapshots that the signed records of later ones refer to, and that are gone: as far as is known of them, under names without
 * the prefix.
 * @param own snapshots of the cluster
 */
export function findGone<T extends CataloguedBlob>(own: readonly Recorded<T>[]): Recorded<T>[] {
  const present = new Set(own.map(({ recordSha256 }) => recordSha256));
  const isThere = (takenAt: Date): boolean =>
    own.some(({ signature, record }) => signature?.state === 'valid' && secondOf(record.takenAt) === secondOf(takenAt));
  const gone = new Map<string, Recorded<T>>();
  for (const snapshot of own) {
    const { previous = '', previousSha256 } = snapshot.record;
    const takenAt = parseSnapshotName(previous)?.takenAt;
    if (snapshot.signature?.state !== 'valid' || takenAt === undefined || present.has(previousSha256)) continue;
    // It can be there in another form, which only the owner of a key can have signed.
    if (isThere(takenAt)) continue;
    const record = { ...snapshot.record, takenAt };
    gone.set(previous, { ...snapshot, name: previous, storedAt: takenAt, record, kept: undefined });
  }
  return [...gone.values()];
}

function secondOf(date: Date): number {
  return Math.floor(date.getTime() / 1000);
}

import type { CataloguedBlob, Recorded } from '../snapshot/inventory.ts';
import { parseSnapshotName } from '../snapshot/snapshot-name.ts';
import type { Decision } from './retention-plan.ts';

/**
 * Names of snapshots that are gone although retention would have kept them: the signed records of later ones refer to them. The
 * rules can have been stricter before; therefore one that is older than all that are left is not missed.
 * @param own snapshots of the cluster
 * @param decide what retention decides if these are in the catalogue as well
 */
export function findMissing<T extends CataloguedBlob>(
  own: readonly Recorded<T>[],
  decide: (more: readonly T[]) => readonly Decision<T>[],
): string[] {
  const present = new Set(own.map(({ recordSha256 }) => recordSha256));
  const isThere = (takenAt: Date): boolean =>
    own.some(({ signature, record }) => signature?.state === 'valid' && secondOf(record.takenAt) === secondOf(takenAt));
  const gone = new Map<string, Recorded<T>>();
  for (const snapshot of own) {
    const { previous = '', previousSha256 } = snapshot.record;
    const takenAt = parseSnapshotName(previous)?.takenAt;
    if (snapshot.signature?.state !== 'valid' || takenAt === undefined || present.has(previousSha256)) continue;
    // It can be there in another form, which only the owner of a key can have signed.
    if (isThere(takenAt) || !own.some(({ record }) => record.takenAt < takenAt)) continue;
    gone.set(previous, { ...snapshot, name: previous, storedAt: takenAt, record: { ...snapshot.record, takenAt } });
  }
  if (gone.size === 0) return [];
  const candidates = new Set<T>(gone.values());
  return decide([...candidates]).flatMap(({ snapshot, keep }) =>
    keep && candidates.has(snapshot) ? snapshot.name : [],
  );
}

function secondOf(date: Date): number {
  return Math.floor(date.getTime() / 1000);
}

import { type CataloguedBlob, isRecorded, momentOf, newestFirst, type Recorded } from '../snapshot/inventory.ts';
import { type SnapshotRecord, toMetadata } from '../snapshot/record.ts';
import { bundleName } from '../snapshot/snapshot-name.ts';

/** What the second place has under a name: nothing, the same by its record, or something that must be looked at. */
type State = 'missing' | 'present' | 'other';

/** A blob, and its place in the second place. */
export interface CopyTask {
  /** Full names in both places. */
  readonly from: string;
  readonly to: string;
  readonly etag: string;
  /** Bytes. */
  readonly size: number;
  /** As the record of the snapshot names it. */
  readonly sha256: string;
  readonly uploadId: string;
  readonly state: State;
}

/** A snapshot of the first place. */
export interface PlannedCopy<T extends CataloguedBlob = CataloguedBlob> {
  readonly snapshot: Recorded<T>;
  readonly blob: CopyTask;
  /** Undefined where it has none. */
  readonly bundle: CopyTask | undefined;
  /** Whether what the second place has was read back there. */
  readonly isReadBack: boolean;
}

/** What an inventory of a place contains. */
interface Inventory<T> {
  readonly prefix: string;
  readonly blobs: readonly T[];
}

/** Compares the snapshots of the first place with the second. Their order stays. */
export function planCopies<T extends CataloguedBlob>(
  first: Inventory<T>,
  second: Inventory<CataloguedBlob>,
): PlannedCopy<T>[] {
  const there = new Map(second.blobs.map((blob) => [blob.name, blob]));
  // The bundle of a snapshot is no blob of its own in an inventory.
  const bundles = new Map(
    second.blobs.flatMap(({ bundle, record }) =>
      bundle ? [[bundle.name, { ...bundle, bundleOf: record?.uploadId }]] : [],
    ),
  );
  const moved = (name: string): string => `${second.prefix}${name.slice(first.prefix.length)}`;
  return first.blobs.filter(isRecorded).map((snapshot) => {
    const { name, etag, size, record, bundle } = snapshot;
    const { uploadId, bundleSha256 } = record;
    const to = moved(name);
    const ofBundle = bundle && bundleSha256 !== undefined ? { ...bundle, sha256: bundleSha256 } : undefined;
    const toBundle = bundleName(to);
    return {
      snapshot,
      blob: {
        ...{ from: name, to, etag, size, uploadId, sha256: record.storedSha256 ?? record.sha256 },
        state: stateOf(there.get(to), (other) => other.size === size && isSameRecord(other.record, record)),
      },
      bundle: ofBundle && {
        ...{ from: ofBundle.name, to: toBundle, etag: ofBundle.etag, size: ofBundle.size, uploadId },
        sha256: ofBundle.sha256,
        state: stateOf(
          bundles.get(toBundle) ?? there.get(toBundle),
          (other) => other.size === ofBundle.size && other.bundleOf === uploadId,
        ),
      },
      isReadBack: there.get(to)?.notReadBackBy !== 'copy',
    };
  });
}

/** Whether the second place has the snapshot, and its bundle if it has one, and both were read back. */
export function isDone({ blob, bundle, isReadBack }: PlannedCopy): boolean {
  return isReadBack && blob.state === 'present' && (bundle === undefined || bundle.state === 'present');
}

function stateOf<T>(other: T | undefined, isSame: (other: T) => boolean): State {
  if (other === undefined) return 'missing';
  return isSame(other) ? 'present' : 'other';
}

function isSameRecord(one: SnapshotRecord | undefined, other: SnapshotRecord): boolean {
  return one !== undefined && JSON.stringify(toMetadata(one)) === JSON.stringify(toMetadata(other));
}

/** What the second place lacks. */
export interface Lack {
  /** Snapshots that it does not have, or that were not read back there. */
  readonly missing: number;
  /** By how many seconds its newest snapshot is older than that of the first place; without any copy, the age of the oldest snapshot. */
  readonly lagSeconds: number;
}

/** @param snapshots of the first place @param there names of those that the second place has */
export function lackOf(snapshots: readonly Recorded<CataloguedBlob>[], there: ReadonlySet<string>, now: Date): Lack {
  const missing = snapshots.filter(({ name }) => !there.has(name)).length;
  const dated = newestFirst(snapshots, now);
  const [newest, oldest] = [dated[0], dated.at(-1)];
  const copy = dated.find(({ name }) => there.has(name));
  if (newest === undefined || oldest === undefined) return { missing, lagSeconds: 0 };
  const ms = copy === undefined ? now.getTime() - momentOf(oldest) : momentOf(newest) - momentOf(copy);
  return { missing, lagSeconds: Math.max(0, Math.round(ms / 1000)) };
}

/** What the second place lacks of an inventory of the first. */
export function comparedWith(second: Inventory<CataloguedBlob>): (first: Inventory<CataloguedBlob>, now: Date) => Lack {
  return (first, now) => {
    const planned = planCopies(first, second);
    const there = new Set(planned.filter(isDone).map(({ snapshot }) => snapshot.name));
    return lackOf(
      planned.map(({ snapshot }) => snapshot),
      there,
      now,
    );
  };
}

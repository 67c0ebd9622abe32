import { UsageError } from '../errors.ts';
import { humanAge } from '../text.ts';
import { blobSizeOf, type SnapshotRecord } from './record.ts';
import { type RecordSignature, whyNotTrusted } from './signature-state.ts';
import { bundleName, formOf, snapshotName } from './snapshot-name.ts';

/**
 * Which blobs are snapshots, and which one is the newest: everything that chooses, counts or deletes uses these rules.
 * Metadata, names and dates can be copied and forged by everybody who can write to the container.
 */

/** A blob under the prefix. */
export interface CataloguedBlob {
  readonly name: string;
  readonly etag: string;
  /** Bytes. */
  readonly size: number;
  /** By the clock of the service; in an inventory of a copy that was read back when its original was stored. */
  readonly storedAt: Date;
  /** In an inventory undefined for everything that is no snapshot: that is never touched. */
  readonly record: SnapshotRecord | undefined;
  /** Why a blob with metadata of this tool is no snapshot, in words that can follow "it is not counted:". */
  readonly problem: string | undefined;
  /** Of its record; undefined for blobs that never had one. */
  readonly signature?: RecordSignature | undefined;
  /** By which a later record refers to this one; undefined where no keys for signatures are in use. */
  readonly recordSha256?: string | undefined;
  /** Upload id of the snapshot that a bundle belongs to; undefined for everything else. */
  readonly bundleOf?: string;
  /** Somebody holds a lease on it, so it cannot be deleted now. */
  readonly isLeased?: boolean;
  /** In an inventory: the blob with the keys that belong to this snapshot. */
  readonly bundle?: BundleBlob;
  /** In an inventory: the command that stored it, and was killed before it read it back. */
  readonly notReadBackBy?: 'rewrap' | 'copy';
  /** In an inventory: the mark that keeps this snapshot now. */
  readonly kept?: Kept | undefined;
}

/** What the mark of a kept snapshot says. */
export interface Kept {
  /** Undefined = until it is released. */
  readonly until: Date | undefined;
  readonly note: string | undefined;
}

/** A bundle, as its snapshot refers to it. */
export interface BundleBlob {
  readonly name: string;
  readonly etag: string;
  /** Bytes. */
  readonly size: number;
  readonly isLeased: boolean;
}

/** A snapshot of this tool. */
export type Recorded<T> = T & { readonly record: SnapshotRecord };

/** Ids of clusters, in lower-case hex. */
export interface ClusterIds {
  /** The cluster that the operator or a running etcd names. */
  readonly clusterId?: string | undefined;
  /** Ids that the cluster had before it was restored. */
  readonly previousClusterIds: readonly string[];
}

/** A smaller difference between clocks is normal. */
export const CLOCK_SKEW_MS = 5 * 60_000;

/** The blob that this run has just stored, with the etag of its commit. */
export type StoredIdentity = Pick<CataloguedBlob, 'name' | 'etag'>;

/** The problem of a blob that is a snapshot under another prefix. */
export const ELSEWHERE = 'it is under another prefix';

/**
 * The same blobs, of which only snapshots have a record: those whose name is the one that this tool gives a snapshot of that
 * prefix and time, and whose signature is valid where signatures are required. An upload id is one snapshot: of several blobs
 * that have it, all but one are copies.
 * @param fresh the snapshot that this run has just stored: it is the original, whatever else there is
 */
export function takeInventory<T extends CataloguedBlob>(
  prefix: string,
  blobs: readonly T[],
  fresh?: StoredIdentity,
  areSignaturesRequired = false,
): T[] {
  const named = blobs.map((blob) => {
    if (blob.record === undefined) return blob;
    const problem = problemOf(prefix, blob, blob.record) ?? signatureProblem(blob, areSignaturesRequired);
    return problem === undefined ? blob : uncounted(blob, problem);
  });
  const originals = new Map<string, T>();
  for (const blob of named.toSorted((a, b) => byAge(a, b, fresh))) {
    if (blob.record !== undefined && !originals.has(blob.record.uploadId)) originals.set(blob.record.uploadId, blob);
  }
  return named.map((blob) => {
    const original = blob.record && originals.get(blob.record.uploadId);
    return original === undefined || original === blob ? blob : uncounted(blob, `it is a copy of ${original.name}`);
  });
}

const ORPHAN = 'it is the bundle of a snapshot that is not there';

/** Each snapshot with its bundle, which is then no blob of its own. A bundle without its snapshot is no snapshot. */
export function withBundles<T extends CataloguedBlob>(blobs: readonly T[]): T[] {
  const bundles = new Map(blobs.filter(({ bundleOf }) => bundleOf !== undefined).map((blob) => [blob.name, blob]));
  const taken = new Set<T>();
  const joined = blobs.map((blob) => {
    const bundle = blob.record?.bundleSha256 === undefined ? undefined : bundles.get(bundleName(blob.name));
    if (bundle === undefined || bundle.bundleOf !== blob.record?.uploadId) return blob;
    taken.add(bundle);
    const { name, etag, size, isLeased = false } = bundle;
    return { ...blob, bundle: { name, etag, size, isLeased } };
  });
  return joined
    .filter((blob) => !taken.has(blob))
    .map((blob) => (blob.bundleOf === undefined ? blob : uncounted(blob, ORPHAN)));
}

function uncounted<T extends CataloguedBlob>(blob: T, problem: string): T {
  return { ...blob, record: undefined, problem };
}

function problemOf(prefix: string, { name, size }: CataloguedBlob, record: SnapshotRecord): string | undefined {
  const { takenAt, encoding } = record;
  const form = formOf(name);
  if (name !== snapshotName(prefix, takenAt, encoding, form)) {
    const isElsewhere = name.endsWith(snapshotName('', takenAt, encoding, form));
    return isElsewhere ? ELSEWHERE : 'its name does not match the time or the encoding in its record';
  }
  const expected = blobSizeOf(record);
  return size === expected ? undefined : `it has ${size} bytes${OTHER_SIZE} ${expected}`;
}

const OTHER_SIZE = ', but its record says';

/** Whether it is no snapshot because of its size. */
export function hasOtherSize({ problem }: CataloguedBlob): boolean {
  return problem?.includes(OTHER_SIZE) === true;
}

/**
 * Why the signature of a blob's record forbids to use it, in words that can follow "it is not counted:". One that is bad always
 * does; a missing one and one by an unknown key only where signatures are required.
 */
export function signatureProblem(
  { signature }: Pick<CataloguedBlob, 'signature'>,
  areRequired: boolean,
): string | undefined {
  if (signature === undefined) return areRequired ? 'it has no record, and is unsigned' : undefined;
  return areRequired || signature.state === 'bad' ? whyNotTrusted(signature) : undefined;
}

/** Whether it would be a snapshot if its signature were valid. */
export function isUntrusted({ record, problem, signature }: CataloguedBlob): boolean {
  return (
    record === undefined && problem !== undefined && signature !== undefined && problem === whyNotTrusted(signature)
  );
}

/**
 * The one that was stored first comes first: nobody can store a copy before the original. The service's times have seconds;
 * of two in the same second, the original was taken nearer to it.
 */
function byAge(a: CataloguedBlob, b: CataloguedBlob, fresh: StoredIdentity | undefined): number {
  const isFresh = (blob: CataloguedBlob): number => Number(fresh !== undefined && isSame(blob, fresh));
  const delay = ({ record, storedAt }: CataloguedBlob): number =>
    record === undefined ? Infinity : Math.abs(storedAt.getTime() - record.takenAt.getTime());
  const byStored = isFresh(b) - isFresh(a) || a.storedAt.getTime() - b.storedAt.getTime();
  return byStored || delay(a) - delay(b) || (a.name < b.name ? -1 : 1);
}

/** Whether two descriptions are of the same state of the same blob. Lists have etags without the quotation marks of headers. */
export function isSame(a: StoredIdentity, b: StoredIdentity): boolean {
  return a.name === b.name && a.etag.replaceAll('"', '') === b.etag.replaceAll('"', '');
}

export function isRecorded<T extends CataloguedBlob>(blob: T): blob is Recorded<T> {
  return blob.record !== undefined;
}

/** Whether it is a bundle without its snapshot. */
export function isOrphan({ problem }: CataloguedBlob): boolean {
  return problem === ORPHAN;
}

/** Snapshots whose bundle is gone, or was replaced by another blob. */
export function withoutTheirBundle<T extends CataloguedBlob>(snapshots: readonly Recorded<T>[]): Recorded<T>[] {
  return snapshots.filter(({ record, bundle }) => record.bundleSha256 !== undefined && bundle === undefined);
}

/** Blobs with metadata of this tool that are no snapshots, here or elsewhere. */
export function malformed<T extends CataloguedBlob>(blobs: readonly T[]): T[] {
  return blobs.filter(({ problem }) => problem !== undefined && problem !== ELSEWHERE);
}

/** A clock was wrong when it was taken: it must not count, or it would displace good ones. */
export function isFutureDated({ record, storedAt }: Recorded<CataloguedBlob>, now: Date): boolean {
  return record.takenAt.getTime() > Math.min(storedAt.getTime(), now.getTime()) + CLOCK_SKEW_MS;
}

/**
 * When it was taken, in milliseconds since 1970, but not after it was stored: the one clock of the service corrects hosts
 * whose clocks are minutes ahead.
 */
export function momentOf({ record, storedAt }: Recorded<CataloguedBlob>): number {
  return Math.min(record.takenAt.getTime(), storedAt.getTime());
}

/** All snapshots whose date can be relied upon, in an order that does not depend on that of the blobs. */
export function newestFirst<T extends CataloguedBlob>(blobs: readonly T[], now: Date): Recorded<T>[] {
  return blobs
    .filter(isRecorded)
    .filter((snapshot) => !isFutureDated(snapshot, now))
    .toSorted(
      (a, b) =>
        momentOf(b) - momentOf(a) ||
        Number(a.notReadBackBy !== undefined) - Number(b.notReadBackBy !== undefined) ||
        b.storedAt.getTime() - a.storedAt.getTime() ||
        // Stored in the same second: the clock of the one that is dated later was ahead.
        a.record.takenAt.getTime() - b.record.takenAt.getTime() ||
        formOf(b.name) - formOf(a.name) ||
        (a.name < b.name ? 1 : -1),
    );
}

/**
 * The newest snapshot of the named cluster, or of its previous ids while it has none under its own. If no cluster is named,
 * there must be only one, previous ids aside.
 * @returns undefined when there is none
 * @throws UsageError when several clusters are possible
 */
export function newestSnapshot<T extends CataloguedBlob>(
  blobs: readonly T[],
  { clusterId, previousClusterIds }: ClusterIds,
  now: Date,
): Recorded<T> | undefined {
  const dated = newestFirst(blobs, now);
  const [newest] = dated;
  const isEarlier = ({ record }: Recorded<T>): boolean => previousClusterIds.includes(record.clusterId);
  if (clusterId !== undefined)
    return dated.find(({ record }) => record.clusterId === clusterId) ?? dated.find(isEarlier);
  const [current, ...others] = newestOfEach(dated.filter((snapshot) => !isEarlier(snapshot)));
  if (current === undefined || (others.length === 0 && current === newest)) return newest;
  const clusters = newestOfEach(dated).map((snapshot) => {
    return `${snapshot.record.clusterId} (newest ${humanAge(now.getTime() - momentOf(snapshot))} old)`;
  });
  throw new UsageError(
    `There are snapshots of ${clusters.length} clusters, and none was chosen: ${clusters.join(', ')}.`,
    'Give --cluster-id ID, or name a snapshot. If they are ids of one cluster, before and after a restore, set SNAPSHOT_PREVIOUS_CLUSTER_IDS to the old ones.',
  );
}

/** Whether its revision is higher. When a file was imported, or a later form was stored, says nothing of its data. */
export function hasNewerData(one: Recorded<CataloguedBlob>, other: Recorded<CataloguedBlob>): boolean {
  return one.record.revision > other.record.revision && one.record.imported === undefined && formOf(one.name) === 1;
}

/**
 * A snapshot of the same cluster that was stored later and has a higher revision: then the clock of a host was wrong. When a file
 * was imported says nothing.
 */
export function laterThan<T extends CataloguedBlob>(newest: Recorded<T>, blobs: readonly T[]): Recorded<T> | undefined {
  const { clusterId } = newest.record;
  return blobs
    .filter(isRecorded)
    .filter(({ record, storedAt }) => record.clusterId === clusterId && storedAt > newest.storedAt)
    .filter((snapshot) => hasNewerData(snapshot, newest))
    .toSorted((a, b) => b.record.revision - a.record.revision)[0];
}

/** The newest snapshot of each cluster, of snapshots the newest first. */
function newestOfEach<T extends Recorded<CataloguedBlob>>(snapshots: readonly T[]): T[] {
  return [...Map.groupBy(snapshots, ({ record }) => record.clusterId).values()].flatMap(([first]) => first ?? []);
}

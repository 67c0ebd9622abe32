import { createHash } from 'node:crypto';
import { StorageError, VerificationError } from '../errors.ts';
import type { Sealing } from '../sealed/sealing.ts';
import type { BundleKeys } from '../snapshot/record.ts';
import { bundleName } from '../snapshot/snapshot-name.ts';
import type { BlobStore } from '../store/store.ts';
import type { StagedUpload } from '../store/upload.ts';
import { type ArchiveEntry, pack, unpack } from './archive.ts';
import { fingerprintsOf } from './key-fingerprints.ts';

/** A bundle is always compressed and encrypted, whatever the snapshots are. */
const ENCODING = 'zstd+age';

/** The snapshot that a bundle belongs to, which is not committed yet. */
export interface BundleOwner {
  readonly name: string;
  readonly upload: StagedUpload;
}

/** A bundle in the container. */
export interface StoredBundle {
  readonly name: string;
  /** Bytes of the blob. */
  readonly size: number;
  /** Of the blob. */
  readonly sha256: string;
  readonly keys: BundleKeys;
}

/**
 * Stores a bundle with the upload id of its snapshot, and reads it back. It is rolled back together with the snapshot.
 * @param sealing with recipients
 * @throws StorageError; VerificationError when it does not read back as it was written. Then nothing is stored
 */
export async function uploadBundle(
  store: BlobStore,
  { name: snapshot, upload: ofSnapshot }: BundleOwner,
  entries: readonly ArchiveEntry[],
  sealing: Sealing,
  readBack: 'full' | 'off',
): Promise<StoredBundle> {
  const name = bundleName(snapshot);
  const archive = [...pack(entries)];
  // What cannot be extracted would be noticed only in a disaster.
  await unpack(name, archive);
  const upload = store.startUpload(name, { isReadBack: readBack === 'full', contentMd5: 'off' }, ofSnapshot.uploadId);
  const sealer = await sealing.start(upload, ENCODING);
  try {
    const hash = createHash('sha256');
    for (const piece of archive) {
      hash.update(piece);
      await sealer.write(piece);
    }
    const { storedSize: size, storedSha256: sha256, recipients } = await sealer.finish();
    const { etag } = await upload.commitBundle(recipients);
    if (readBack === 'full') {
      const expected = { name, size: undefined, storedSha256: sha256 };
      const read = sealing.open(store.read(name, etag, size), expected, ENCODING);
      await assertReadsBack(name, read, hash.digest('hex'));
    }
    ofSnapshot.companion = upload;
    return { name, size, sha256, keys: fingerprintsOf(entries, upload.uploadId) };
  } catch (error) {
    await upload.rollback();
    upload.abort();
    throw error;
  } finally {
    sealer.close();
  }
}

async function assertReadsBack(name: string, read: AsyncIterable<Buffer>, sha256: string): Promise<void> {
  const hash = createHash('sha256');
  try {
    for await (const piece of read) hash.update(piece);
  } catch (error) {
    // The read-back of the snapshot reports an identity that can only write.
    if (error instanceof StorageError && error.isForbidden) return;
    throw error;
  }
  if (hash.digest('hex') === sha256) return;
  throw new VerificationError(`The stored ${name} does not match the data that was sent.`, 'Run the command again.');
}

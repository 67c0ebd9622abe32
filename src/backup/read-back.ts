import { createHash } from 'node:crypto';
import type { Config } from '../config/config.ts';
import { Interrupted, StorageError, VerificationError } from '../errors.ts';
import type { StartProgress } from '../progress.ts';
import type { Sealing } from '../sealed/sealing.ts';
import type { StoredIdentity } from '../snapshot/inventory.ts';
import type { BlobStore } from '../store/store.ts';
import type { StreamedSnapshot } from './stream-from-member.ts';

interface StoredSnapshot extends StoredIdentity, Pick<StreamedSnapshot, 'upload' | 'snapshot' | 'seal'> {
  /** Of this run. */
  readonly sealing: Sealing | undefined;
}

export interface ReadBack {
  readonly state: 'done' | 'off' | 'not permitted';
  /** What to end with where reading is not permitted: nothing is known of the stored blob then. */
  readonly refusal?: StorageError;
}

/**
 * Reads the whole stored blob back, unless that is off, opens it if it is sealed, and compares the sha256 with that of etcd's
 * stream. A blob with another sha256 twice, or whose read-back is interrupted by a signal, is rolled back. One that cannot be read stays: it
 * can be valid.
 * @throws StorageError, which says whether the blob stays; Interrupted, which names it where its rollback was not confirmed
 */
export async function readBackStored(
  store: BlobStore,
  stored: StoredSnapshot,
  mode: Config['readBack'],
  startProgress: StartProgress,
): Promise<ReadBack> {
  if (mode === 'off') return { state: 'off' };
  const { name, upload, snapshot } = stored;
  const { sha256 } = snapshot.facts;
  try {
    const isSame = async (): Promise<boolean> => (await sha256Of(store, stored, startProgress)) === sha256;
    // A second time before the blob is rolled back: the reading itself can be at fault.
    if ((await isSame()) || (await isSame())) {
      upload.markProven();
      return { state: 'done' };
    }
  } catch (error) {
    if (error instanceof Interrupted) throw await upload.rollbackAfter(error);
    if (!(error instanceof StorageError)) throw error;
    const notReadBack = storedButNotReadBack(name, error);
    if (error.isForbidden) return { state: 'not permitted', refusal: notReadBack };
    throw notReadBack;
  }
  const isRemoved = await upload.rollback();
  throw new StorageError(
    'ReadBackMismatch',
    `The stored blob ${name} does not match the data that was sent${isRemoved ? '; it was removed' : ''}.`,
    isRemoved
      ? 'Run the command again, and check for a proxy that changes data.'
      : `Delete ${name}: it is not a valid snapshot.`,
  );
}

/** A reader of the failure must not conclude that there is no backup. */
function storedButNotReadBack(name: string, error: StorageError): StorageError {
  const [why, hint] = error.isForbidden
    ? [
        `Reading it back is not permitted. [${error.code}]`,
        'Grant this identity permission to read, or set SNAPSHOT_READ_BACK=off to skip this.',
      ]
    : [error.message, error.hint];
  return new StorageError(error.code, `The backup ${name} was stored, but not read back. ${why}`, hint, error);
}

/** Of the snapshot's file; undefined where a sealed blob cannot be opened. */
async function sha256Of(
  store: BlobStore,
  stored: StoredSnapshot,
  startProgress: StartProgress,
): Promise<string | undefined> {
  const { size } = stored.snapshot.facts;
  const hash = createHash('sha256');
  const progress = startProgress('reading back', size);
  try {
    for await (const piece of fileOf(store, stored)) {
      hash.update(piece);
      progress.advance(piece.length);
    }
  } catch (error) {
    if (error instanceof VerificationError) return undefined;
    throw error;
  } finally {
    progress.end();
  }
  return hash.digest('hex');
}

/** The bytes of the snapshot's file, from its blob. */
function fileOf(store: BlobStore, { name, etag, snapshot, seal, sealing }: StoredSnapshot): AsyncIterable<Buffer> {
  const { size } = snapshot.facts;
  if (seal === undefined || sealing === undefined) return store.read(name, etag, size);
  const expected = { name, size, storedSha256: seal.storedSha256 };
  return sealing.open(store.read(name, etag, seal.storedSize), expected);
}

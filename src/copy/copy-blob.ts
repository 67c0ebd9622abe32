import { StorageError } from '../errors.ts';
import type { StartProgress } from '../progress.ts';
import { isSame } from '../snapshot/inventory.ts';
import { RecordMatcher } from '../snapshot/record-match.ts';
import type { BlobStore } from '../store/store.ts';
import type { Committed } from '../store/upload.ts';
import type { CopyTask } from './plan-copies.ts';

/**
 * `disappeared`: it was deleted or replaced in the first place. `corrupt`: its bytes do not match its record. `conflict`: the
 * second place has something else under its name. `archived`: it cannot be read in the first place, because of its archive tier;
 * `copyArchived`: the same in the second place, where it was not read back yet.
 */
export type Copied = 'copied' | 'present' | 'disappeared' | 'corrupt' | 'conflict' | 'archived' | 'copyArchived';

/** What became of one blob. */
export interface CopiedBlob {
  readonly result: Copied;
  /** Of the blob in the second place, where it was read back: copied by this run, or present. */
  readonly etag?: string;
}

/** The two places. */
export interface Places {
  readonly first: BlobStore;
  readonly second: BlobStore;
}

type Described = NonNullable<Awaited<ReturnType<BlobStore['find']>>>;

/**
 * Copies one blob with its metadata, and reads it back from the second place, as it does with one that is there already. It becomes
 * visible there only when all of its bytes match the record. Nothing is overwritten.
 * @param beforeCommit done when all bytes are known to match the record
 * @throws StorageError
 */
export async function copyBlob(
  places: Places,
  task: CopyTask,
  startProgress: StartProgress,
  beforeCommit?: () => Promise<void>,
): Promise<CopiedBlob> {
  const { first, second } = places;
  const original = await first.find(task.from);
  if (original === undefined || !isSame(original, { name: task.from, etag: task.etag }))
    return { result: 'disappeared' };
  if (task.state !== 'missing') return await readBackPresent(second, task, original);
  // The service checks the MD5 of each block: nobody else compares the bytes that arrive with those that were hashed.
  const checksums = { isReadBack: false, contentMd5: 'off' } as const;
  const upload = second.startUpload(task.to, checksums, task.uploadId);
  const matcher = new RecordMatcher(task.sha256);
  const progress = startProgress(`copying ${task.from}`, task.size);
  try {
    for await (const piece of readFirst(first, { ...task, etag: original.etag })) {
      matcher.push(piece);
      await upload.write(piece);
      progress.advance(piece.length);
    }
    const bytes = matcher.finish();
    if (bytes === undefined) return { result: 'corrupt' };
    await beforeCommit?.();
    const committed = await upload.commitCopy(bytes, original.metadata);
    const result = await readBackCopy(second, task, committed, original);
    upload.settleCopy();
    return result;
  } catch (error) {
    if (error instanceof Unreadable) return { result: error.result };
    if (!(error instanceof StorageError) || error.code !== 'BlobAlreadyExists') throw error;
    upload.settleCopy();
    return await readBackPresent(second, task, original);
  } finally {
    upload.abort();
    progress.end();
  }
}

/** Why a blob of the first place cannot be read: it alone is skipped. */
class Unreadable extends Error {
  readonly result: 'disappeared' | 'archived';

  constructor(result: Unreadable['result']) {
    super(result);
    this.result = result;
  }
}

async function* readFirst(first: BlobStore, { from, etag, size }: CopyTask): AsyncGenerator<Buffer, void, void> {
  try {
    yield* first.read(from, etag, size);
  } catch (error) {
    if (isArchived(error)) throw new Unreadable('archived');
    const isGone = error instanceof StorageError && ['BlobNotFound', 'ConditionNotMet'].includes(error.code);
    throw isGone ? new Unreadable('disappeared') : error;
  }
}

function isArchived(error: unknown): boolean {
  return error instanceof StorageError && error.code === 'BlobArchived';
}

/** What is there already: the same, or something else. Another run stored it, and may have been killed before it read it back. */
async function readBackPresent(second: BlobStore, task: CopyTask, original: Described): Promise<CopiedBlob> {
  const found = await second.find(task.to);
  if (found === undefined || !isIdentical(found, original)) return { result: 'conflict' };
  const { etag } = found;
  try {
    return (await hasBytes(second, task, etag)) ? { result: 'present', etag } : { result: 'conflict' };
  } catch (error) {
    if (isArchived(error)) return { result: 'copyArchived' };
    throw error;
  }
}

/** Reads all of it, twice before it is taken for wrong: the reading itself can be at fault. */
async function hasBytes(second: BlobStore, { to, size, sha256 }: CopyTask, etag: string): Promise<boolean> {
  const isRight = async (): Promise<boolean> => (await second.sha256Of(to, etag, size)) === sha256;
  return (await isRight()) || (await isRight());
}

function isIdentical(one: Described, other: Described): boolean {
  const text = ({ metadata }: Described): string =>
    JSON.stringify(
      Object.entries(metadata)
        .map(([field, value]) => `${field}=${value}`)
        .toSorted(),
    );
  return one.size === other.size && text(one) === text(other);
}

/** @throws StorageError when the copy is wrong; it is removed then if nobody else can have stored it */
async function readBackCopy(
  second: BlobStore,
  task: CopyTask,
  { etag, isOwn }: Committed,
  original: Described,
): Promise<CopiedBlob> {
  const { to } = task;
  if (await hasBytes(second, task, etag)) {
    const found = await second.find(to);
    if (found !== undefined && isIdentical(found, original)) return { result: 'copied', etag };
  }
  if (!isOwn) return { result: 'conflict' };
  const obstacle = await second.remove(to, etag);
  throw new StorageError(
    'ReadBackMismatch',
    `The copy ${to} does not match the data that was sent${obstacle === undefined ? '; it was removed' : ''}.`,
    obstacle === undefined
      ? 'Run the command again, and check for a proxy that changes data.'
      : `Delete ${to} in the second place, which is ${obstacle}: it is not a valid snapshot.`,
  );
}

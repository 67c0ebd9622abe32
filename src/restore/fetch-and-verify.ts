import { type FileHandle, open, readdir, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { pathOf } from '../directories.ts';
import { Interrupted, RunTimeout, StorageError, UnsafeError, VerificationError } from '../errors.ts';
import { onDisk, statOf, withNames } from '../files.ts';
import type { Log } from '../log.ts';
import type { StartProgress } from '../progress.ts';
import {
  checksumWarning,
  factsOf,
  openFile,
  readThrough,
  type SnapshotSource,
  storedInFile,
  verifyStored,
} from '../snapshot/source.ts';
import { isReadable, type StoredForm } from '../snapshot/stored-form.ts';
import type { SnapshotFacts } from '../snapshot/verify/verdict.ts';

const HINT =
  'Nothing was restored. Choose another snapshot with `etcd-snapshot list`; `etcd-snapshot verify` shows all problems.';

interface FetchOptions {
  readonly memoryBudget: number;
  readonly startProgress: StartProgress;
  readonly log: Log;
  readonly signal: AbortSignal;
}

/** A snapshot as a file on this machine, every page of it verified, also where the file is sealed. */
interface Fetched {
  readonly file: string;
  readonly facts: SnapshotFacts;
  /** Of a file whose sha256 was not checked. */
  readonly warning?: ReturnType<typeof checksumWarning>;
}

/** Bytes of a download that an interrupted run left here. */
export async function bytesAt(source: SnapshotSource, dir: string): Promise<number> {
  const part = partOf(source, dir);
  return part === undefined ? source.size : ((await statOf(part))?.size ?? 0);
}

/**
 * Downloads a stored snapshot into `dir` and verifies what the disk returns; a file is verified where it is, or unpacked into
 * `dir` if it is sealed. A download that was interrupted is resumed.
 * @throws VerificationError when it is corrupt or does not match its record, and the download is removed;
 *   StorageError, UsageError for the disk, the abort's reason
 */
export async function fetchVerified(source: SnapshotSource, dir: string, options: FetchOptions): Promise<Fetched> {
  const part = partOf(source, dir);
  if (part === undefined) {
    const verdict = await readThrough(source, options);
    const facts = factsOf(source, verdict, HINT);
    return { file: source.name, facts, warning: checksumWarning(source, verdict) };
  }
  const { name, skipHashCheck } = source;
  const verify = async (path: string): Promise<SnapshotFacts> => {
    const file = await openFile(path, options.signal, { skipHashCheck });
    return factsOf(source, await readThrough({ ...file, name }, options), HINT);
  };
  return { file: part, facts: await download(source, source, dir, part, verify, options) };
}

/**
 * The same for the bytes of a sealed snapshot as they are stored. Throws what `fetchVerified` throws.
 * @returns no facts of an encrypted snapshot that cannot be opened: then only the stored bytes are verified
 */
export async function fetchAsStored(
  source: SnapshotSource,
  stored: StoredForm,
  dir: string,
  options: FetchOptions,
): Promise<{ readonly file: string; readonly facts: SnapshotFacts | undefined }> {
  const part = partOf(source, dir) ?? source.name;
  const verify = async (path: string): Promise<SnapshotFacts | undefined> => {
    const file = storedInFile(source, stored, path, options.signal);
    if (isReadable(stored)) return factsOf(source, await readThrough(file, options), HINT);
    await verifyStored(file, file.stored ?? stored, options);
    return undefined;
  };
  return { file: part, facts: await download(source, stored, dir, part, verify, options) };
}

/** Whether a failed run leaves a download that the next one can resume; if so, the log says where it is. */
export async function keepsDownload(error: unknown, source: SnapshotSource, dir: string, log: Log): Promise<boolean> {
  const part = partOf(source, dir);
  const canResume = error instanceof StorageError || error instanceof Interrupted || error instanceof RunTimeout;
  if (!canResume || part === undefined || source.etag === undefined) return false;
  const size = (await statOf(part))?.size ?? 0;
  if (size === 0) return false;
  log.warn('kept the incomplete download: the same command resumes it', { dir: withNames(dir), size });
  return true;
}

/** The path of a download, which depends on the bytes of the blob; undefined for a file that needs none. */
function partOf({ etag, stored }: SnapshotSource, dir: string): string | undefined {
  if (etag === undefined && stored === undefined) return undefined;
  const which = etag === undefined ? 'file' : etag.replaceAll(/\W/g, '');
  return join(dir, `snapshot-${which}.db`);
}

async function removeOthers(dir: string, part: string | undefined): Promise<void> {
  for (const name of await readdir(dir)) {
    const path = join(dir, name);
    if (name.startsWith('snapshot-') && path !== part) await unlink(path);
  }
}

/** What is downloaded: the snapshot's file, or its stored bytes. */
type Wanted = Pick<SnapshotSource, 'size' | 'read'>;

/** @param verify what the disk returns of the file that was written, which is still the one of this name */
async function download<T>(
  source: SnapshotSource,
  wanted: Wanted,
  dir: string,
  part: string,
  verify: (path: string) => Promise<T>,
  options: FetchOptions,
): Promise<T> {
  // What is left of a file can be of another one: it has no etag.
  await removeOthers(dir, source.etag === undefined ? undefined : part);
  const resumed = (await bytesAt(source, dir)) > 0;
  const file = await onDisk(`Creating ${part}`, open(part, 'a', 0o600));
  try {
    await append(source.name, wanted, file, part, options);
    const result = await verify(pathOf(file.fd, part));
    await assertSameFile(file, part);
    return result;
  } catch (error) {
    if (!(error instanceof VerificationError)) throw error;
    await onDisk(`Removing ${part}`, unlink(part));
    if (!resumed) throw error;
  } finally {
    await file.close();
  }
  options.log.warn('resumed download is not valid: downloading it again');
  return download(source, wanted, dir, part, verify, options);
}

/** Downloads what the file lacks. */
async function append(
  name: string,
  wanted: Wanted,
  file: FileHandle,
  part: string,
  { startProgress, log }: FetchOptions,
): Promise<void> {
  const { size } = wanted;
  const progress = startProgress(`downloading ${name}`, size);
  try {
    const { size: from } = await file.stat();
    if (from > 0) log.info('resuming an interrupted download', { from, size });
    progress.advance(from);
    if (from < size) {
      for await (const piece of wanted.read(from)) {
        await onDisk(`Writing ${part}`, file.appendFile(piece));
        progress.advance(piece.length);
      }
    }
    await onDisk(`Writing ${part}`, file.sync());
  } finally {
    progress.end();
  }
}

/** @throws UnsafeError unless the name still leads to the file that was written and verified */
async function assertSameFile(file: FileHandle, part: string): Promise<void> {
  const [own, named] = [await file.stat(), await statOf(part, 'refuse')];
  if (named?.dev === own.dev && named.ino === own.ino) return;
  throw new UnsafeError(
    `${withNames(part)} was removed or replaced by another process while it was verified.`,
    'Check what else uses this directory, and run the command again.',
  );
}

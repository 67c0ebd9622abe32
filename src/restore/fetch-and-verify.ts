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
} from '../snapshot/source.ts';
import type { SnapshotFacts, VerdictWithoutHash } from '../snapshot/verify/verdict.ts';

const HINT =
  'Nothing was restored. Choose another snapshot with `etcd-snapshot list`; `etcd-snapshot verify` shows all problems.';

interface FetchOptions {
  readonly memoryBudget: number;
  readonly startProgress: StartProgress;
  readonly log: Log;
  readonly signal: AbortSignal;
  /** Fetch the stored bytes of a sealed snapshot, instead of its file. */
  readonly asStored?: boolean;
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
  // What is left of a file can be of another one: it has no etag.
  await removeOthers(dir, source.etag === undefined ? undefined : part);
  const resumed = (await bytesAt(source, dir)) > 0;
  try {
    return { file: part, facts: factsOf(source, await download(source, part, options), HINT) };
  } catch (error) {
    if (!(error instanceof VerificationError)) throw error;
    await onDisk(`Removing ${part}`, unlink(part));
    if (!resumed) throw error;
  }
  options.log.warn('resumed download is not valid: downloading it again');
  return fetchVerified(source, dir, options);
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

/** @returns the verdict on what the disk returns of the file that was written, which is still the one of this name */
async function download(source: SnapshotSource, part: string, options: FetchOptions): Promise<VerdictWithoutHash> {
  const file = await onDisk(`Creating ${part}`, open(part, 'a', 0o600));
  try {
    await append(source, file, part, options);
    const verdict = await readThrough(await written(source, pathOf(file.fd, part), options), options);
    await assertSameFile(file, part);
    return verdict;
  } finally {
    await file.close();
  }
}

/** The snapshot, as it can be read from the file that was written. */
async function written(
  source: SnapshotSource,
  path: string,
  { signal, asStored }: FetchOptions,
): Promise<SnapshotSource> {
  const { name, stored } = source;
  if (asStored === true && stored !== undefined) return storedInFile(source, stored, path, signal);
  return { ...(await openFile(path, signal, { skipHashCheck: source.skipHashCheck })), name };
}

/** Downloads what the file lacks. */
async function append(
  source: SnapshotSource,
  file: FileHandle,
  part: string,
  { startProgress, log, asStored }: FetchOptions,
): Promise<void> {
  const wanted = (asStored === true ? source.stored : undefined) ?? source;
  const { size } = wanted;
  const progress = startProgress(`downloading ${source.name}`, size);
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

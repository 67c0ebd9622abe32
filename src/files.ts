import { constants, readlinkSync, type Stats } from 'node:fs';
import { type FileHandle, lstat, open, readFile, stat, statfs } from 'node:fs/promises';
import { geteuid } from 'node:process';
import { hasCode, messageOf, UsageError, WorkerError } from './errors.ts';
import { secretLook } from './secret.ts';
import { humanSize, printable } from './text.ts';

/** Bytes. No file that is written by hand is larger. */
const MAX_TEXT = 1024 * 1024;

/** Bytes of a large file that are read at a time. */
const PIECE_SIZE = 1024 * 1024;

/**
 * Opens a file for reading. Never waits for the other end of a FIFO, and never reads from a device.
 * @param links `refuse` where another user can write to the directory: the last part of the path must then not be a symbolic link
 * @throws the error of the system call; Error with code `ENOTREG` for anything but a regular file
 */
export async function openRegular(
  path: string,
  links: 'follow' | 'refuse' = 'follow',
): Promise<{ readonly file: FileHandle; readonly stats: Stats }> {
  const noFollow = links === 'refuse' ? constants.O_NOFOLLOW : 0;
  // Checked before opening as well: opening a device can have effects, and a socket cannot be opened.
  const before = await (links === 'refuse' ? lstat(path) : stat(path));
  if (!before.isFile()) throw notRegular(before);
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK | noFollow);
  try {
    const stats = await file.stat();
    if (stats.isFile()) return { file, stats };
    throw notRegular(stats);
  } catch (error) {
    await file.close();
    throw error;
  }
}

/**
 * The bytes of a large file from an offset to its end. A piece is valid until the next one is taken: to allocate memory for each
 * takes longer than to read it.
 * @throws what `openRegular` throws, the error of the system call, the abort's reason
 */
export async function* piecesOf(path: string, signal: AbortSignal, start = 0): AsyncGenerator<Buffer, void, void> {
  const { file } = await openRegular(path);
  let reading: ReturnType<typeof file.read<Buffer>> | undefined;
  try {
    let [memory, other] = [Buffer.allocUnsafe(PIECE_SIZE), Buffer.allocUnsafe(PIECE_SIZE)];
    reading = file.read(memory, 0, PIECE_SIZE, start);
    for (let at = start; ;) {
      const { bytesRead } = await reading;
      signal.throwIfAborted();
      if (bytesRead === 0) return;
      at += bytesRead;
      // The next piece is read while this one is used.
      reading = file.read(other, 0, PIECE_SIZE, at);
      // An error is thrown when the piece is taken, not before.
      reading.catch(() => {});
      yield memory.subarray(0, bytesRead);
      [memory, other] = [other, memory];
    }
  } finally {
    await reading?.catch(() => {});
    await file.close();
  }
}

/**
 * The bytes of a file at some places. A piece is valid until the next one is taken.
 * @throws what `piecesOf` throws; Error where the file ends before
 */
export async function* partsOf(path: string, signal: AbortSignal, places: Iterable<Place>): AsyncGenerator<Buffer> {
  const { file } = await openRegular(path);
  await using opened = file;
  let memory = Buffer.alloc(0);
  for (const { at, size } of places) {
    if (memory.length < size) memory = Buffer.allocUnsafe(size);
    const { bytesRead } = await opened.read(memory, 0, size, at);
    signal.throwIfAborted();
    if (bytesRead < size) throw new Error('has fewer bytes than before');
    yield memory.subarray(0, size);
  }
}

/** In a file, in bytes. */
export interface Place {
  readonly at: number;
  readonly size: number;
}

/** The path that a shell passes for `<(command)`, and that of an empty file: the only ones that need not be regular files. */
const STREAMS = /^\/dev\/(null|stdin|fd\/\d+)$/;

/**
 * Reads a small file that an option or a variable names.
 * @param what names it in the message, such as `client key`
 * @param options.streams whether it can also be the output of a command; only for what is read once
 * @throws UsageError with the reason; a value that is not a path is not shown, because it may be the secret itself
 */
export async function readNamed(path: string, what: string, hint: string, { streams = false } = {}): Promise<Buffer> {
  const problem = pathProblem(path);
  if (problem !== undefined) throw new UsageError(`The value given for the ${what} ${problem}.`, hint);
  try {
    if (streams && STREAMS.test(path)) return await readFile(path);
    const { file, stats } = await openRegular(path);
    await using opened = file;
    if (stats.size <= MAX_TEXT) return await opened.readFile();
  } catch (error) {
    throw new UsageError(`The ${what} ${printable(path)} ${whyUnreadable(error)}.`, hint, error);
  }
  throw new UsageError(`The ${what} ${printable(path)} is larger than ${MAX_TEXT} bytes.`, hint);
}

const UNREADABLE = new Map([
  ['ENOENT', 'does not exist'],
  ['ENOTDIR', 'does not exist: a part of its path is not a directory'],
  ['EACCES', 'cannot be read by this user (permission denied)'],
  ['ELOOP', 'is a loop of symbolic links'],
]);

/** Why a file cannot be read, in words that follow its name. */
export function whyUnreadable(error: unknown): string {
  if (hasCode(error, 'ENOTREG')) return messageOf(error);
  const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown';
  return UNREADABLE.get(code) ?? `cannot be read (${code})`;
}

/**
 * Why a value cannot be a path, in words that follow its name; undefined if it can. Such a value is not shown, because it may be
 * the secret itself instead of the path of its file.
 */
export function pathProblem(value: string): string | undefined {
  const look = secretLook(value);
  if (look !== undefined) return `contains ${look} itself, not a path to one`;
  const isPath = value.length <= 4096 && !/\p{C}/u.test(value) && value.split('/').every(({ length }) => length <= 255);
  return isPath ? undefined : 'is not a path';
}

/** Who else can change a file, in words that follow its name; undefined = nobody but root. @param user undefined where files have no owners */
export function whoElseWrites({ uid, mode }: Stats, user: number | undefined): string | undefined {
  if (user === undefined) return undefined;
  if (uid !== user && uid !== 0) return 'belongs to another user';
  return (mode & 0o022) === 0 ? undefined : 'can be written by other users (chmod go-w)';
}

/**
 * A warning, with its hint, about a file that decides who is trusted: everybody who can change it can choose that.
 * @param what it has, for the message
 */
export async function warningAboutWriters(
  path: string,
  what: string,
): Promise<(readonly [sentence: string, hint: string])[]> {
  const why = whoElseWrites(await stat(path), geteuid?.());
  const hint = 'Use a file that only this user or root can change.';
  return why === undefined ? [] : [[`The file with ${what}, ${printable(path)}, ${why}.`, hint]];
}

function notRegular(stats: Stats): Error {
  return Object.assign(new Error(`is ${kindOf(stats)}, not a regular file`), { code: 'ENOTREG' });
}

/** The kind of a directory entry, for messages. */
export function kindOf(stats: Stats): string {
  if (stats.isFile()) return 'a file';
  if (stats.isDirectory()) return 'a directory';
  if (stats.isSymbolicLink()) return 'a symbolic link';
  if (stats.isFIFO()) return 'a FIFO';
  if (stats.isSocket()) return 'a socket';
  return 'a device';
}

/** A text in which paths of held directories are replaced by their names. */
export function withNames(text: string): string {
  return text.replaceAll(/\/proc\/self\/fd\/\d+/g, (path) => {
    try {
      return readlinkSync(path);
    } catch {
      return path;
    }
  });
}

const ANOTHER_DISK = 'Free disk space, or use a directory on another disk.';
const AS_ROOT = 'Run as root, with the capabilities CHOWN, DAC_OVERRIDE and FOWNER.';

const WHY: Readonly<Record<string, readonly [why: string, hint: string]>> = {
  ENOSPC: ['no space left', ANOTHER_DISK],
  EDQUOT: ['quota exceeded', 'Raise the quota, or use a directory on another disk.'],
  EFBIG: ['file too large', 'Raise the limit (ulimit -f), or use another file system.'],
  EACCES: ['permission denied', AS_ROOT],
  EPERM: ['permission denied', AS_ROOT],
  EROFS: ['the file system is read-only', 'In a container, mount the parent directory writable.'],
  ENOENT: ['it does not exist', 'Check the path; in a container, mount the parent directory.'],
  ENOTDIR: ['a part of its path is not a directory', 'Check the path.'],
  EEXIST: ['it already exists', 'Run the command again.'],
  EBUSY: ['it is a mount point', 'Use a directory inside it.'],
  ENOTEMPTY: ['the directory is no longer empty', 'Check whether etcd or another restore uses it.'],
};

/**
 * Explains failures of work on the local disk.
 * @param doing completes "… failed"
 * @throws UsageError
 */
export async function onDisk<T>(doing: string, work: Promise<T> | (() => T)): Promise<T> {
  try {
    return await (typeof work === 'function' ? work() : work);
  } catch (error) {
    if (error instanceof WorkerError || !(error instanceof Error) || !('code' in error)) throw error;
    const [why, hint] = WHY[String(error.code)] ?? [error.message, 'Check the disk and the mount.'];
    throw new UsageError(`${withNames(doing)} failed: ${withNames(why)}.`, hint, error);
  }
}

/** The status of a path, undefined when nothing exists there. @param links `refuse` = that of a link itself @throws UsageError */
export async function statOf(path: string, links: 'follow' | 'refuse' = 'follow'): Promise<Stats | undefined> {
  const status = (links === 'refuse' ? lstat(path) : stat(path)).catch((error: unknown) => {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw error;
  });
  return onDisk(`Reading ${path}`, status);
}

/** @throws UsageError when the file system of a directory has fewer bytes free */
export async function assertSpace(dir: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await onDisk(`Reading the free space of ${dir}`, statfs(dir));
  const free = bavail * bsize;
  if (free >= bytes) return;
  throw new UsageError(
    `Not enough space in ${withNames(dir)}: ${humanSize(free)} free, ${humanSize(bytes)} needed.`,
    `${ANOTHER_DISK} Nothing was done.`,
  );
}

/** Waits until the bytes of a file, or the entries of a directory, are on the disk. */
export async function sync(path: string): Promise<void> {
  const handle = await open(path);
  await handle.sync().finally(async () => handle.close());
}

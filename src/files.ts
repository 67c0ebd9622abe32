import { constants, type Stats } from 'node:fs';
import { type FileHandle, lstat, open, stat } from 'node:fs/promises';
import { hasCode, messageOf, UsageError } from './errors.ts';
import { secretLook } from './secret.ts';
import { printable } from './text.ts';

/** Bytes. No file that is written by hand is larger. */
const MAX_TEXT = 1024 * 1024;

/**
 * Opens a file for reading. Never waits for the other end of a FIFO, and never reads from a device.
 * @param links `refuse` where another user can write to the directory: the last part of the path is then no symbolic link
 * @throws the error of the system call; Error with code `ENOTREG` for anything but a regular file
 */
export async function openRegular(
  path: string,
  links: 'follow' | 'refuse' = 'follow',
): Promise<{ readonly file: FileHandle; readonly stats: Stats }> {
  const noFollow = links === 'refuse' ? constants.O_NOFOLLOW : 0;
  // Checked before opening as well: opening a device can have effects, and a socket cannot be opened.
  const before = await (links === 'refuse' ? lstat(path) : stat(path).catch(async (error) => whyMissing(path, error)));
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
 * Reads a small file that an option or a variable names.
 * @param what names it in the message, such as `client key`
 * @throws UsageError with the reason; the value is not shown if it is no path, because it may be the secret itself
 */
export async function readNamed(path: string, what: string, hint: string, maxSize = MAX_TEXT): Promise<Buffer> {
  const problem = pathProblem(path);
  if (problem !== undefined) throw new UsageError(`The value given for the ${what} ${problem}.`, hint);
  try {
    const { file, stats } = await openRegular(path);
    try {
      if (stats.size <= maxSize) return await file.readFile();
    } finally {
      await file.close();
    }
  } catch (error) {
    throw new UsageError(`The ${what} ${printable(path)} ${whyUnreadable(error)}.`, hint, error);
  }
  throw new UsageError(`The ${what} ${printable(path)} is larger than ${maxSize} bytes.`, hint);
}

/** Why a file cannot be read, in words that follow its name. */
export function whyUnreadable(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown';
  switch (code) {
    case 'ENOENT':
      return 'does not exist';
    case 'EACCES':
      return 'cannot be read by this user (permission denied)';
    case 'ENOTREG':
    case 'EDANGLING':
      return messageOf(error);
    case 'ENOTDIR':
      return 'does not exist: a part of its path is no directory';
    case 'ELOOP':
      return 'is a loop of symbolic links';
    default:
      return `cannot be read (${code})`;
  }
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

async function whyMissing(path: string, error: unknown): Promise<never> {
  const isDangling = await lstat(path).then(
    (stats) => stats.isSymbolicLink() && hasCode(error, 'ENOENT'),
    () => false,
  );
  if (!isDangling) throw error;
  throw Object.assign(new Error('is a symbolic link to something that does not exist'), { code: 'EDANGLING' });
}

function notRegular(stats: Stats): Error {
  return Object.assign(new Error(`is not a regular file but ${kindOf(stats)}`), { code: 'ENOTREG' });
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

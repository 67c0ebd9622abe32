import type { Stats } from 'node:fs';
import { lstat, open, stat, statfs } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { geteuid } from 'node:process';
import { type Visited, visitTree, withNames } from './directories.ts';
import { hasCode, UsageError, WorkerError } from './errors.ts';
import { humanSize, printable } from './text.ts';

const ANOTHER_DISK = 'Free some, or use a directory on another disk.';
const AS_ROOT = 'Run as root, with the capabilities CHOWN, DAC_OVERRIDE and FOWNER.';

const WHY: Readonly<Record<string, readonly [why: string, hint: string]>> = {
  ENOSPC: ['no space left', ANOTHER_DISK],
  EDQUOT: ['quota exceeded', 'Raise the quota, or use a directory on another disk.'],
  EFBIG: ['file too large', 'Raise the limit (ulimit -f), or use another file system.'],
  EACCES: ['permission denied', AS_ROOT],
  EPERM: ['permission denied', AS_ROOT],
  EROFS: ['the file system is read-only', 'In a container, mount the parent directory writable.'],
  ENOENT: ['it does not exist', 'Check the path; in a container, mount the parent directory.'],
  EEXIST: ['it already exists', 'Run it again.'],
  EBUSY: ['it is a mount point', 'Use a directory inside it.'],
  ENOTEMPTY: ['the directory is no longer empty', 'Check whether another restore, or etcd, uses it.'],
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

/** The status of a path, undefined when nothing is there. @param links `refuse` = that of a link itself @throws UsageError */
export async function statOf(path: string, links: 'follow' | 'refuse' = 'follow'): Promise<Stats | undefined> {
  const status = (links === 'refuse' ? lstat(path) : stat(path)).catch((error: unknown) => {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw error;
  });
  return onDisk(`Reading ${path}`, status);
}

/** The status of a path's parent directory. @throws UsageError when it does not exist */
export async function assertParent(path: string): Promise<Stats> {
  const dir = dirname(resolve(path));
  const parent = await statOf(dir);
  if (parent?.isDirectory() === true) return parent;
  const what = `${printable(dir)} for ${printable(path)}`;
  throw new UsageError(`The directory ${what} does not exist.`, 'Check the path; in a container, mount it.');
}

/** @throws UsageError when the file system of a directory has fewer bytes free */
export async function assertSpace(dir: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await onDisk(`Reading the free space of ${dir}`, statfs(dir));
  const free = bavail * bsize;
  if (free >= bytes) return;
  throw new UsageError(
    `Too little space in ${withNames(dir)}: ${humanSize(free)} free, ${humanSize(bytes)} needed.`,
    `${ANOTHER_DISK} Nothing was done.`,
  );
}

/**
 * Takes a tree away from all other users, checks it, syncs it, and gives it to its owner. Foreign files are found before
 * anything is given away; nobody can add to the tree while it is checked.
 * @param path leads through held directories, where others can rename something
 * @param owner undefined = the owners stay
 * @throws UnsafeError (visitTree)
 */
export async function handOver(path: string, owner?: { readonly uid: number; readonly gid: number }): Promise<void> {
  if (owner !== undefined) await visitTree(path, { enter: seize });
  await visitTree(path, {
    async leave(entry) {
      if (owner !== undefined) await entry.chown(owner.uid, owner.gid);
      await entry.sync();
    },
  });
}

/** Also stops users who have the directory open from adding to it. */
async function seize(entry: Visited): Promise<void> {
  const { stats, isDirectory } = entry;
  if (!isDirectory) return;
  await entry.chown(geteuid?.() ?? stats.uid, stats.gid);
  await entry.chmod(stats.mode & 0o7755);
}

/** Waits until the bytes of a file, or the entries of a directory, are on the disk. */
export async function sync(path: string): Promise<void> {
  const handle = await open(path);
  await handle.sync().finally(async () => handle.close());
}

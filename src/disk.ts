import type { Stats } from 'node:fs';
import { lstat, open, stat, statfs } from 'node:fs/promises';
import { geteuid } from 'node:process';
import { type Visited, visitTree, withNames } from './directories.ts';
import { UsageError, WorkerError } from './errors.ts';
import { humanSize } from './text.ts';

const WHY: Readonly<Record<string, readonly [why: string, hint: string]>> = {
  ENOSPC: ['there is no room left', 'Free some, or name a directory on another disk.'],
  EDQUOT: ['the quota is used up', 'Raise it, or name a directory on another disk.'],
  EFBIG: ['the file would be larger than is allowed', 'Raise the limit (ulimit -f) or use another file system.'],
  EACCES: ['this user may not', 'Run as root, with the capabilities CHOWN, DAC_OVERRIDE and FOWNER.'],
  EPERM: ['this user may not', 'Run as root, with the capabilities CHOWN, DAC_OVERRIDE and FOWNER.'],
  EROFS: ['the file system is read-only', 'In a container, mount the directory that holds it writable.'],
  ENOENT: ['it is not there', 'Check the path; in a container, mount the directory that holds it.'],
  EEXIST: ['it is there already', 'Run it again.'],
  EBUSY: ['it is a mount point', 'Name a directory inside it.'],
  ENOTEMPTY: ['something appeared there meanwhile', 'Is another restore, or etcd, at work there?'],
};

/**
 * Work on this machine's disk; its failures are the operator's to solve.
 * @param doing completes "… failed"
 * @throws UsageError
 */
export async function onDisk<T>(doing: string, work: Promise<T> | (() => T)): Promise<T> {
  try {
    return await (typeof work === 'function' ? work() : work);
  } catch (error) {
    if (error instanceof WorkerError || !(error instanceof Error) || !('code' in error)) throw error;
    const [why, hint] = WHY[String(error.code)] ?? [error.message, 'Look at the disk and the mount.'];
    throw new UsageError(`${withNames(doing)} failed: ${withNames(why)}.`, hint, error);
  }
}

/** What is at a path, undefined when nothing is. @param links `refuse` looks at a link itself */
export async function statOf(path: string, links: 'follow' | 'refuse' = 'follow'): Promise<Stats | undefined> {
  try {
    return await (links === 'refuse' ? lstat(path) : stat(path));
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
}

/** @throws UsageError when the file system of a directory has fewer bytes free */
export async function assertRoom(dir: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await onDisk(`Asking for the room in ${dir}`, statfs(dir));
  const free = bavail * bsize;
  if (free >= bytes) return;
  throw new UsageError(
    `There is too little room in ${withNames(dir)}: ${humanSize(free)} are free, and ${humanSize(bytes)} are needed.`,
    'Free some, or name a directory on another disk; nothing was done.',
  );
}

/**
 * Takes a tree away from everybody else, looks at all of it, waits until it is on the disk, and gives it to its owner. What
 * somebody else put into it is found before anything is given away; nobody can add to it while it is looked at.
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

/** Who works in a directory already can add nothing to it any more, either. */
async function seize(entry: Visited): Promise<void> {
  const { stats, isDirectory } = entry;
  if (!isDirectory) return;
  await entry.chown(geteuid?.() ?? stats.uid, stats.gid);
  await entry.chmod(stats.mode & 0o7755);
}

/** Waits until a file's bytes, or a directory's entries, are on the disk. */
export async function sync(path: string): Promise<void> {
  const handle = await open(path);
  await handle.sync().finally(async () => handle.close());
}

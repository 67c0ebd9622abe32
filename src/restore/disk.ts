import type { Stats } from 'node:fs';
import { chown, lstat, open, readdir, rm, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { UsageError, WorkerError } from '../errors.ts';
import { humanSize } from '../text.ts';

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
export async function onDisk<T>(doing: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof WorkerError || !(error instanceof Error) || !('code' in error)) throw error;
    const [why, hint] = WHY[String(error.code)] ?? [error.message, 'Look at the disk and the mount.'];
    throw new UsageError(`${doing} failed: ${why}.`, hint, error);
  }
}

/** What is at a path, undefined when nothing is. */
export async function statOf(path: string): Promise<Stats | undefined> {
  try {
    return await stat(path);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
}

/** @throws UsageError when the file system of a directory has fewer bytes free */
export async function demandRoom(dir: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await onDisk(`Asking for the room in ${dir}`, statfs(dir));
  const free = bavail * bsize;
  if (free >= bytes) return;
  throw new UsageError(
    `There is too little room in ${dir}: ${humanSize(free)} are free, and ${humanSize(bytes)} are needed.`,
    'Free some, or name a directory on another disk; nothing was done.',
  );
}

/** Waits until a directory and all in it is on the disk, and gives all of it to `owner` where one is named. */
export async function settle(path: string, owner?: { readonly uid: number; readonly gid: number }): Promise<void> {
  if (owner !== undefined) await chown(path, owner.uid, owner.gid);
  if ((await lstat(path)).isDirectory()) {
    for (const name of await readdir(path)) await settle(join(path, name), owner);
  }
  await sync(path);
}

/** Waits until a file's bytes, or a directory's entries, are on the disk. */
export async function sync(path: string): Promise<void> {
  const handle = await open(path);
  await handle.sync().finally(async () => handle.close());
}

/** Removes a directory with all in it, if it is there; a killed program's last file may still appear meanwhile. */
export async function removeAll(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
}

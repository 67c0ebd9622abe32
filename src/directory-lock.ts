import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { link, readdir, unlink } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import type { HeldDirectory } from './directories.ts';
import { hasCode } from './errors.ts';

const LOCK = /^lock-(\d+)$/;

/** Whether an entry of a private directory is part of its lock. It is removed last. */
export function isLock(name: string): boolean {
  return LOCK.test(name);
}

/**
 * Takes a private directory for one run. The lock is a socket in the directory on which the run listens: it ends with the
 * process, however that ends, and runs in all containers of this host that see the directory see it. Hosts that share the
 * directory over a network do not see each other.
 *
 * Locks are numbered, and the newest one counts. None is removed before its directory is, and a number is taken by creating a
 * link, which only one run can do: thus two runs that find the lock of a killed run cannot both succeed it.
 * @returns releases the lock; undefined when another run has it
 * @throws the error of the system call
 */
export async function lockDirectory(dir: HeldDirectory): Promise<(() => void) | undefined> {
  const newest = await newestLock(dir);
  if (newest > 0 && (await isAlive(dir.at(`lock-${newest}`)))) return undefined;
  const socket = dir.at(`new-${randomBytes(4).toString('hex')}.lock`);
  // One that asks and is not answered knows enough: it was connected.
  const server = createServer((asking) => asking.destroy()).unref();
  try {
    await once(server.listen(socket), 'listening');
    server.on('error', () => {});
    // Only now, as a socket that has its name before somebody listens looks like that of a killed run.
    await link(socket, dir.at(`lock-${newest + 1}`));
    await unlink(socket);
    return () => void server.close();
  } catch (error) {
    server.close();
    // Another run was faster, or has just removed the directory at its end.
    if (hasCode(error, 'EEXIST') || hasCode(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/** Removes the content of a locked directory, the lock last. */
export async function emptyLocked(dir: HeldDirectory): Promise<void> {
  await dir.empty(isLock);
  await dir.empty();
}

/** Whether a run has, or had, the lock of a directory. */
export async function hasLock(dir: HeldDirectory): Promise<boolean> {
  return (await newestLock(dir)) > 0;
}

/** 0 = there is none. */
async function newestLock(dir: HeldDirectory): Promise<number> {
  const numbers = (await readdir(dir.path)).map((name) => Number(LOCK.exec(name)?.[1] ?? 0));
  return Math.max(0, ...numbers);
}

async function isAlive(path: string): Promise<boolean> {
  const socket = connect(path);
  try {
    await once(socket, 'connect');
    return true;
  } catch (error) {
    return !hasCode(error, 'ECONNREFUSED') && !hasCode(error, 'ENOENT');
  } finally {
    socket.destroy();
  }
}

import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readlinkSync,
  statfsSync,
  type Stats,
} from 'node:fs';
import { type FileHandle, link, lstat, open, readdir, rmdir, unlink } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { basename } from 'node:path';
import { geteuid } from 'node:process';
import { setTimeout as sleep } from 'node:timers/promises';
import { hasCode, UnsafeError } from './errors.ts';
import { kindOf, withNames } from './files.ts';
import { printable } from './text.ts';

// Root works in directories that belong to other users: etcd's user owns the data directory. They can replace what is at a path
// between two system calls, so a directory is opened once, and its entries are reached through the open directory, even if
// something is renamed. Node has no openat; Linux has the same under /proc/self/fd.

/** Other systems lack this path; only one user is expected there. */
const HAS_PROC = existsSync('/proc/self/fd');

const { O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants;

/** Linux: opens also a directory that cannot be read, to reach its entries. Node has no name for it. */
const O_PATH = 0o10000000;

/** As many symbolic links as Linux follows in a path. */
const MAX_LINKS = 40;

/** File system type of /proc, whose links lead elsewhere than their text says. */
const PROC = 0x9fa0;

/** A directory that stays open until the process ends. */
export class HeldDirectory {
  /** For messages. */
  readonly name: string;
  readonly #fd: number;

  private constructor(fd: number, name: string) {
    this.#fd = fd;
    this.name = name;
  }

  /**
   * One that an option or a variable names. Links in its path are followed if they belong to root or to this user.
   * @throws UnsafeError for a link that belongs to another user, who could lead root anywhere; the error of the system call
   */
  static open(path: string): HeldDirectory {
    return new HeldDirectory(HAS_PROC ? openTrusted(path) : openSync(path, O_RDONLY | O_DIRECTORY), path);
  }

  /** A path of the open directory, also valid for child processes (child-processes.ts). */
  get path(): string {
    return pathOf(this.#fd, this.name);
  }

  /** Its name in its parent directory. */
  get ownName(): string {
    return basename(this.name);
  }

  /** The path of an entry. */
  at(name: string): string {
    return `${this.path}/${name}`;
  }

  stats(): Stats {
    return fstatSync(this.#fd);
  }

  /**
   * A directory that other users cannot access, created now or by an earlier run of this user.
   * @throws UnsafeError if something else has its name; the error of the system call
   */
  makePrivate(name: string): HeldDirectory {
    try {
      mkdirSync(this.at(name), 0o700);
    } catch (error) {
      if (!hasCode(error, 'EEXIST')) throw error;
    }
    return this.#created(name);
  }

  /** The same with a random suffix, always new. */
  makeTemporary(prefix: string): HeldDirectory {
    return this.#created(basename(mkdtempSync(this.at(prefix))));
  }

  #created(name: string): HeldDirectory {
    const found = this.findPrivate(name);
    if (found !== undefined) return found;
    throw new UnsafeError(
      `${this.#shown(name)} was removed by another program.`,
      'Check what else uses this directory, and run the command again.',
    );
  }

  /** The same if it exists. */
  findPrivate(name: string): HeldDirectory | undefined {
    const shown = this.#shown(name);
    const refused = (why: string): UnsafeError =>
      new UnsafeError(
        `${printable(shown)} cannot be used: it exists and ${why}.`,
        'Find out who created it, remove it and run the command again. Nothing was done.',
      );
    try {
      const stats = lstatSync(this.at(name));
      if (!stats.isDirectory()) throw refused(`is ${kindOf(stats)}`);
      const held = new HeldDirectory(openSync(this.at(name), O_RDONLY | O_DIRECTORY | O_NOFOLLOW), shown);
      const { uid, mode } = held.stats();
      if (uid !== geteuid?.()) throw refused(`belongs to another user (uid ${uid})`);
      if ((mode & 0o077) !== 0) throw refused('is accessible to other users (its mode is not 0700)');
      return held;
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return undefined;
      if (hasCode(error, 'ENOTDIR') || hasCode(error, 'ELOOP')) throw refused('is not a directory');
      throw error;
    }
  }

  /** Removes its content. Links are removed, not followed. */
  async empty(isKept: (name: string) => boolean = () => false): Promise<void> {
    for (const name of await readdir(this.path)) if (!isKept(name)) await removeTree(this.at(name));
  }

  #shown(name: string): string {
    return `${this.name.replace(/\/$/, '')}/${name}`;
  }
}

/** Opens each directory of a path inside the one before it, and looks at each link before it is followed. */
function openTrusted(path: string): number {
  let held = openSync(path.startsWith('/') ? '/' : '.', O_PATH | O_DIRECTORY);
  const enter = (next: string, flags: number): void => {
    const before = held;
    held = openSync(next, O_PATH | O_DIRECTORY | flags);
    closeSync(before);
  };
  try {
    const rest = path.split('/');
    for (let links = 0, name = rest.shift(); name !== undefined; name = rest.shift()) {
      if (name === '') continue;
      const at = `/proc/self/fd/${held}/${name}`;
      const target = trustedLink(at, path);
      if (target === undefined) enter(at, O_NOFOLLOW);
      else if (statfsSync(`/proc/self/fd/${held}`).type === PROC) enter(at, 0);
      else {
        if (++links > MAX_LINKS) throw Object.assign(new Error('too many symbolic links'), { code: 'ELOOP' });
        if (target.startsWith('/')) enter('/', 0);
        rest.unshift(...target.split('/'));
      }
    }
    return openSync(`/proc/self/fd/${held}`, O_RDONLY | O_DIRECTORY);
  } finally {
    closeSync(held);
  }
}

/**
 * Where a link leads; undefined for anything else. Stricter than the kernel (protected_symlinks), which looks at links in sticky
 * directories only.
 */
function trustedLink(at: string, path: string): string | undefined {
  const stats = lstatSync(at, { bigint: true });
  if (!stats.isSymbolicLink()) return undefined;
  const target = readlinkSync(at);
  const { ino, ctimeNs } = lstatSync(at, { bigint: true });
  const isOurs = stats.uid === 0n || stats.uid === BigInt(geteuid?.() ?? 0);
  if (isOurs && ino === stats.ino && ctimeNs === stats.ctimeNs) return target;
  throw new UnsafeError(
    `${printable(withNames(at))}, a part of ${printable(withNames(path))}, is a symbolic link that belongs to another user (uid ${stats.uid}).`,
    'Check where it points, and give the path without the link. Nothing was done.',
  );
}

/** Gets each entry of a tree, opened. */
type Visit = (handle: FileHandle, stats: Stats) => Promise<unknown>;

/**
 * Visits a directory and its whole content. Each entry is opened before it is checked, so that what is changed is what was checked.
 * @param path through held directories, if other users can rename something
 * @param before, after the content of a directory is visited
 * @throws UnsafeError for everything but directories and regular files with one name: the target of a link belongs to others
 */
export async function visitTree(path: string, before?: Visit, after?: Visit): Promise<void> {
  const found = await lstat(path);
  if (!found.isDirectory() && !found.isFile()) throw foreign(path, kindOf(found));
  const handle = await open(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW).catch((error: unknown) => {
    throw hasCode(error, 'ELOOP') || hasCode(error, 'ENXIO') ? foreign(path, 'not a regular file') : error;
  });
  try {
    const stats = await handle.stat();
    const isDirectory = stats.isDirectory();
    if (!isDirectory && !stats.isFile()) throw foreign(path, kindOf(stats));
    if (!isDirectory && stats.nlink > 1) throw foreign(path, 'a file with several hard links');
    await before?.(handle, stats);
    const inside = pathOf(handle.fd, path);
    const names = isDirectory ? await readdir(inside) : [];
    for (const name of names) await visitTree(`${inside}/${name}`, before, after);
    await after?.(handle, stats);
  } finally {
    await handle.close();
  }
}

function foreign(path: string, kind: string): UnsafeError {
  return new UnsafeError(
    `${printable(withNames(path))} is ${kind}, which neither etcd nor its tool creates.`,
    'Find out who created it and remove it, or restore to another directory.',
  );
}

/** Removes a file, or a directory with its content, if it exists. Links are removed, not followed. */
export async function removeTree(path: string, attempts = 5): Promise<void> {
  try {
    if (!(await lstat(path)).isDirectory()) return await unlink(path);
    const handle = await open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    const inside = pathOf(handle.fd, path);
    try {
      for (const name of await readdir(inside)) await removeTree(`${inside}/${name}`);
    } finally {
      await handle.close();
    }
    return await rmdir(path);
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return;
    // A killed program may still create a last file.
    if (attempts === 1 || !hasCode(error, 'ENOTEMPTY')) throw error;
    await sleep(100);
    await removeTree(path, attempts - 1);
  }
}

/** A path to an open file, which stays the same file whatever is put in the place of its name. */
export function pathOf(fd: number, path: string): string {
  return HAS_PROC ? `/proc/self/fd/${fd}` : path;
}

/**
 * Takes a tree away from all other users, checks it, syncs it, and gives it to its owner. Foreign files are found before
 * anything is given away; nobody can add to the tree while it is checked.
 * @param path leads through held directories, where others can rename something
 * @param owner undefined = the owners stay
 * @throws UnsafeError (visitTree)
 */
export async function handOver(path: string, owner?: { readonly uid: number; readonly gid: number }): Promise<void> {
  if (owner !== undefined) await visitTree(path, seize);
  await visitTree(path, undefined, async (handle) => {
    if (owner !== undefined) await handle.chown(owner.uid, owner.gid);
    await handle.sync();
  });
}

/** Also stops users who have the directory open from adding to it. */
async function seize(handle: FileHandle, stats: Stats): Promise<void> {
  if (!stats.isDirectory()) return;
  await handle.chown(geteuid?.() ?? stats.uid, stats.gid);
  await handle.chmod(stats.mode & 0o7755);
}

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

/** 0 = no lock. */
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

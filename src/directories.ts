import {
  constants,
  existsSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readlinkSync,
  type Stats,
} from 'node:fs';
import { lstat, open, readdir, rmdir, unlink } from 'node:fs/promises';
import { basename } from 'node:path';
import { geteuid } from 'node:process';
import { setTimeout as sleep } from 'node:timers/promises';
import { UnsafeError } from './errors.ts';
import { kindOf } from './files.ts';
import { printable } from './text.ts';

// Root works next to users who own the directories around its own: etcd's user owns the data directory. What a path leads to can
// change between two system calls, so directories are opened once, and everything in them is reached through the open
// directory, whatever is renamed meanwhile. Node has no openat; Linux has the same under /proc/self/fd.

/** Other systems have no such path; there only one user is expected. */
const HAS_PROC = existsSync('/proc/self/fd');

const { O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants;

/** A directory that stays open until the process ends. */
export class HeldDirectory {
  /** For messages. */
  readonly name: string;
  readonly #fd: number;

  private constructor(fd: number, name: string) {
    this.#fd = fd;
    this.name = name;
  }

  /** One that somebody named: links on the way are theirs. @throws the error of the system call */
  static open(path: string): HeldDirectory {
    return new HeldDirectory(openSync(path, O_RDONLY | O_DIRECTORY), path);
  }

  /** A path that leads here, and for children of this process, too (children.ts). */
  get path(): string {
    return pathOf(this.#fd, this.name);
  }

  /** In the directory above it. */
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
   * A directory for work that nobody else can reach: made now, or by an earlier run of this user.
   * @throws UnsafeError when anything else has its name; the error of the system call
   */
  makePrivate(name: string): HeldDirectory {
    try {
      mkdirSync(this.at(name), 0o700);
    } catch (error) {
      if (!isCode(error, 'EEXIST')) throw error;
    }
    const found = this.findPrivate(name);
    if (found === undefined)
      throw new UnsafeError(`${this.#shown(name)} was removed at once.`, 'Who else works there?');
    return found;
  }

  /** The same with a random end of its name, made now. */
  makeTemporary(prefix: string): HeldDirectory {
    const found = this.findPrivate(basename(mkdtempSync(this.at(prefix))));
    if (found !== undefined) return found;
    throw new UnsafeError(`${this.#shown(prefix)}… was removed at once.`, 'Who else works there?');
  }

  /** The same if it is there. */
  findPrivate(name: string): HeldDirectory | undefined {
    const shown = this.#shown(name);
    const refused = (why: string): UnsafeError =>
      new UnsafeError(
        `${printable(shown)} is there, and ${why}, so it is not used.`,
        'Look who made it; remove it, and run again. Nothing was done.',
      );
    try {
      const stats = lstatSync(this.at(name));
      if (!stats.isDirectory()) throw refused(`is ${kindOf(stats)}`);
      const held = new HeldDirectory(openSync(this.at(name), O_RDONLY | O_DIRECTORY | O_NOFOLLOW), shown);
      const { uid, mode } = held.stats();
      if (uid !== geteuid?.()) throw refused(`belongs to another user (uid ${uid})`);
      if ((mode & 0o077) !== 0) throw refused('is open to other users (its mode is not 0700)');
      return held;
    } catch (error) {
      if (isCode(error, 'ENOENT')) return undefined;
      if (isCode(error, 'ENOTDIR') || isCode(error, 'ELOOP')) throw refused('is no directory');
      throw error;
    }
  }

  /** Removes what is in it, and nothing that a link leads to. */
  async empty(): Promise<void> {
    for (const name of await readdir(this.path)) await removeTree(this.at(name));
  }

  #shown(name: string): string {
    return `${this.name.replace(/\/$/, '')}/${name}`;
  }
}

/** A path or a text with paths, in which directories that are held have their names again. */
export function withNames(text: string): string {
  return text.replaceAll(/\/proc\/self\/fd\/\d+/g, (path) => {
    try {
      return readlinkSync(path);
    } catch {
      return path;
    }
  });
}

interface Visitor {
  /** Before what is in a directory is visited. */
  enter?(entry: Visited): Promise<unknown>;
  /** After that. */
  leave?(entry: Visited): Promise<unknown>;
}

export interface Visited {
  readonly stats: Stats;
  readonly isDirectory: boolean;
  chown(uid: number, gid: number): Promise<void>;
  chmod(mode: number): Promise<void>;
  sync(): Promise<void>;
}

/**
 * Visits a directory and everything in it, each opened before it is looked at, so that what was looked at is what is changed.
 * @param path leads through held directories, where others can rename something
 * @throws UnsafeError for all but directories and regular files that have one name: what a link leads to is somebody else's
 */
export async function visitTree(path: string, visitor: Visitor): Promise<void> {
  const before = await lstat(path);
  if (!before.isDirectory() && !before.isFile()) throw foreign(path, kindOf(before));
  const handle = await open(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW).catch((error: unknown) => {
    throw isCode(error, 'ELOOP') || isCode(error, 'ENXIO') ? foreign(path, 'no regular file') : error;
  });
  try {
    const stats = await handle.stat();
    const isDirectory = stats.isDirectory();
    if (!isDirectory && !stats.isFile()) throw foreign(path, kindOf(stats));
    if (!isDirectory && stats.nlink > 1) throw foreign(path, 'a file with several names (hard links)');
    const entry: Visited = {
      ...{ stats, isDirectory },
      chown: async (uid, gid) => handle.chown(uid, gid),
      chmod: async (mode) => handle.chmod(mode),
      sync: async () => handle.sync(),
    };
    await visitor.enter?.(entry);
    const inside = pathOf(handle.fd, path);
    const names = isDirectory ? await readdir(inside) : [];
    for (const name of names) await visitTree(`${inside}/${name}`, visitor);
    await visitor.leave?.(entry);
  } finally {
    await handle.close();
  }
}

function foreign(path: string, kind: string): UnsafeError {
  return new UnsafeError(
    `${printable(withNames(path))} is ${kind}, which neither etcd nor its tool puts there.`,
    'Look who made it, and remove it, or restore to another directory.',
  );
}

/** Removes a file, or a directory with all in it, if it is there. Links are removed, not followed. */
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
    if (isCode(error, 'ENOENT')) return;
    // The last file of a program that was killed may still appear.
    if (attempts === 1 || !isCode(error, 'ENOTEMPTY')) throw error;
    await sleep(100);
    await removeTree(path, attempts - 1);
  }
}

function pathOf(fd: number, path: string): string {
  return HAS_PROC ? `/proc/self/fd/${fd}` : path;
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}

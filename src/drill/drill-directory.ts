import { once } from 'node:events';
import { readdir, rmdir } from 'node:fs/promises';
import { connect, createServer, type Server } from 'node:net';
import { resolve } from 'node:path';
import { HeldDirectory } from '../directories.ts';
import { messageOf, UnsafeError } from '../errors.ts';
import type { Log } from '../log.ts';
import { killWorkersIn } from '../exec.ts';
import { onDisk, statOf } from '../disk.ts';

const PREFIX = 'etcd-drill-';

/** A socket on which the run listens: somebody answers as long as it lives, however it ends, and from any container. */
const LOCK = 'lock';

/** Milliseconds after which a directory without a lock was left by a run that ended before it had one. */
const YOUNG = 600_000;

/** A private directory that holds the database of a drill, and so all Secrets of a cluster. */
export class DrillDirectory {
  readonly #parent: HeldDirectory;
  readonly #dir: HeldDirectory;
  readonly #lock: Server;

  private constructor(parent: HeldDirectory, dir: HeldDirectory, lock: Server) {
    this.#parent = parent;
    this.#dir = dir;
    this.#lock = lock;
  }

  /** Removes what killed drills of this user left beside it as well. @throws UsageError, UnsafeError */
  static async create(parentPath: string, log: Log): Promise<DrillDirectory> {
    const doing = `Creating a directory in ${parentPath}`;
    const parent = await onDisk(doing, () => HeldDirectory.open(resolve(parentPath)));
    await removeLeftovers(parent, log);
    const dir = await onDisk(doing, () => parent.makeTemporary(PREFIX));
    const lock = createServer((socket) => socket.destroy()).unref();
    await onDisk(doing, once(lock.listen(dir.at(LOCK)), 'listening'));
    // Who asks and gets no answer has been answered all the same.
    lock.on('error', () => {});
    return new DrillDirectory(parent, dir, lock);
  }

  get path(): string {
    return this.#dir.path;
  }

  async remove(): Promise<void> {
    await remove(this.#parent, this.#dir);
    this.#lock.close();
  }
}

async function remove(parent: HeldDirectory, dir: HeldDirectory): Promise<void> {
  await dir.empty();
  await rmdir(parent.at(dir.ownName));
}

/** Of this user only, and never through a link; the etcd of a drill that was killed may still run there. */
async function removeLeftovers(parent: HeldDirectory, log: Log): Promise<void> {
  for (const name of await readdir(parent.path)) {
    if (!new RegExp(`^${PREFIX}\\w{6}$`).test(name)) continue;
    try {
      const dir = parent.findPrivate(name);
      if (dir === undefined || (await isLocked(dir))) continue;
      killWorkersIn(dir.stats(), 'etcd');
      await remove(parent, dir);
      log.info('removed what a killed drill had left', { dir: dir.name });
    } catch (error) {
      if (!(error instanceof UnsafeError)) log.warn(`${name} cannot be removed: ${messageOf(error)}`);
    }
  }
}

async function isLocked(dir: HeldDirectory): Promise<boolean> {
  if ((await statOf(dir.at(LOCK), 'refuse')) === undefined) return Date.now() - dir.stats().ctimeMs < YOUNG;
  const socket = connect(dir.at(LOCK));
  try {
    await once(socket, 'connect');
    return true;
  } catch (error) {
    return !(error instanceof Error && 'code' in error && (error.code === 'ECONNREFUSED' || error.code === 'ENOENT'));
  } finally {
    socket.destroy();
  }
}

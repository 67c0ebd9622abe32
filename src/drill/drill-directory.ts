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

/** A socket on which the run listens: connecting to it shows, from any container, whether the run is alive. */
const LOCK = 'lock';

/** Milliseconds after which a directory without a lock is a leftover. */
const YOUNG = 600_000;

/** A private directory with the database of a drill, which contains all Secrets of a cluster. */
export class DrillDirectory {
  readonly #parent: HeldDirectory;
  readonly #dir: HeldDirectory;
  readonly #lock: Server;

  private constructor(parent: HeldDirectory, dir: HeldDirectory, lock: Server) {
    this.#parent = parent;
    this.#dir = dir;
    this.#lock = lock;
  }

  /** Also removes what killed drills of this user left next to it. @throws UsageError, UnsafeError */
  static async create(parentPath: string, log: Log): Promise<DrillDirectory> {
    const doing = `Creating a directory in ${parentPath}`;
    const parent = await onDisk(doing, () => HeldDirectory.open(resolve(parentPath)));
    await removeLeftovers(parent, log);
    const dir = await onDisk(doing, () => parent.makeTemporary(PREFIX));
    const lock = createServer((socket) => socket.destroy()).unref();
    await onDisk(doing, once(lock.listen(dir.at(LOCK)), 'listening'));
    // A client that disconnects early has its answer.
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

/** Of this user only, and never through a link; the etcd of a killed drill can still run there. */
async function removeLeftovers(parent: HeldDirectory, log: Log): Promise<void> {
  for (const name of await readdir(parent.path)) {
    if (!new RegExp(`^${PREFIX}\\w{6}$`).test(name)) continue;
    try {
      const dir = parent.findPrivate(name);
      if (dir === undefined || (await isLocked(dir))) continue;
      killWorkersIn(dir.stats(), 'etcd');
      await remove(parent, dir);
      log.info('removed the directory of a killed drill', { dir: dir.name });
    } catch (error) {
      if (!(error instanceof UnsafeError)) log.warn(`cannot remove ${name}: ${messageOf(error)}`);
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

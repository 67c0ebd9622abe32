import { readdir, rmdir } from 'node:fs/promises';
import { resolve } from 'node:path';
import { emptyLocked, hasLock, HeldDirectory, lockDirectory } from '../directories.ts';
import { messageOf, UnsafeError } from '../errors.ts';
import { onDisk } from '../files.ts';
import type { Log } from '../log.ts';
import { killWorkersIn } from '../process.ts';

const PREFIX = 'etcd-drill-';

/** Milliseconds after which a directory without a lock is a leftover. */
const YOUNG = 600_000;

/** A private directory with the database of a drill, which contains all Secrets of a cluster. */
export class DrillDirectory {
  readonly #parent: HeldDirectory;
  readonly #dir: HeldDirectory;
  readonly #unlock: () => void;

  private constructor(parent: HeldDirectory, dir: HeldDirectory, unlock: () => void) {
    this.#parent = parent;
    this.#dir = dir;
    this.#unlock = unlock;
  }

  /** Also removes what killed drills of this user left next to it. @throws UsageError, UnsafeError */
  static async create(parentPath: string, log: Log): Promise<DrillDirectory> {
    const doing = `Creating a directory in ${parentPath}`;
    const parent = await onDisk(doing, () => HeldDirectory.open(resolve(parentPath)));
    await removeLeftovers(parent, log);
    const dir = await onDisk(doing, () => parent.makeTemporary(PREFIX));
    const unlock = await onDisk(doing, lockDirectory(dir));
    if (unlock === undefined) throw new UnsafeError(`Another run uses ${dir.name}.`, 'Run the drill again.');
    return new DrillDirectory(parent, dir, unlock);
  }

  get path(): string {
    return this.#dir.path;
  }

  async remove(): Promise<void> {
    await remove(this.#parent, this.#dir);
    this.#unlock();
  }
}

async function remove(parent: HeldDirectory, dir: HeldDirectory): Promise<void> {
  await emptyLocked(dir);
  await rmdir(parent.at(dir.ownName));
}

/** Of this user only, and never through a link; the etcd of a killed drill can still run there. */
async function removeLeftovers(parent: HeldDirectory, log: Log): Promise<void> {
  for (const name of await readdir(parent.path)) {
    if (!new RegExp(`^${PREFIX}\\w{6}$`).test(name)) continue;
    try {
      const dir = parent.findPrivate(name);
      if (dir === undefined || (Date.now() - dir.stats().ctimeMs < YOUNG && !(await hasLock(dir)))) continue;
      const unlock = await lockDirectory(dir);
      if (unlock === undefined) continue;
      killWorkersIn(dir.stats(), 'etcd');
      await remove(parent, dir);
      unlock();
      log.info('removed the directory of a killed drill', { dir: dir.name });
    } catch (error) {
      if (!(error instanceof UnsafeError)) log.warn(`cannot remove ${name}: ${messageOf(error)}`);
    }
  }
}

import { randomBytes } from 'node:crypto';
import type { Stats } from 'node:fs';
import { chmod, mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { UsageError } from '../errors.ts';
import { demandRoom, onDisk, removeAll, settle, statOf, sync } from './disk.ts';
import { demandUnused } from './inuse.ts';
import { WAL_SIZE } from './tool.ts';

/** Where a snapshot that is being downloaded waits for its rest, or for etcd's tool: beside what is to be made. */
export function workPlaceOf(path: string): string {
  return `${path}.restoring`;
}

/** Names the raft log's directory while it is moved into its place before the data. */
const JOURNAL = 'wal-dir';

/**
 * A data directory in the making. All work is done in a directory beside it, on the same file system; it appears in one step
 * when it is whole and on the disk. A run that was killed leaves only the work directory, which the next one takes over.
 */
export class Target {
  readonly dataDir: string;
  readonly walDir: string | undefined;
  /** Beside the data directory, of this name always, so that the next run finds what an interrupted one downloaded. */
  readonly work: string;
  /** Names of its own for each run: nothing that a killed run's tool still writes can mix with ours. */
  readonly freshDataDir: string;
  readonly freshWalDir: string | undefined;

  private constructor(dataDir: string, walDir: string | undefined) {
    const run = randomBytes(4).toString('hex');
    this.dataDir = dataDir;
    this.walDir = walDir;
    this.work = workPlaceOf(dataDir);
    this.freshDataDir = join(this.work, `data-${run}`);
    this.freshWalDir = walDir === undefined ? undefined : join(workPlaceOf(walDir), `wal-${run}`);
  }

  /**
   * Looks whether the place is free and usable; makes the work directory, and nothing else.
   * @throws UsageError; UnsafeError when a running etcd works there
   */
  static async prepare(dataDir: string, walDir: string | undefined, signal: AbortSignal): Promise<Target> {
    const target = new Target(resolve(dataDir), walDir === undefined ? undefined : resolve(walDir));
    await demandUnused(target.dataDir, signal);
    await demandFree(target.dataDir);
    await onDisk(`Cleaning up ${target.work}`, target.#removeLeftovers());
    if (target.walDir !== undefined) await demandFree(target.walDir);
    await onDisk(`Creating ${target.work}`, mkdir(target.work, { recursive: true, mode: 0o700 }));
    if (target.freshWalDir !== undefined) {
      const wal = dirname(target.freshWalDir);
      await onDisk(`Creating ${wal}`, mkdir(wal, { recursive: true, mode: 0o700 }));
    }
    return target;
  }

  /** @param snapshot bytes that are still to be written before etcd's tool begins; `database` those that it writes */
  async demandRoom(snapshot: number, database: number): Promise<void> {
    if (this.freshWalDir !== undefined) await demandRoom(dirname(this.freshWalDir), WAL_SIZE);
    await demandRoom(this.work, snapshot + database + (this.freshWalDir === undefined ? WAL_SIZE : 0));
  }

  /**
   * Moves what etcd's tool made into its place, with the owner and the mode that the old data has.
   * @param like undefined = as the tool left it
   * @throws UsageError
   */
  async place(like: Stats | undefined): Promise<void> {
    await onDisk(`Moving the restored data to ${this.dataDir}`, this.#place(like));
  }

  /** After a failure: removes what this run made. @param keepDownload leaves what a rerun can go on from */
  async abandon(keepDownload: boolean): Promise<void> {
    if (keepDownload) await removeAll(this.freshDataDir);
    else await removeAll(this.work);
    if (this.freshWalDir !== undefined) await removeAll(dirname(this.freshWalDir));
  }

  async #place(like: Stats | undefined): Promise<void> {
    await settle(this.freshDataDir, like);
    if (like !== undefined) await chmod(this.freshDataDir, like.mode & 0o7777);
    if (this.freshWalDir !== undefined && this.walDir !== undefined) {
      await settle(this.freshWalDir, like);
      const journal = join(this.work, JOURNAL);
      await writeFile(journal, this.walDir);
      await settle(this.work);
      await rename(this.freshWalDir, this.walDir);
      await sync(dirname(this.walDir));
    }
    await rename(this.freshDataDir, this.dataDir);
    await sync(dirname(this.dataDir));
    await this.abandon(false);
  }

  /** What a killed run left: half-made data, and a raft log whose data never came. Its download is kept. */
  async #removeLeftovers(): Promise<void> {
    if ((await statOf(this.work)) === undefined) return;
    const journal = join(this.work, JOURNAL);
    const placed = (await statOf(journal)) === undefined ? undefined : await readFile(journal, 'utf8');
    if (placed !== undefined && placed === this.walDir) await removeAll(placed);
    for (const name of await readdir(this.work)) {
      if (name.startsWith('data-') || name === JOURNAL) await removeAll(join(this.work, name));
    }
  }
}

/** @throws UsageError unless the path can be replaced by a directory in one step */
async function demandFree(path: string): Promise<void> {
  const there = await onDisk(`Looking at ${path}`, statOf(path));
  const above = await demandParent(path);
  if (there === undefined) return;
  if (!there.isDirectory())
    throw new UsageError(`${path} is not a directory.`, 'Name a directory that is not there yet.');
  if ((await onDisk(`Reading ${path}`, readdir(path))).length > 0) {
    throw new UsageError(
      `${path} is not empty.`,
      'Name a directory that is not there yet; old data is never overwritten.',
    );
  }
  if (there.dev !== above.dev) {
    throw new UsageError(
      `${path} is a mount point, and the restored data must appear there in one step.`,
      `Name a directory inside it, such as ${join(path, 'restored')}.`,
    );
  }
}

/** The directory that is to hold a path. @throws UsageError when there is none */
export async function demandParent(path: string): Promise<Stats> {
  const parent = dirname(path);
  const above = await onDisk(`Looking at ${parent}`, statOf(parent));
  if (above?.isDirectory() === true) return above;
  throw new UsageError(`There is no directory ${parent} for ${path}.`, 'Check the path; in a container, mount it.');
}

/** What the owner and mode of the restored data are taken from: a named directory, or the member that it lies beside. */
export async function ownerFor(dataDir: string, named: string | undefined): Promise<Stats | undefined> {
  const path = named ?? join(dirname(resolve(dataDir)), 'member');
  const like = await onDisk(`Looking at ${path}`, statOf(path));
  if (like === undefined && named !== undefined) {
    throw new UsageError(`There is no directory ${named} to take the owner from.`, 'Check --owner-from.');
  }
  return like;
}

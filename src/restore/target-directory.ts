import { randomBytes } from 'node:crypto';
import type { Stats } from 'node:fs';
import { chmod, lchown, mkdir, readdir, readFile, rename, rmdir, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import * as v from 'valibot';
import { emptyLocked, handOver, HeldDirectory, isLock, lockDirectory, removeTree } from '../directories.ts';
import { UnsafeError, UsageError } from '../errors.ts';
import { assertSpace, kindOf, onDisk, statOf, sync } from '../files.ts';
import type { Warnings } from '../log.ts';
import { printable } from '../text.ts';
import { WAL_SIZE } from './etcd-tool.ts';
import { assertUnused } from './in-use.ts';
import type { Directories } from './restore-request.ts';

/** Suffix of the work directory. */
const WORK = '.restoring';

/** In the work directory while the WAL directory is in its place already, and the data is not. */
const JOURNAL = 'wal-dir';

/** Identifies the WAL directory that a run moved into its place, so that no other one is ever removed. */
const Journal = v.object({ walDir: v.string(), dev: v.number(), ino: v.number(), data: v.string() });

/**
 * A path where something is to appear, and the private work directory next to it. Another user can own the parent directory,
 * so nothing in there is reached by its path.
 */
export class WorkPlace {
  /** For messages. */
  readonly path: string;
  readonly #parent: HeldDirectory;
  #work: HeldDirectory | undefined;
  #unlock: (() => void) | undefined;

  private constructor(path: string, parent: HeldDirectory) {
    this.path = path;
    this.#parent = parent;
  }

  /** @throws UsageError when the parent directory does not exist */
  static async open(path: string): Promise<WorkPlace> {
    const parent = await onDisk(`Opening ${dirname(path)}`, () => HeldDirectory.open(dirname(path)));
    return new WorkPlace(path, parent);
  }

  /** The path itself, by way of the held parent. */
  get final(): string {
    return this.#parent.at(basename(this.path));
  }

  get parent(): Stats {
    return this.#parent.stats();
  }

  /** The work directory, locked; an interrupted run can have left it. @throws UnsafeError, UsageError */
  async work(): Promise<HeldDirectory> {
    const create = (): HeldDirectory => this.#parent.makePrivate(this.#workName);
    return (this.#work ??= await this.#lock(await onDisk(`Creating ${this.path}${WORK}`, create)));
  }

  /** The work directory, if it exists. */
  async leftover(): Promise<HeldDirectory | undefined> {
    const find = (): HeldDirectory | undefined => this.#parent.findPrivate(this.#workName);
    const found = this.#work ?? (await onDisk(`Reading ${this.path}${WORK}`, find));
    return found && (this.#work ??= await this.#lock(found));
  }

  async #lock(work: HeldDirectory): Promise<HeldDirectory> {
    this.#unlock = await onDisk(`Locking ${this.path}${WORK}`, lockDirectory(work));
    if (this.#unlock !== undefined) return work;
    throw new UnsafeError(
      `Another run is restoring to ${printable(this.path)}.`,
      'Wait until it has ended, or use another file or directory. Nothing was done.',
    );
  }

  /** Moves what was made to the path. */
  async appear(made: string): Promise<void> {
    await rename(made, this.final);
    await sync(this.#parent.path);
  }

  async removeWork(): Promise<void> {
    if (this.#work === undefined) return;
    await emptyLocked(this.#work);
    // Fails where another process replaced it: then it is theirs.
    await rmdir(this.#parent.at(this.#workName)).catch(() => {});
    await sync(this.#parent.path);
    this.#unlock?.();
    this.#work = undefined;
  }

  get #workName(): string {
    return `${basename(this.path)}${WORK}`;
  }
}

/**
 * The data directory of a restore. It is made in a directory next to it, on the same file system, and appears in one step when
 * it is complete and synced. A run that was killed leaves only the work directory, which the next run reuses.
 */
export class Target {
  /** The same for each run: the next one finds what an interrupted one downloaded. */
  readonly work: string;
  /** Different for each run: the tool of a killed run can still write to its own. */
  readonly freshDataDir: string;
  readonly freshWalDir: string | undefined;
  readonly #data: WorkPlace;
  readonly #wal: WorkPlace | undefined;

  private constructor(
    [data, work]: readonly [WorkPlace, HeldDirectory],
    [wal, walWork]: readonly [WorkPlace, HeldDirectory] | readonly [],
  ) {
    const run = randomBytes(4).toString('hex');
    this.#data = data;
    this.#wal = wal;
    this.work = work.path;
    this.freshDataDir = work.at(`data-${run}`);
    this.freshWalDir = walWork?.at(`wal-${run}`);
  }

  /**
   * Checks that the target is free and usable; creates the work directory, and nothing else.
   * @throws UsageError; UnsafeError when a running etcd uses the target, or another user owns the work directory
   */
  static async prepare({ dataDir, walDir }: Directories, warnings: Warnings, signal: AbortSignal): Promise<Target> {
    await assertUnused(dataDir, 'data', warnings, signal);
    if (walDir !== undefined) await assertUnused(walDir, 'wal', warnings, signal);
    const data = await WorkPlace.open(dataDir);
    const wal = walDir === undefined ? undefined : await WorkPlace.open(walDir);
    await assertFree(data);
    await onDisk(`Cleaning up ${data.path}${WORK}`, removeLeftovers(data, wal));
    if (wal !== undefined) await assertFree(wal);
    return new Target([data, await data.work()], wal === undefined ? [] : [wal, await wal.work()]);
  }

  /** @param download bytes that are still to be downloaded; `database` those that etcd's tool writes */
  async assertSpace(download: number, database: number): Promise<void> {
    if (this.freshWalDir !== undefined) await assertSpace(dirname(this.freshWalDir), WAL_SIZE);
    await assertSpace(this.work, download + database + (this.freshWalDir === undefined ? WAL_SIZE : 0));
  }

  /** Moves the restored data to its place. @param owner undefined = as the tool created it @throws UsageError */
  async place(owner: Owner | undefined): Promise<void> {
    await onDisk(`Moving the restored data to ${this.#data.path}`, this.#place(owner));
  }

  /** After a failure: removes what this run made. @param keepDownload keeps what the next run can resume */
  async abandon(keepDownload: boolean): Promise<void> {
    if (keepDownload) await removeTree(this.freshDataDir);
    else await this.#data.removeWork();
    await this.#wal?.removeWork();
  }

  async #place(owner: Owner | undefined): Promise<void> {
    await handOver(this.freshDataDir, owner);
    if (owner !== undefined) await chmod(this.freshDataDir, owner.mode & 0o7777);
    if (this.#wal !== undefined && this.freshWalDir !== undefined) {
      await handOver(this.freshWalDir, owner);
      await this.#writeJournal(this.#wal, this.freshWalDir);
      await this.#wal.appear(this.freshWalDir);
    }
    // From here on the journal has no effect: the data that it names is not in the work directory.
    await this.#data.appear(this.freshDataDir);
    await this.abandon(false);
  }

  /** From here on the WAL can be in its place without its data. */
  async #writeJournal(wal: WorkPlace, fresh: string): Promise<void> {
    const { dev = 0, ino = 0 } = (await statOf(fresh, 'refuse')) ?? {};
    const journal: v.InferOutput<typeof Journal> = { walDir: wal.path, dev, ino, data: basename(this.freshDataDir) };
    const file = join(this.work, JOURNAL);
    await writeFile(file, JSON.stringify(journal), { mode: 0o600 });
    await sync(file);
    await sync(this.work);
  }
}

/** Removes what a killed run left: incomplete data, and a WAL without its data. Its download is kept. */
async function removeLeftovers(data: WorkPlace, wal: WorkPlace | undefined): Promise<void> {
  await (await wal?.leftover())?.empty(isLock);
  const work = await data.leftover();
  if (work === undefined) return;
  const journal = await readJournal(work.at(JOURNAL));
  if (wal !== undefined && journal?.walDir === wal.path && /^data-\w+$/.test(journal.data)) {
    // While the data is still here, no etcd can have used its WAL.
    const isWaiting = (await statOf(work.at(journal.data), 'refuse')) !== undefined;
    const placed = await statOf(wal.final, 'refuse');
    if (isWaiting && placed?.dev === journal.dev && placed.ino === journal.ino) await removeTree(wal.final);
  }
  for (const name of await readdir(work.path)) {
    if (name.startsWith('data-') || name === JOURNAL) await removeTree(work.at(name));
  }
}

/** Undefined where there is none, or an incomplete one, after which nothing was moved. */
async function readJournal(file: string): Promise<v.InferOutput<typeof Journal> | undefined> {
  try {
    return v.parse(Journal, JSON.parse(await readFile(file, 'utf8')));
  } catch {
    return undefined;
  }
}

/** @throws UsageError unless a directory can be moved to the path in one step */
async function assertFree({ path, final, parent }: WorkPlace): Promise<void> {
  const found = await statOf(final, 'refuse');
  if (found === undefined) return;
  const hint = 'Use a directory that does not exist yet; old data is never overwritten.';
  if (!found.isDirectory()) throw new UsageError(`${printable(path)} is ${kindOf(found)}, not a directory.`, hint);
  if ((await onDisk(`Reading ${path}`, readdir(final))).length > 0) {
    throw new UsageError(`${printable(path)} is not empty.`, hint);
  }
  if (found.dev !== parent.dev) {
    throw new UsageError(
      `${printable(path)} is a mount point, where the restored data cannot appear in one step.`,
      `Use a directory inside it, such as ${join(path, 'restored')}.`,
    );
  }
}

/** Of restored data. */
type Owner = Pick<Stats, 'uid' | 'gid' | 'mode'>;

const PRIVATE = 0o700;

/** Whether the restored data is made inside the member's known data directory, to be swapped in. */
function isInPlace({ dataDir, place }: Directories): boolean {
  return place !== undefined && dirname(dataDir) === place;
}

/** Creates the data directory of a member whose disk is new. @throws UsageError */
export async function ensurePlace(directories: Directories): Promise<void> {
  const path = dirname(directories.dataDir);
  if (!isInPlace(directories) || (await statOf(path)) !== undefined) return;
  const { final, parent } = await WorkPlace.open(path);
  await onDisk(`Creating ${path}`, async () => {
    await mkdir(final, { mode: PRIVATE });
    await lchown(final, parent.uid, parent.gid);
  });
}

/**
 * The owner and mode of restored data: those of a named directory, else of the `member` next to it, else of the member's data
 * directory. Undefined = as etcd's tool creates it.
 * @throws UsageError
 */
export async function ownerFor(directories: Directories, named: string | undefined): Promise<Owner | undefined> {
  const home = dirname(directories.dataDir);
  const like = await statOf(named ?? join(home, 'member'));
  if (like === undefined && named !== undefined) {
    throw new UsageError(`The directory ${named} does not exist.`, 'Check --owner-from.');
  }
  if (like !== undefined || !isInPlace(directories)) return like;
  const place = await statOf(home);
  return place && { uid: place.uid, gid: place.gid, mode: PRIVATE };
}

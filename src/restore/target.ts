import { randomBytes } from 'node:crypto';
import type { Stats } from 'node:fs';
import { chmod, lchown, mkdir, readdir, readFile, rename, rmdir, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import * as v from 'valibot';
import { HeldDirectory, removeTree } from '../directories.ts';
import { UsageError } from '../errors.ts';
import { kindOf } from '../files.ts';
import { printable } from '../text.ts';
import { assertRoom, handOver, onDisk, statOf, sync } from '../disk.ts';
import { assertUnused } from './in-use.ts';
import type { Directories } from './options.ts';
import { WAL_SIZE } from './tool.ts';

/** What is added to the name of what is made: there its parts wait. */
const WORK = '.restoring';

/** In the work directory while the raft log's directory is in its place already, and the data is not. */
const JOURNAL = 'wal-dir';

/** What this run put into the place of the raft log, so that no other one is ever taken for it. */
const Journal = v.object({ walDir: v.string(), dev: v.number(), ino: v.number(), data: v.string() });

/**
 * A place where something is to appear, and the private directory beside it in which it is made. Somebody else may own the
 * directory that holds both, so nothing in there is reached by its path.
 */
export class WorkPlace {
  /** For messages. */
  readonly path: string;
  readonly #parent: HeldDirectory;
  #work: HeldDirectory | undefined;

  private constructor(path: string, parent: HeldDirectory) {
    this.path = path;
    this.#parent = parent;
  }

  /** @throws UsageError when there is no directory that could hold it */
  static async open(path: string): Promise<WorkPlace> {
    await assertParent(path);
    const parent = await onDisk(`Opening ${dirname(path)}`, () => HeldDirectory.open(dirname(path)));
    return new WorkPlace(path, parent);
  }

  /** The place itself. */
  get final(): string {
    return this.#parent.at(basename(this.path));
  }

  get parent(): Stats {
    return this.#parent.stats();
  }

  /** The work directory; an earlier run that did not come to its end may have left it. @throws UnsafeError, UsageError */
  async work(): Promise<HeldDirectory> {
    const make = (): HeldDirectory => this.#parent.makePrivate(this.#workName);
    return (this.#work ??= await onDisk(`Creating ${this.path}${WORK}`, make));
  }

  /** The same, if it is there. */
  async leftover(): Promise<HeldDirectory | undefined> {
    const find = (): HeldDirectory | undefined => this.#parent.findPrivate(this.#workName);
    return (this.#work ??= await onDisk(`Looking at ${this.path}${WORK}`, find));
  }

  /** What was made appears. */
  async appear(made: string): Promise<void> {
    await rename(made, this.final);
    await sync(this.#parent.path);
  }

  async removeWork(): Promise<void> {
    if (this.#work === undefined) return;
    await this.#work.empty();
    // Where somebody has put something else in its place, that is theirs.
    await rmdir(this.#parent.at(this.#workName)).catch(() => {});
    await sync(this.#parent.path);
    this.#work = undefined;
  }

  get #workName(): string {
    return `${basename(this.path)}${WORK}`;
  }
}

/**
 * A data directory in the making. All work is done in a directory beside it, on the same file system; it appears in one step
 * when it is whole and on the disk. A run that was killed leaves only the work directory, which the next one takes over.
 */
export class Target {
  /** Of this name always, so that the next run finds what an interrupted one downloaded. */
  readonly work: string;
  /** Names of its own for each run: nothing that a killed run's tool still writes can mix with ours. */
  readonly freshDataDir: string;
  readonly freshWalDir: string | undefined;
  /** What could not be found out. */
  readonly warnings: readonly string[];
  readonly #data: WorkPlace;
  readonly #wal: WorkPlace | undefined;

  private constructor(
    [data, work]: readonly [WorkPlace, HeldDirectory],
    [wal, walWork]: readonly [WorkPlace, HeldDirectory] | readonly [undefined, undefined],
    warnings: readonly string[],
  ) {
    const run = randomBytes(4).toString('hex');
    this.#data = data;
    this.#wal = wal;
    this.warnings = warnings;
    this.work = work.path;
    this.freshDataDir = work.at(`data-${run}`);
    this.freshWalDir = walWork?.at(`wal-${run}`);
  }

  get dataDir(): string {
    return this.#data.path;
  }

  get walDir(): string | undefined {
    return this.#wal?.path;
  }

  /**
   * Looks whether the place is free and usable; makes the work directory, and nothing else.
   * @throws UsageError; UnsafeError when a running etcd works there, or somebody else made the work directory
   */
  static async prepare(dataDir: string, walDir: string | undefined, signal: AbortSignal): Promise<Target> {
    const answers = [await assertUnused(dataDir, 'data', signal)];
    if (walDir !== undefined) answers.push(await assertUnused(walDir, 'wal', signal));
    const data = await WorkPlace.open(resolve(dataDir));
    const wal = walDir === undefined ? undefined : await WorkPlace.open(resolve(walDir));
    await assertFree(data);
    await onDisk(`Cleaning up ${data.path}${WORK}`, removeLeftovers(data, wal));
    if (wal !== undefined) await assertFree(wal);
    const warnings = answers.filter((answer) => answer !== undefined);
    const work = await data.work();
    const log = wal === undefined ? ([undefined, undefined] as const) : ([wal, await wal.work()] as const);
    return new Target([data, work], log, warnings);
  }

  /** @param snapshot bytes that are still to be written before etcd's tool begins; `database` those that it writes */
  async assertRoom(snapshot: number, database: number): Promise<void> {
    if (this.freshWalDir !== undefined) await assertRoom(dirname(this.freshWalDir), WAL_SIZE);
    await assertRoom(this.work, snapshot + database + (this.freshWalDir === undefined ? WAL_SIZE : 0));
  }

  /**
   * Moves what etcd's tool made into its place, with the owner and the mode that the old data has.
   * @param like undefined = as the tool left it
   * @throws UsageError
   */
  async place(like: Owner | undefined): Promise<void> {
    await onDisk(`Moving the restored data to ${this.dataDir}`, this.#place(like));
  }

  /** After a failure: removes what this run made. @param keepDownload leaves what a rerun can go on from */
  async abandon(keepDownload: boolean): Promise<void> {
    if (keepDownload) await removeTree(this.freshDataDir);
    else await this.#data.removeWork();
    await this.#wal?.removeWork();
  }

  async #place(like: Owner | undefined): Promise<void> {
    await handOver(this.freshDataDir, like);
    if (like !== undefined) await chmod(this.freshDataDir, like.mode & 0o7777);
    if (this.#wal !== undefined && this.freshWalDir !== undefined) {
      await handOver(this.freshWalDir, like);
      await this.#note(this.#wal, this.freshWalDir);
      await this.#wal.appear(this.freshWalDir);
    }
    // With this the journal says nothing any more: the data that it names is not in the work directory.
    await this.#data.appear(this.freshDataDir);
    await this.abandon(false);
  }

  /** Writes the journal: from now on the raft log may be in its place without its data. */
  async #note(wal: WorkPlace, fresh: string): Promise<void> {
    const { dev = 0, ino = 0 } = (await statOf(fresh, 'refuse')) ?? {};
    const journal: v.InferOutput<typeof Journal> = { walDir: wal.path, dev, ino, data: basename(this.freshDataDir) };
    const file = join(this.work, JOURNAL);
    await writeFile(file, JSON.stringify(journal), { mode: 0o600 });
    await sync(file);
    await sync(this.work);
  }
}

/** What a killed run left: half-made data, and a raft log whose data never came. Its download is kept. */
async function removeLeftovers(data: WorkPlace, wal: WorkPlace | undefined): Promise<void> {
  await (await wal?.leftover())?.empty();
  const work = await data.leftover();
  if (work === undefined) return;
  const journal = await readJournal(work.at(JOURNAL));
  if (wal !== undefined && journal?.walDir === wal.path && /^data-\w+$/.test(journal.data)) {
    // Data that is still here was never put into its place, so no etcd has worked with its log.
    const isWaiting = (await statOf(work.at(journal.data), 'refuse')) !== undefined;
    const placed = await statOf(wal.final, 'refuse');
    if (isWaiting && placed?.dev === journal.dev && placed.ino === journal.ino) await removeTree(wal.final);
  }
  for (const name of await readdir(work.path)) {
    if (name.startsWith('data-') || name === JOURNAL) await removeTree(work.at(name));
  }
}

/** Undefined where there is none; one that was not written to its end was not followed by anything. */
async function readJournal(file: string): Promise<v.InferOutput<typeof Journal> | undefined> {
  try {
    return v.parse(Journal, JSON.parse(await readFile(file, 'utf8')));
  } catch {
    return undefined;
  }
}

/** @throws UsageError unless the place can be taken by a directory in one step */
async function assertFree({ path, final, parent }: WorkPlace): Promise<void> {
  const there = await onDisk(`Looking at ${path}`, statOf(final, 'refuse'));
  if (there === undefined) return;
  if (!there.isDirectory()) {
    throw new UsageError(
      `${printable(path)} is not a directory but ${kindOf(there)}.`,
      'Name a directory that is not there yet.',
    );
  }
  if ((await onDisk(`Reading ${path}`, readdir(final))).length > 0) {
    throw new UsageError(
      `${printable(path)} is not empty.`,
      'Name a directory that is not there yet; old data is never overwritten.',
    );
  }
  if (there.dev !== parent.dev) {
    throw new UsageError(
      `${printable(path)} is a mount point, and the restored data must appear there in one step.`,
      `Name a directory inside it, such as ${join(path, 'restored')}.`,
    );
  }
}

/** The directory that is to hold a path. @throws UsageError when there is none */
export async function assertParent(path: string): Promise<Stats> {
  const parent = dirname(path);
  const above = await onDisk(`Looking at ${parent}`, statOf(parent));
  if (above?.isDirectory() === true) return above;
  throw new UsageError(`There is no directory ${parent} for ${path}.`, 'Check the path; in a container, mount it.');
}

/** Of restored data. */
type Owner = Pick<Stats, 'uid' | 'gid' | 'mode'>;

const PRIVATE = 0o700;

/** The restored data waits inside the member's data directory, as its configuration or a plan names it. */
function waitsInPlace({ dataDir, place }: Directories): boolean {
  return place !== undefined && dirname(resolve(dataDir)) === resolve(place);
}

/** Makes the data directory of a member whose disk is new. @throws UsageError */
export async function ensurePlace(directories: Directories): Promise<void> {
  const path = dirname(resolve(directories.dataDir));
  if (!waitsInPlace(directories) || (await onDisk(`Looking at ${path}`, statOf(path))) !== undefined) return;
  const { uid, gid } = await assertParent(path);
  await onDisk(`Creating ${path}`, async () => {
    const parent = HeldDirectory.open(dirname(path));
    await mkdir(parent.at(basename(path)), { mode: PRIVATE });
    await lchown(parent.at(basename(path)), uid, gid);
  });
}

/**
 * What the owner and mode of the restored data are taken from: a named directory, or the member that it lies beside, or else the
 * member's data directory.
 * @throws UsageError
 */
export async function ownerFor(directories: Directories, named: string | undefined): Promise<Owner | undefined> {
  const home = dirname(resolve(directories.dataDir));
  const path = named ?? join(home, 'member');
  const like = await onDisk(`Looking at ${path}`, statOf(path));
  if (like === undefined && named !== undefined) {
    throw new UsageError(`There is no directory ${named} to take the owner from.`, 'Check --owner-from.');
  }
  if (like !== undefined || !waitsInPlace(directories)) return like;
  const place = await onDisk(`Looking at ${home}`, statOf(home));
  return place && { uid: place.uid, gid: place.gid, mode: PRIVATE };
}

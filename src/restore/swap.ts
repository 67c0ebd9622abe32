import type { Stats } from 'node:fs';
import { rename, rmdir, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { HeldDirectory, visitTree } from '../directories.ts';
import { UsageError } from '../errors.ts';
import { handOver, onDisk, statOf, sync } from './disk.ts';
import { assertUnused } from './inuse.ts';

export interface Swapped {
  readonly dataDir: string;
  /** The directory that holds the old `member` now; undefined when there was none. */
  readonly aside: string | undefined;
  /** What could not be found out. */
  readonly warnings: readonly string[];
}

/**
 * Puts a restored `member` directory into the place of a stopped member's, which is moved aside and kept, dated. Both moves
 * are renames, so each is done or not; killed between them, the next run does the second. The same with the directory of the
 * old data undoes it.
 * @param restored the directory that holds the restored `member`, on the same file system
 * @throws UsageError before anything is moved; UnsafeError when etcd runs there, or when something
 *   is in the restored data that neither etcd nor its tool makes
 */
export async function swapIn(dataDir: string, restored: string, now: Date, signal: AbortSignal): Promise<Swapped> {
  const [place, source] = [resolve(dataDir), resolve(restored)];
  const answers = [await assertUnused(place, 'data', signal), await assertUnused(source, 'data', signal)];
  const [to, from] = [await holdDirectory(place), await holdDirectory(source)];
  if (to === undefined) throw new UsageError(`There is no directory ${place}.`, 'Name the data directory of etcd.');
  const come = from === undefined ? undefined : await incomingIn(from);
  if (from === undefined || come === undefined) {
    throw new UsageError(
      `There is no restored data in ${source}.`,
      'Restore first; --restored names the directory, if it is another.',
    );
  }
  if (come.dev !== to.stats().dev) {
    throw new UsageError(
      `${source} is on another file system than ${place}, so it cannot be moved there in one step.`,
      `Restore to ${join(place, 'restored')}.`,
    );
  }
  const [current, incoming] = [to.at('member'), from.at('member')];
  // Before anything is changed; once more when nobody else can change it any more.
  await onDisk(`Looking at ${incoming}`, visitTree(incoming, {}));
  const isThere = (await onDisk(`Looking at ${current}`, statOf(current, 'refuse'))) !== undefined;
  const old = isThere ? await unusedName(to, now) : undefined;
  const swap = async (): Promise<void> => {
    // The old data may be reached by a link: its owner is that of the data.
    await handOver(incoming, isThere ? await stat(current) : undefined);
    if (old !== undefined) await rename(current, to.makePrivate(old).at('member'));
    await rename(incoming, current);
    await sync(to.path);
    // What else is there is somebody's.
    await rmdir(source).catch(() => {});
    await sync(dirname(source));
  };
  await onDisk(`Moving the restored data to ${current}`, swap());
  const aside = old === undefined ? undefined : join(place, old);
  return { dataDir: place, aside, warnings: answers.filter((answer) => answer !== undefined) };
}

async function holdDirectory(path: string): Promise<HeldDirectory | undefined> {
  if ((await statOf(path))?.isDirectory() !== true) return undefined;
  return onDisk(`Opening ${path}`, () => HeldDirectory.open(path));
}

/** The restored `member`, if it is whole. */
async function incomingIn(from: HeldDirectory): Promise<Stats | undefined> {
  const member = from.at('member');
  const [database, wal] = [await statOf(join(member, 'snap/db')), await statOf(join(member, 'wal'))];
  return database === undefined || wal === undefined ? undefined : statOf(member, 'refuse');
}

/** Dated by the next second of which there is none yet: a swap that is undone at once comes from the directory of this one. */
async function unusedName(place: HeldDirectory, now: Date): Promise<string> {
  const name = `old-${stamp(now)}`;
  const isFree = (await statOf(place.at(name), 'refuse')) === undefined;
  return isFree ? name : unusedName(place, new Date(now.getTime() + 1000));
}

/** `20260131-235959`, UTC. */
function stamp(now: Date): string {
  return now
    .toISOString()
    .replaceAll(/[-:]|\..*/g, '')
    .replace('T', '-');
}

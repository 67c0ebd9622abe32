import type { Stats } from 'node:fs';
import { rename, rmdir, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { handOver, HeldDirectory, visitTree } from '../directories.ts';
import { UsageError } from '../errors.ts';
import { onDisk, statOf, sync } from '../files.ts';
import { assertUnused } from './in-use.ts';

interface Swapped {
  readonly dataDir: string;
  /** The directory that contains the old `member` now; undefined when there was none. */
  readonly aside: string | undefined;
  readonly warnings: readonly string[];
}

/**
 * Replaces the `member` directory of a stopped etcd by a restored one; the old one is kept in a dated directory. Both moves are
 * renames; a run that was killed between them is completed by the next. Swapping in the old directory is the undo.
 * @param restored contains the restored `member`, on the same file system
 * @throws UsageError before anything is moved; UnsafeError when etcd runs there, or the restored data contains foreign files
 */
export async function swapIn(dataDir: string, restored: string, now: Date, signal: AbortSignal): Promise<Swapped> {
  const [place, source] = [resolve(dataDir), resolve(restored)];
  const answers = [await assertUnused(place, 'data', signal), await assertUnused(source, 'data', signal)];
  const [to, from] = [await holdDirectory(place), await holdDirectory(source)];
  if (to === undefined)
    throw new UsageError(`The directory ${place} does not exist.`, 'Name the data directory of etcd.');
  const come = from === undefined ? undefined : await incomingIn(from);
  if (from === undefined || come === undefined) {
    throw new UsageError(
      `No restored data in ${source}.`,
      'Restore first; if the data is in another directory, give --restored.',
    );
  }
  if (come.dev !== to.stats().dev) {
    throw new UsageError(
      `${source} is on another file system than ${place}, and cannot be moved there in one step.`,
      `Restore to ${join(place, 'restored')}.`,
    );
  }
  const [current, incoming] = [to.at('member'), from.at('member')];
  // Checked before anything is changed, and by handOver again when nobody else can change it any more.
  await onDisk(`Reading ${incoming}`, visitTree(incoming));
  const isThere = (await statOf(current, 'refuse')) !== undefined;
  const old = isThere ? await unusedName(to, now) : undefined;
  const swap = async (): Promise<void> => {
    // Follows a link to the old data: the owner is that of the data.
    await handOver(incoming, isThere ? await stat(current) : undefined);
    if (old !== undefined) await rename(current, to.makePrivate(old).at('member'));
    await rename(incoming, current);
    await sync(to.path);
    // Fails where the directory contains anything else.
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

/** The restored `member`, if it is complete. */
async function incomingIn(from: HeldDirectory): Promise<Stats | undefined> {
  const member = from.at('member');
  const [database, wal] = [await statOf(join(member, 'snap/db')), await statOf(join(member, 'wal'))];
  return database === undefined || wal === undefined ? undefined : statOf(member, 'refuse');
}

/** Dated by the next free second, because a swap can be undone within the same second. */
async function unusedName(place: HeldDirectory, now: Date): Promise<string> {
  const stamp = now.toISOString().slice(0, 19).replaceAll(/[-:]/g, '').replace('T', '-');
  const name = `old-${stamp}`;
  const isFree = (await statOf(place.at(name), 'refuse')) === undefined;
  return isFree ? name : unusedName(place, new Date(now.getTime() + 1000));
}

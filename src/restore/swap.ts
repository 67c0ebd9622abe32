import { mkdir, rename, rmdir } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { UsageError } from '../errors.ts';
import { onDisk, settle, statOf, sync } from './disk.ts';
import { demandUnused } from './inuse.ts';

export interface Swapped {
  readonly dataDir: string;
  /** The directory that holds the old `member` now; undefined when there was none. */
  readonly aside: string | undefined;
}

/**
 * Puts a restored `member` directory into the place of a stopped member's, which is moved aside and kept, dated. Both moves
 * are renames, so each is done or not; killed between them, the next run does the second. The same with the directory of the
 * old data undoes it.
 * @param restored the directory that holds the restored `member`, on the same file system
 * @throws UsageError before anything is moved; UnsafeError when etcd runs there
 */
export async function swapIn(dataDir: string, restored: string, now: Date, signal: AbortSignal): Promise<Swapped> {
  const [place, source] = [resolve(dataDir), resolve(restored)];
  const [current, incoming] = [join(place, 'member'), join(source, 'member')];
  await demandUnused(place, signal);
  await demandUnused(source, signal);
  const [inPlace, there] = [await onDisk(`Looking at ${current}`, statOf(current)), await statOf(place)];
  const come = await onDisk(`Looking at ${incoming}`, statOf(incoming));
  const isWhole = (await statOf(join(incoming, 'snap/db')))?.isFile() === true && (await statOf(join(incoming, 'wal')));
  if (there === undefined) throw new UsageError(`There is no directory ${place}.`, 'Name the data directory of etcd.');
  if (come === undefined || !isWhole) {
    throw new UsageError(
      `There is no restored data in ${source}.`,
      'Restore first; --restored names the directory, if it is another.',
    );
  }
  if (come.dev !== there.dev) {
    throw new UsageError(
      `${source} is on another file system than ${place}, so it cannot be moved there in one step.`,
      `Restore to ${join(place, 'restored')}.`,
    );
  }
  const old = inPlace === undefined ? undefined : await unusedName(place, now);
  const swap = async (): Promise<void> => {
    if (inPlace !== undefined) await settle(incoming, inPlace);
    if (old !== undefined) {
      await mkdir(old, { mode: 0o700 });
      await rename(current, join(old, 'member'));
    }
    await rename(incoming, current);
    await sync(place);
    // What else is there is somebody's.
    await rmdir(source).catch(() => {});
    await sync(dirname(source));
  };
  await onDisk(`Moving the restored data to ${current}`, swap());
  return { dataDir: place, aside: old };
}

/** Dated by the next second of which there is none yet: a swap that is undone at once comes from the directory of this one. */
async function unusedName(place: string, now: Date): Promise<string> {
  const name = join(place, `old-${stamp(now)}`);
  return (await statOf(name)) === undefined ? name : unusedName(place, new Date(now.getTime() + 1000));
}

/** `20260131-235959`, UTC. */
function stamp(now: Date): string {
  return now
    .toISOString()
    .replaceAll(/[-:]|\..*/g, '')
    .replace('T', '-');
}

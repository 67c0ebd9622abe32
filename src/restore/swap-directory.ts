import type { Stats } from 'node:fs';
import { open, rename, rmdir, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import * as v from 'valibot';
import { HeldDirectory, visitTree } from '../directories.ts';
import { UsageError } from '../errors.ts';
import { openRegular } from '../files.ts';
import type { RecordedMember } from '../snapshot/record.ts';
import { handOver, onDisk, statOf, sync } from '../disk.ts';
import { assertUnused } from './in-use.ts';
import { Count, Id, Initial, MemberName, Sha256, Text } from './plan-file.ts';
import type { MemberParameters } from './tool.ts';

/** Bytes; no marker of ours is larger. */
const MAX_SIZE = 256 * 1024;

/** In `member`, so that it moves with the data. etcd looks at its own names only. */
const FILE = 'etcd-snapshot-restore.json';

const MarkerSchema = v.strictObject({
  format: v.literal(1),
  snapshot: v.strictObject({ name: Text, sha256: Sha256, revision: Count, liveKeys: v.nullable(Count) }),
  /** The digest of the plan that it was made by; null = by none. */
  plan: v.nullable(Sha256),
  tool: Text,
  revision: Count,
  member: v.strictObject({
    name: MemberName,
    initialCluster: v.array(v.strictObject(Initial)),
    initialClusterToken: Text,
    initialAdvertisePeerUrls: v.array(Text),
  }),
  /** The cluster that the snapshot was taken of; the id of a bare file's is not known. */
  previous: v.strictObject({
    clusterId: v.nullable(Id),
    members: v.array(v.strictObject({ id: Id, name: Text })),
  }),
});

/** What a restored directory remembers: of what and for whom it was made. */
export type Marker = v.InferOutput<typeof MarkerSchema>;

export function previousOf(
  clusterId: string | null,
  members: readonly Pick<RecordedMember, 'id' | 'name'>[],
): Marker['previous'] {
  return { clusterId, members: members.map(({ id, name }) => ({ id, name })) };
}

/** @param dataDir holds `member`, and nobody has started etcd on it yet */
export async function writeMarker(dataDir: string, marker: Marker): Promise<void> {
  const file = await open(join(dataDir, 'member', FILE), 'wx', 0o600);
  await file.writeFile(`${JSON.stringify(marker, undefined, 2)}\n`).finally(async () => file.close());
}

interface FoundMarker {
  readonly marker: Marker;
  /** etcd has worked with the data since it was restored. */
  readonly isUsed: boolean;
}

/** Undefined where there is none, or none that this program wrote: etcd's user can write here. */
export async function readMarker(dataDir: string): Promise<FoundMarker | undefined> {
  const member = join(dataDir, 'member');
  try {
    const { file, stats } = await openRegular(join(member, FILE), 'refuse');
    const text = await (stats.size > MAX_SIZE ? Promise.resolve('') : file.readFile('utf8')).finally(async () =>
      file.close(),
    );
    const marker = v.parse(MarkerSchema, JSON.parse(text));
    const { mtimeMs } = await stat(join(member, 'snap/db'));
    return { marker, isUsed: mtimeMs > stats.mtimeMs };
  } catch {
    return undefined;
  }
}

/** Whether two members are started with the same parameters. */
export function sameParameters(a: MemberParameters, b: Marker['member']): boolean {
  const { name, initialCluster, initialClusterToken, initialAdvertisePeerUrls } = a;
  const own = initialCluster.map((one) => ({ name: one.name, peerURLs: one.peerURLs }));
  return (
    JSON.stringify({ name, initialCluster: own, initialClusterToken, initialAdvertisePeerUrls }) === JSON.stringify(b)
  );
}

interface Swapped {
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

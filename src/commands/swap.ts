import type { Stats } from 'node:fs';
import { rename, rmdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { handOver, HeldDirectory, visitTree } from '../directories.ts';
import { UsageError } from '../errors.ts';
import { onDisk, statOf, sync } from '../files.ts';
import { Warnings } from '../log.ts';
import { assertUnused } from '../restore/in-use.ts';
import { assertNewCluster, type Identity, identityOf, type Marker, readMarker } from '../restore/marker.ts';
import { dataDirOf, readMemberConfig } from '../restore/member-config.ts';
import { assertDirectory } from '../restore/plan.ts';
import { ownCommand, stampOf } from '../restore/runbooks.ts';
import { printable } from '../text.ts';
import type { Arguments, Context, Outcome } from './command.ts';

interface SwapOptions {
  readonly 'data-dir'?: string;
  readonly from?: string;
  readonly restored?: string;
}

/** All other options belong to a restore. */
const OPTIONS = new Set(['json', 'env-file', 'swap', 'data-dir', 'from', 'restored']);

const NEXT = 'When this is done on all members, start etcd on all of them.';

/** `restore --swap`: replaces the data of a stopped member by the restored data, and keeps the old. */
export async function swap({ log, signal }: Context, { operands, options }: Arguments): Promise<Outcome> {
  const warnings = new Warnings(log);
  const unknown = Object.keys(options).find((name) => !OPTIONS.has(name));
  if (operands.length > 0 || unknown !== undefined) {
    throw new UsageError(
      `--swap cannot be combined with ${unknown === undefined ? 'a snapshot' : `--${unknown}`}.`,
      'Run: etcd-snapshot restore --swap --from FILE, or --data-dir DIR; add --restored DIR if the data is elsewhere.',
    );
  }
  const { place, name } = await placeFor(options);
  const { restored: given } = options as SwapOptions;
  const restored = given === undefined ? join(place, 'restored') : assertDirectory(given, '--restored');
  const incoming = (await readMarker(restored))?.marker;
  const inPlace = (await readMarker(place))?.marker;
  const isSwapped = given === undefined && (await statOf(join(restored, 'member'))) === undefined;
  if (incoming === undefined && inPlace !== undefined && isSwapped) {
    assertMember(inPlace, name, place);
    const { snapshot, member } = inPlace;
    const summary = `Already done: ${printable(snapshot.name)} is in ${place}, restored for member ${printable(member.name)}.`;
    return {
      text: `${NEXT}\n${summary}`,
      summary,
      json: { dataDir: place, old: null, undo: null, alreadyDone: true, findings: [] },
    };
  }
  if (incoming !== undefined) assertMember(incoming, name, restored);
  const wal = join(place, 'member/wal');
  await assertNewCluster(join(restored, 'member/wal'), [wal]);
  const replaced = await identityOf(wal);
  const old = await swapIn(place, restored, new Date(), warnings, signal);
  if (old === null) {
    warnings.add(
      `No old data in ${place}: check that etcd is started with this directory.`,
      'Compare the directory with --data-dir of etcd before you start it.',
    );
  } else if (incoming !== undefined && replaced !== undefined) warnAboutOld(warnings, place, replaced, incoming);
  const undo = old && ownCommand('restore', '--swap', '--data-dir', place, '--restored', old);
  log.info('restored data swapped in', { dataDir: place, old });
  const lines = [
    ...warnings.sentences.map((sentence) => `WARNING: ${sentence}`),
    ...(undo === null ? [] : ['To undo this while etcd is stopped:', `  ${undo}`]),
    NEXT,
    `The restored data is in ${place}${old === null ? '' : `, the old data in ${old}`}.`,
  ];
  return {
    text: lines.join('\n'),
    json: { dataDir: place, old, undo, alreadyDone: false, findings: warnings.sentences },
  };
}

/** The member's data directory: of its own configuration, with which --data-dir must agree. @throws UsageError */
async function placeFor(options: SwapOptions): Promise<{ readonly place: string; readonly name: string | undefined }> {
  const { 'data-dir': dataDir, from } = options;
  const given = dataDir === undefined ? undefined : assertDirectory(dataDir, '--data-dir');
  const config = from === undefined ? undefined : await readMemberConfig(from);
  if (config?.walDir !== undefined) {
    throw new UsageError(
      `${printable(from ?? '')} has a separate WAL directory, ${config.walDir}, which --swap does not move.`,
      'Start etcd with the two directories that were restored.',
    );
  }
  const place = dataDirOf(config, from ?? '', given);
  if (place !== undefined) return { place, name: config?.name };
  throw new UsageError(
    'No data directory given (--data-dir or --from).',
    'Give --from with the file that starts etcd here; if that does not name the directory, give --data-dir.',
  );
}

/** @throws UsageError when the data was restored for another member than the one on this host */
function assertMember({ member }: Marker, name: string | undefined, dir: string): void {
  if (name === undefined || name === member.name) return;
  throw new UsageError(
    `The data in ${dir} was restored for member ${printable(member.name)}, but this host has member ${printable(name)}.`,
    `Restore on this host for ${printable(name)}; each member has its own data.`,
  );
}

/** Warns unless the old data belonged to the same member of the cluster of the snapshot. */
function warnAboutOld(warnings: Warnings, place: string, old: Identity, { previous, member }: Marker): void {
  const hint = `Check that etcd is started with ${place} here. If not, undo this, and give --from.`;
  if (previous.clusterId !== null && old.clusterId !== previous.clusterId) {
    warnings.add(
      `The old data belongs to cluster ${old.clusterId}, the snapshot to cluster ${previous.clusterId}.`,
      hint,
    );
    return;
  }
  const owner = previous.members.find(({ id }) => id === old.memberId);
  if (owner?.name === member.name) return;
  const whose = owner === undefined || owner.name === '' ? old.memberId : printable(owner.name);
  const unknown = owner === undefined ? ', which the snapshot does not list' : '';
  warnings.add(`The old data belongs to member ${whose}${unknown}, not to ${printable(member.name)}.`, hint);
}

/**
 * Replaces the `member` directory of a stopped etcd by the one in `source`. Both moves are renames; a run that was killed between
 * them is completed by the next. Swapping in the old directory is the undo.
 * @returns the dated directory that contains the old `member` now; null when there was none
 * @throws UsageError before anything is moved; UnsafeError when etcd runs there, or the restored data contains foreign files
 */
export async function swapIn(
  place: string,
  source: string,
  now: Date,
  warnings: Warnings,
  signal: AbortSignal,
): Promise<string | null> {
  await assertUnused(place, 'data', warnings, signal);
  await assertUnused(source, 'data', warnings, signal);
  const [to, from] = [await holdDirectory(place), await holdDirectory(source)];
  if (to === undefined)
    throw new UsageError(`The directory ${place} does not exist.`, 'Give the data directory of etcd.');
  const come = from === undefined ? undefined : await incomingIn(from);
  if (from === undefined || come === undefined) {
    throw new UsageError(
      `No restored data in ${source}.`,
      'Restore first; if the data is in another directory, give --restored.',
    );
  }
  if (come.dev !== to.stats().dev) {
    throw new UsageError(
      `${source} and ${place} are on different file systems, so the data cannot be moved in one step.`,
      `Restore to ${join(place, 'restored')}.`,
    );
  }
  const [current, incoming] = [to.at('member'), from.at('member')];
  // Checked before anything is changed, and again by handOver when nobody else can change it any more.
  await onDisk(`Reading ${incoming}`, visitTree(incoming));
  const isThere = (await statOf(current, 'refuse')) !== undefined;
  const aside = isThere ? await unusedName(to, now) : undefined;
  const move = async (): Promise<void> => {
    // Follows a link to the old data: the owner is that of the data.
    await handOver(incoming, isThere ? await stat(current) : undefined);
    if (aside !== undefined) await rename(current, to.makePrivate(aside).at('member'));
    await rename(incoming, current);
    await sync(to.path);
    // Fails where the directory contains anything else.
    await rmdir(source).catch(() => {});
    await sync(dirname(source));
  };
  await onDisk(`Moving the restored data to ${current}`, move());
  return aside === undefined ? null : join(place, aside);
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
  const name = `old-${stampOf(now.toISOString())}`;
  const isFree = (await statOf(place.at(name), 'refuse')) === undefined;
  return isFree ? name : unusedName(place, new Date(now.getTime() + 1000));
}

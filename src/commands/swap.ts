import { join } from 'node:path';
import { UsageError } from '../errors.ts';
import { statOf } from '../files.ts';
import { Warnings } from '../log.ts';
import { assertNewCluster, type Identity, identityOf, type Marker, readMarker } from '../restore/marker.ts';
import { readMemberConfig } from '../restore/member-config.ts';
import { assertDirectory } from '../restore/plan-file.ts';
import { ownCommand } from '../restore/runbooks.ts';
import { swapIn } from '../restore/swap-directory.ts';
import { printable, quoteShell } from '../text.ts';
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
      'etcd-snapshot restore --swap --from FILE, or --data-dir DIR; with --restored DIR if the data is elsewhere',
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
    return alreadyDone(place, inPlace);
  }
  if (incoming !== undefined) assertMember(incoming, name, restored);
  const wal = join(place, 'member/wal');
  await assertNewCluster(join(restored, 'member/wal'), [wal]);
  const old = await identityOf(wal);
  const { dataDir, aside, warnings: ofSwap } = await swapIn(place, restored, new Date(), signal);
  for (const warning of ofSwap) warnings.add(warning, 'Make sure that etcd was stopped there.');
  if (aside === undefined) {
    warnings.add(
      `No old data in ${dataDir}: check that etcd is started with this directory.`,
      'Compare with --data-dir of etcd before you start it; in another directory it would find its old data, or none.',
    );
  } else if (incoming !== undefined && old !== undefined) warnAboutOld(warnings, dataDir, old, incoming);
  const undo = aside === undefined ? null : ownCommand('restore', '--swap', '--data-dir', dataDir, '--restored', aside);
  log.info('restored data swapped in', { dataDir, old: aside ?? null });
  const lines = [
    ...warnings.sentences.map((sentence) => `WARNING: ${sentence}`),
    ...(undo === null ? [] : ['To undo this while etcd is stopped:', `  ${undo}`]),
    NEXT,
    `The restored data is in ${dataDir}${aside === undefined ? '' : `, the old data in ${aside}`}.`,
  ];
  return {
    text: lines.join('\n'),
    json: { dataDir, old: aside ?? null, undo, alreadyDone: false, findings: warnings.sentences },
  };
}

/** The member's data directory: of its own configuration, with which --data-dir must agree. @throws UsageError */
async function placeFor({ 'data-dir': dataDir, from }: SwapOptions): Promise<{ place: string; name?: string }> {
  const given = dataDir === undefined ? undefined : assertDirectory(dataDir, '--data-dir');
  if (from === undefined) {
    if (given !== undefined) return { place: given };
    throw new UsageError(
      'No data directory given (--data-dir or --from).',
      'Give --from with the file that starts etcd here, or --data-dir.',
    );
  }
  const { dataDir: own, walDir, name } = await readMemberConfig(from);
  const shown = printable(from);
  if (walDir !== undefined) {
    throw new UsageError(
      `${shown} has a separate WAL directory, ${walDir}, which --swap does not move.`,
      'Start etcd with the two directories that were restored.',
    );
  }
  if (own !== undefined && given !== undefined && own !== given) {
    throw new UsageError(
      `--data-dir is ${given}, but ${shown} has the data directory ${own}.`,
      `Omit --data-dir, or give --data-dir ${quoteShell(own)}.`,
    );
  }
  const place = own ?? given;
  if (place !== undefined) return { place, ...(name !== undefined && { name }) };
  throw new UsageError(`${shown} has no data directory.`, 'Give --data-dir as well.');
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
    warnings.add(`The old data is of cluster ${old.clusterId}, and the snapshot is of ${previous.clusterId}.`, hint);
    return;
  }
  const owner = previous.members.find(({ id }) => id === old.memberId);
  if (owner?.name === member.name) return;
  const whose = owner === undefined || owner.name === '' ? old.memberId : printable(owner.name);
  const unknown = owner === undefined ? ', which the snapshot does not list' : '';
  warnings.add(`The old data is of member ${whose}${unknown}, not of ${printable(member.name)}.`, hint);
}

function alreadyDone(place: string, { snapshot, member }: Marker): Outcome {
  const summary = `Already done: ${printable(snapshot.name)} is in ${place}, restored for member ${printable(member.name)}.`;
  return {
    text: `${NEXT}\n${summary}`,
    summary,
    json: { dataDir: place, old: null, undo: null, alreadyDone: true, findings: [] },
  };
}

import { join } from 'node:path';
import { UsageError } from '../errors.ts';
import { Warnings } from '../log.ts';
import { statOf } from '../disk.ts';
import { readMemberConfig } from '../restore/member-config.ts';
import { type Identity, identityOf } from '../restore/parameters.ts';
import { assertDirectory } from '../restore/plan-file.ts';
import { ownCommand } from '../restore/runbooks.ts';
import { type Marker, readMarker, swapIn } from '../restore/swap-directory.ts';
import { printable, quoteShell } from '../text.ts';
import type { Arguments, Context, Outcome } from './command.ts';

interface SwapOptions {
  readonly 'data-dir'?: string;
  readonly from?: string;
  readonly restored?: string;
}

/** What can be said of a swap; all else is about a restore. */
const OPTIONS = new Set(['json', 'env-file', 'swap', 'data-dir', 'from', 'restored']);

const NEXT = 'When this is done on all members, start etcd on all of them.';

/** `restore --swap`: the restored data takes the place of a stopped member's, which is kept. */
export async function swap({ log, signal }: Context, { operands, options }: Arguments): Promise<Outcome> {
  const findings = new Warnings(log);
  const superfluous = Object.keys(options).filter((name) => !OPTIONS.has(name));
  if (operands.length > 0 || superfluous.length > 0) {
    throw new UsageError(
      `--swap takes the data directory of a stopped etcd, and no ${superfluous[0] === undefined ? 'snapshot' : `--${superfluous[0]}`}.`,
      'etcd-snapshot restore --swap --from FILE, or --data-dir DIR, and --restored DIR where that is another directory',
    );
  }
  const { place, name } = await placeFor(options);
  const { restored: given } = options as SwapOptions;
  const restored = given === undefined ? join(place, 'restored') : assertDirectory(given, '--restored');
  const incoming = await readMarker(restored);
  const inPlace = await readMarker(place);
  if (incoming === undefined && inPlace !== undefined && given === undefined && !(await hasData(restored))) {
    assertMember(inPlace.marker, name, place);
    return alreadyDone(place, inPlace.marker);
  }
  if (incoming !== undefined) assertMember(incoming.marker, name, restored);
  const old = await identityOf(join(place, 'member'));
  const swapped = await swapIn(place, restored, new Date(), signal);
  const { dataDir, aside, warnings } = swapped;
  for (const warning of warnings) findings.add(warning, 'Make sure that etcd was stopped there.');
  warnAboutOld(findings, { place: dataDir, aside, old, marker: incoming?.marker });
  const undo = aside === undefined ? null : ownCommand('restore', '--swap', '--data-dir', dataDir, '--restored', aside);
  log.info('the restored data is in its place', { dataDir, old: aside ?? null });
  const lines = [
    ...findings.sentences.map((sentence) => `WARNING: ${sentence}`),
    `The restored data is in ${dataDir}${aside === undefined ? '' : `, the old in ${aside}`}.`,
    NEXT,
    ...(undo === null ? [] : [`To undo it, with etcd stopped:`, `  ${undo}`]),
  ];
  return {
    text: lines.join('\n'),
    json: { dataDir, old: aside ?? null, undo, alreadyDone: false, findings: findings.sentences },
  };
}

/** Where the member keeps its data: its own configuration knows it, and what is given otherwise must agree. @throws UsageError */
async function placeFor({ 'data-dir': dataDir, from }: SwapOptions): Promise<{ place: string; name?: string }> {
  const given = dataDir === undefined ? undefined : assertDirectory(dataDir, '--data-dir');
  if (from === undefined) {
    if (given !== undefined) return { place: given };
    throw new UsageError(
      '--swap does not know the data directory of the member.',
      'Give --from with the file that starts etcd here, or --data-dir.',
    );
  }
  const { dataDir: own, walDir, name } = await readMemberConfig(from);
  const shown = printable(from);
  if (walDir !== undefined) {
    throw new UsageError(
      `${shown} says that the member keeps its raft log in a directory of its own, ${walDir}, which --swap does not move.`,
      'Start etcd with the two directories that were restored.',
    );
  }
  if (own !== undefined && given !== undefined && own !== given) {
    throw new UsageError(
      `${shown} says that the member keeps its data in ${own}, and --data-dir says ${given}.`,
      `Leave out --data-dir, or give --data-dir ${quoteShell(own)}.`,
    );
  }
  const place = own ?? given;
  if (place !== undefined) return { place, ...(name !== undefined && { name }) };
  throw new UsageError(`${shown} does not say where the member keeps its data.`, 'Give --data-dir as well.');
}

async function hasData(restored: string): Promise<boolean> {
  return (await statOf(join(restored, 'member'))) !== undefined;
}

/** @throws UsageError when the data was restored for another member than the one that starts here */
function assertMember({ member }: Marker, name: string | undefined, dir: string): void {
  if (name === undefined || name === member.name) return;
  throw new UsageError(
    `The data in ${dir} was restored for member ${printable(member.name)}, and the member here is ${printable(name)}.`,
    `Restore on this machine for ${printable(name)}; each member has its own data.`,
  );
}

/** What should have been in the place is the last life of the member that comes; anything else may be the wrong place. */
function warnAboutOld(
  findings: Warnings,
  {
    place,
    aside,
    old,
    marker,
  }: { place: string; aside?: string | undefined; old: Identity | undefined; marker: Marker | undefined },
): void {
  if (aside === undefined) {
    findings.add(
      `There was nothing to move aside in ${place}: is it the directory that etcd is started with here?`,
      'Compare with --data-dir of etcd before it is started; a member that starts elsewhere has its old data, or none.',
    );
    return;
  }
  if (marker === undefined || old === undefined) return;
  const { clusterId, members } = marker.previous;
  const own = `member ${printable(marker.member.name)}`;
  const hint = `Is ${place} the directory that etcd is started with here? If not, undo this, and give --from.`;
  if (clusterId !== null && old.clusterId !== clusterId) {
    findings.add(`What was moved aside is of cluster ${old.clusterId}, and the snapshot is of ${clusterId}.`, hint);
    return;
  }
  const owner = members.find(({ id }) => id === old.memberId);
  if (owner?.name === marker.member.name) return;
  const whose = owner === undefined || owner.name === '' ? `member ${old.memberId}` : `member ${printable(owner.name)}`;
  const unknown = owner === undefined ? ', which the snapshot does not know' : '';
  findings.add(`What was moved aside belonged to ${whose}${unknown}, not to ${own}.`, hint);
}

function alreadyDone(place: string, { snapshot, member }: Marker): Outcome {
  const sentence = `Already done: ${printable(snapshot.name)} is in ${place}, restored for member ${printable(member.name)}.`;
  return {
    text: `${sentence}\n${NEXT}`,
    summary: sentence,
    json: { dataDir: place, old: null, undo: null, alreadyDone: true, findings: [] },
  };
}

import { UsageError } from '../errors.ts';
import { Warnings } from '../log.ts';
import { onDisk } from '../disk.ts';
import { bytesAt, fetchVerified, isResumable } from '../restore/fetch.ts';
import { assertNoQuorum } from '../restore/in-use.ts';
import { assertAgrees, formatInitialCluster, namesVoters } from '../restore/initial-members.ts';
import {
  type Directories,
  directoriesOf,
  isOneOfSeveral,
  nextStep,
  readRestoreRequest,
  type RestoreOptions,
  type RestoreRequest,
} from '../restore/options.ts';
import { isGivenByHand, memberFor, type Resolved } from '../restore/parameters.ts';
import { assertPlanned } from '../restore/plan.ts';
import { type Marker, previousOf, readMarker, sameParameters, writeMarker } from '../restore/swap-directory.ts';
import { ensurePlace, ownerFor, Target } from '../restore/target.ts';
import {
  BUMP,
  assertFit,
  findTool,
  type MemberParameters,
  type RestoreTool,
  runRestore,
  writtenBy,
} from '../restore/tool.ts';
import type { SnapshotRecord } from '../snapshot/record.ts';
import type { SnapshotSource } from '../snapshot/source.ts';
import type { SnapshotFacts } from '../snapshot/verify/verifier.ts';
import { Stopwatch } from '../progress.ts';
import { printable } from '../text.ts';
import type { Arguments, Context, Outcome } from './command.ts';
import { download } from './download-file.ts';
import { openNamedOrNewest } from './operand.ts';
import { showPlan } from './show-plan.ts';
import { swap } from './swap.ts';

const UNCHECKED_HINT = 'Every page is well-formed, but a changed byte of a value would not be noticed.';

/**
 * Makes the data directory of one member from a snapshot: everything that could be wrong is asked before anything is
 * written, the snapshot is verified completely while it comes, etcd's own tool does the restore, and the directory appears in
 * one step. Old data is never touched; that is `--swap`'s job, when all members are stopped.
 */
export async function restore(context: Context, args: Arguments): Promise<Outcome> {
  if (args.options['download'] !== undefined) return download(context, args);
  if (args.options['plan'] === true) return showPlan(context, args);
  if (args.options['swap'] === true) return swap(context, args);
  const { config, log, signal } = context;
  const options = args.options as RestoreOptions;
  const watch = new Stopwatch();
  const findings = new Warnings(log);

  const request = await readRestoreRequest(options);
  const directories = directoriesOf(options, request);
  const planned = await plannedBefore(request, directories);
  if (planned !== undefined) return planned;
  const tool = await findTool(context.searchPath, signal);
  if (options.force !== true) await watch.time('quorum', assertNoQuorum(config.etcd, findings));
  const source = await chooseSource(context, args, request);
  const { record } = source;
  const fit = record && fitOf(source, request, tool, record);
  const isKnown = record !== undefined && (isGivenByHand(request) || namesVoters(record));
  const foretold = isKnown ? memberFor(request, record) : undefined;
  const bump = bumpOf(options, tool, findings);
  const done = foretold && (await doneBefore(source, foretold, bump, directories));
  if (done !== undefined) return done;
  for (const note of directories.notes) findings.add(note);
  await ensurePlace(directories);
  const owner = await ownerFor(directories, options['owner-from']);
  const target = await Target.prepare(directories.dataDir, options['wal-dir'], signal);
  for (const warning of target.warnings) findings.add(warning, 'Make sure that etcd is stopped there.');
  try {
    await target.assertRoom(source.size - (await bytesAt(source, target.work)), source.size);

    const { file, facts } = await watch.time('fetch', fetchVerified(source, target.work, context));
    if (isKnown && !isGivenByHand(request)) assertAgrees(record, facts);
    const { note } = fit ?? fitOf(source, request, tool, facts);
    const { member, notes } = foretold ?? memberFor(request, facts);
    for (const sentence of note === undefined ? notes : [note, ...notes]) findings.add(sentence);

    const { skipHashCheck } = source;
    if (skipHashCheck) findings.add(`The sha256 of ${printable(source.name)} was not checked.`, UNCHECKED_HINT);
    const order = { file, skipHashCheck, member, dataDir: target.freshDataDir, walDir: target.freshWalDir, bump };
    await watch.time('restore', runRestore(tool, order, signal));
    // The tool read it for itself, and only this says that it read what was verified.
    await source.assertUnchanged();
    const marker = markerOf(source, request, member, facts, { tool: tool.name, bump });
    await onDisk(`Writing ${target.freshDataDir}`, writeMarker(target.freshDataDir, marker));
    await watch.time('place', target.place(owner));
    log.info('the data directory is restored', { dataDir: target.dataDir, tool: tool.name, member: member.name });

    const { dataDir, walDir = null } = target;
    const { sha256, revision: snapshotRevision, liveKeys = null } = facts;
    const next = nextStep({ dataDir, place: directories.place });
    const made = { name: source.name, dataDir, tool: tool.name, member, revision: snapshotRevision + bump, next };
    return {
      text: textOf(made),
      summary: summaryOf(made),
      json: {
        ...{ ...made, walDir, sha256, snapshotRevision, liveKeys, alreadyDone: false },
        member: { ...member, initialCluster: formatInitialCluster(member.initialCluster) },
        ...{ durationsMs: watch.durations(), findings: findings.sentences },
      },
    };
  } catch (error) {
    await target.abandon(isResumable(error));
    throw error;
  }
}

/** The one that was named, the plan's, or the newest; but members that choose on their own may choose differently. */
async function chooseSource(context: Context, args: Arguments, request: RestoreRequest): Promise<SnapshotSource> {
  const name = args.operands[0] ?? request.plan?.snapshot.name;
  if (name !== undefined || !isOneOfSeveral(request)) return openNamedOrNewest(context, name, args.options);
  throw new UsageError(
    'All members must be restored from the same snapshot, and none was named.',
    'Name one that `etcd-snapshot list` shows, or make a plan: etcd-snapshot restore --plan',
  );
}

/**
 * Whether the snapshot is that of the plan, and the tool can restore it: told by its record before a byte is read, else by its
 * content.
 * @returns what should be known of the tool
 * @throws UnsafeError, VerificationError
 */
function fitOf(
  source: SnapshotSource,
  request: RestoreRequest,
  tool: RestoreTool,
  known: SnapshotRecord | SnapshotFacts,
): { readonly note: string | undefined } {
  if (request.plan !== undefined) assertPlanned(request.plan, source.name, known.sha256);
  return { note: assertFit(tool, writtenBy(known)) };
}

function markerOf(
  { name, record }: SnapshotSource,
  { plan }: RestoreRequest,
  { initialCluster, ...member }: MemberParameters,
  facts: SnapshotFacts,
  { tool, bump }: { tool: string; bump: number },
): Marker {
  const { sha256, revision, liveKeys = null } = facts;
  const members = initialCluster.map((one) => ({ name: one.name, peerURLs: [...one.peerURLs] }));
  return {
    format: 1,
    snapshot: { name, sha256, revision, liveKeys },
    plan: plan?.digest ?? null,
    tool,
    revision: revision + bump,
    member: {
      ...{ name: member.name, initialCluster: members, initialClusterToken: member.initialClusterToken },
      initialAdvertisePeerUrls: [...member.initialAdvertisePeerUrls],
    },
    previous: previousOf(record?.clusterId ?? null, (record ?? facts).members),
  };
}

/** What an earlier run of the same plan made, whether it waits or was swapped in since. Nothing else is asked then. */
async function plannedBefore(
  { plan, name, config }: RestoreRequest,
  { dataDir, place }: Directories,
): Promise<Outcome | undefined> {
  if (plan === undefined) return undefined;
  const isOurs = ({ plan: digest, member }: Marker): boolean =>
    digest === plan.digest && member.name === (name ?? config?.name);
  const waiting = await readMarker(dataDir);
  if (waiting !== undefined && !waiting.isUsed && isOurs(waiting.marker)) {
    return alreadyDone(waiting.marker, dataDir, nextStep({ dataDir, place }));
  }
  const swapped = place === undefined || place === dataDir ? undefined : await readMarker(place);
  if (place === undefined || swapped === undefined || !isOurs(swapped.marker)) return undefined;
  return alreadyDone(swapped.marker, place, 'start etcd; to restore once more make a new plan');
}

/** What an earlier run made of the same snapshot with the same parameters. */
async function doneBefore(
  { record }: SnapshotSource,
  { member }: Resolved,
  bump: number,
  { dataDir, place }: Directories,
): Promise<Outcome | undefined> {
  const found = await readMarker(dataDir);
  if (found === undefined || found.isUsed || record === undefined) return undefined;
  const { marker } = found;
  const isSame = marker.snapshot.sha256 === record.sha256 && marker.revision === marker.snapshot.revision + bump;
  if (!isSame || !sameParameters(member, marker.member)) return undefined;
  return alreadyDone(marker, dataDir, nextStep({ dataDir, place }));
}

function alreadyDone({ snapshot, member, tool, revision }: Marker, dataDir: string, next: string): Outcome {
  const { name, sha256, revision: snapshotRevision, liveKeys } = snapshot;
  const made = { name, dataDir, tool, member, revision, next };
  const summary = `Already done: ${summaryOf(made)}`;
  return {
    text: textOf(made, summary),
    summary,
    json: {
      ...{ ...made, walDir: null, sha256, snapshotRevision, liveKeys, alreadyDone: true },
      member: { ...member, initialCluster: formatInitialCluster(member.initialCluster) },
      ...{ durationsMs: { total: 0 }, findings: [] },
    },
  };
}

function bumpOf(options: RestoreOptions, { name, canBump }: RestoreTool, findings: Warnings): number {
  if (options['no-bump'] === true) return 0;
  if (canBump) return BUMP;
  findings.add(
    `${name} cannot raise the revision: what had watched the old cluster must be restarted.`,
    'Restart the API servers, controllers, schedulers, kubelets and everything else that watches the API.',
  );
  return 0;
}

interface Done {
  readonly name: string;
  readonly dataDir: string;
  readonly tool: string;
  readonly member: MemberParameters;
  readonly revision: number;
  readonly next: string;
}

function summaryOf({ name, dataDir, tool, member, revision }: Done): string {
  const what = `Restored ${printable(name)} to ${printable(dataDir)} as member ${printable(member.name)}`;
  return `${what}, at revision ${revision}, by ${printable(tool)}.`;
}

function textOf(done: Done, summary = summaryOf(done)): string {
  const { member, next } = done;
  const names = member.initialCluster.map((other) => printable(other.name)).join(', ');
  return [
    summary,
    `When this is done on all members (${names}), and etcd and the API servers are stopped on all of them:`,
    `  ${next}`,
  ].join('\n');
}

import { join } from 'node:path';
import { UsageError } from '../errors.ts';
import { onDisk, statOf } from '../files.ts';
import { Warnings } from '../log.ts';
import { formatInitialCluster } from '../member.ts';
import { Stopwatch } from '../progress.ts';
import { BUMP, checkVersion, findTool, type RestoreTool, runRestore, versionsOf } from '../restore/etcd-tool.ts';
import { bytesAt, fetchVerified, isResumable } from '../restore/fetch-and-verify.ts';
import { assertNoQuorum } from '../restore/in-use.ts';
import { assertAgrees, namesVoters } from '../restore/initial-members.ts';
import { assertNewCluster, type Marker, markerOf, readMarker, sameParameters, writeMarker } from '../restore/marker.ts';
import { isGivenByHand, memberFor, type MemberParameters } from '../restore/member-parameters.ts';
import {
  type Directories,
  directoriesOf,
  isOneOfSeveral,
  nextStep,
  readRestoreRequest,
  type RestoreOptions,
  type RestoreRequest,
} from '../restore/options.ts';
import { assertPlanned } from '../restore/plan.ts';
import { ensurePlace, ownerFor, Target } from '../restore/target-directory.ts';
import type { SnapshotSource } from '../snapshot/source.ts';
import { humanSeconds, humanSize, printable } from '../text.ts';
import type { Arguments, Context, Outcome } from './command.ts';
import { download } from './download-file.ts';
import { showPlan } from './show-plan.ts';
import { openNamedOrNewest } from './snapshot-operand.ts';
import { swap } from './swap.ts';

/**
 * Creates the data directory of one member from a snapshot. Everything that can be checked is checked before anything is
 * written, the snapshot is verified while it is downloaded, etcd's own tool restores it, and the directory appears in one step.
 * Old data is not touched; `--swap` replaces it when all members are stopped.
 */
export async function restore(context: Context, args: Arguments): Promise<Outcome> {
  if (args.options['download'] !== undefined) return download(context, args);
  if (args.options['plan'] === true) return showPlan(context, args);
  if (args.options['swap'] === true) return swap(context, args);
  const { config, log, signal } = context;
  const options = args.options as RestoreOptions;
  const watch = new Stopwatch();
  const warnings = new Warnings(log);

  const request = await readRestoreRequest(options);
  const directories = directoriesOf(options, request);
  const planned = await doneByPlan(request, directories);
  if (planned !== undefined) return planned;
  const tool = await findTool(context.searchPath, signal);
  if (options.force !== true) await watch.time('quorum', assertNoQuorum(config.etcd, warnings));
  const source = await chooseSource(context, args, request);
  const { name, size, record, skipHashCheck } = source;
  if (record !== undefined && request.plan !== undefined) assertPlanned(request.plan, name, record.sha256);
  const recordWarning = record && checkVersion(tool, versionsOf(record));
  const isKnown = record !== undefined && (isGivenByHand(request) || namesVoters(record));
  const early = isKnown ? memberFor(request, record) : undefined;
  const bump = bumpOf(options, tool, warnings);
  const done = early && (await doneBefore(source, early.member, bump, directories));
  if (done !== undefined) return done;
  for (const warning of directories.warnings) warnings.add(warning);
  await ensurePlace(directories);
  const owner = await ownerFor(directories, options['owner-from']);
  const target = await Target.prepare(directories.dataDir, directories.walDir, signal);
  for (const warning of target.warnings) warnings.add(warning, 'Make sure that etcd is stopped there.');
  try {
    await target.assertSpace(size - (await bytesAt(source, target.work)), size);

    const { file, facts, warning: unchecked } = await watch.time('fetch', fetchVerified(source, target.work, context));
    if (request.plan !== undefined) assertPlanned(request.plan, name, facts.sha256);
    if (isKnown && !isGivenByHand(request)) assertAgrees(record, facts);
    const versionWarning = record === undefined ? checkVersion(tool, versionsOf(facts)) : recordWarning;
    if (versionWarning !== undefined) warnings.add(versionWarning);
    const { member, warnings: ofMember } = early ?? memberFor(request, facts);
    for (const warning of ofMember) warnings.add(warning);
    if (unchecked !== undefined) warnings.add(...unchecked);

    const { freshDataDir, freshWalDir: walDirToMake } = target;
    const run = { file, size, skipHashCheck, member, dataDir: freshDataDir, walDir: walDirToMake, bump };
    await watch.time('restore', runRestore(tool, run, context));
    // The tool read the file itself: this proves that it read what was verified.
    await source.assertUnchanged();
    await assertNewCluster(walDirToMake ?? join(freshDataDir, 'member/wal'), directories.oldWals);
    const marker = markerOf(source, facts, member, { plan: request.plan?.digest ?? null, tool: tool.name, bump });
    await onDisk(`Writing ${freshDataDir}`, writeMarker(freshDataDir, marker));
    await watch.time('place', target.place(owner));
    const { dataDir, walDir = null } = target;
    log.info('data directory restored', { dataDir, tool: tool.name, member: member.name });

    const durationsMs = watch.durations();
    const next = nextStep(directories);
    const took = `${humanSize(size)} in ${humanSeconds(durationsMs.total)}`;
    return outcomeOf(marker, { dataDir, walDir, next, took, durationsMs, findings: warnings.sentences });
  } catch (error) {
    await target.abandon(isResumable(error));
    throw error;
  }
}

/** The named snapshot, the plan's, or the newest; but members that choose on their own could choose different ones. */
async function chooseSource(context: Context, args: Arguments, request: RestoreRequest): Promise<SnapshotSource> {
  const name = args.operands[0] ?? request.plan?.snapshot.name;
  if (name !== undefined || !isOneOfSeveral(request)) return openNamedOrNewest(context, name, args.options);
  throw new UsageError(
    'No snapshot given, and all members must be restored from the same one.',
    'Name one that `etcd-snapshot list` shows, or create a plan: etcd-snapshot restore --plan',
  );
}

/** What an earlier run with the same plan restored, whether it was swapped in since or not. */
async function doneByPlan(
  { plan, name, config }: RestoreRequest,
  directories: Directories,
): Promise<Outcome | undefined> {
  if (plan === undefined) return undefined;
  const isOurs = ({ plan: digest, member }: Marker): boolean =>
    digest === plan.digest && member.name === (name ?? config?.name);
  const waiting = await waitingIn(directories);
  if (waiting !== undefined && isOurs(waiting)) return earlier(waiting, directories, nextStep(directories));
  const { dataDir, place } = directories;
  const swapped = place === undefined || place === dataDir ? undefined : await readMarker(place);
  if (place === undefined || swapped === undefined || !isOurs(swapped.marker)) return undefined;
  const next = 'start etcd; to restore again create a new plan';
  return earlier(swapped.marker, { dataDir: place, walDir: undefined }, next);
}

/** What an earlier run restored from the same snapshot with the same parameters. */
async function doneBefore(
  { record }: SnapshotSource,
  member: MemberParameters,
  bump: number,
  directories: Directories,
): Promise<Outcome | undefined> {
  const marker = await waitingIn(directories);
  if (marker === undefined || record === undefined) return undefined;
  const isSame = marker.snapshot.sha256 === record.sha256 && marker.revision === marker.snapshot.revision + bump;
  if (!isSame || !sameParameters(member, marker.member)) return undefined;
  return earlier(marker, directories, nextStep(directories));
}

/** Of restored data in the target that no etcd has used yet, and that has a separate WAL directory if one is given. */
async function waitingIn({ dataDir, walDir }: Directories): Promise<Marker | undefined> {
  const found = await readMarker(dataDir);
  if (found === undefined || found.isUsed) return undefined;
  const hasOwnWal = (await statOf(join(dataDir, 'member/wal'))) !== undefined;
  return hasOwnWal === (walDir === undefined) ? found.marker : undefined;
}

function bumpOf(options: RestoreOptions, { name, canBump }: RestoreTool, warnings: Warnings): number {
  if (options['no-bump'] === true) return 0;
  if (canBump) return BUMP;
  warnings.add(
    `${name} cannot raise the revision: restart everything that watched the old cluster.`,
    'Restart the API servers, controllers, schedulers, kubelets and everything else that watches the API.',
  );
  return 0;
}

function earlier(
  marker: Marker,
  { dataDir, walDir = null }: { readonly dataDir: string; readonly walDir?: string | null | undefined },
  next: string,
): Outcome {
  const done = { dataDir, next, walDir, took: undefined, durationsMs: { total: 0 }, findings: [] };
  return outcomeOf(marker, done);
}

interface Done {
  readonly dataDir: string;
  readonly walDir: string | null;
  readonly next: string;
  /** Size and duration in words; undefined = an earlier run did it. */
  readonly took: string | undefined;
  readonly durationsMs: Readonly<Record<string, number>>;
  readonly findings: readonly string[];
}

function outcomeOf({ snapshot, member, tool, revision }: Marker, { took, ...done }: Done): Outcome {
  const { name, sha256, revision: snapshotRevision, liveKeys } = snapshot;
  const alreadyDone = took === undefined;
  const what = `Restored ${printable(name)} to ${printable(done.dataDir)} as member ${printable(member.name)}`;
  const how = `at revision ${revision}, by ${printable(tool)}${alreadyDone ? '' : ` (${took})`}`;
  const summary = `${alreadyDone ? 'Already done: ' : ''}${what}, ${how}.`;
  const members = member.initialCluster.map((other) => printable(other.name)).join(', ');
  return {
    text: [
      `When all members (${members}) are restored, and etcd and the API servers are stopped on all of them:`,
      `  ${done.next}`,
      summary,
    ].join('\n'),
    summary,
    json: {
      ...{ name, dataDir: done.dataDir, tool, revision, next: done.next, walDir: done.walDir },
      ...{ sha256, snapshotRevision, liveKeys, alreadyDone },
      member: { ...member, initialCluster: formatInitialCluster(member.initialCluster) },
      ...{ durationsMs: done.durationsMs, findings: done.findings },
    },
  };
}

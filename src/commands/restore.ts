import { join } from 'node:path';
import { ExitCode, UsageError, WorkerError } from '../errors.ts';
import { onDisk, statOf } from '../files.ts';
import { Warnings } from '../log.ts';
import { formatInitialCluster } from '../member.ts';
import { Stopwatch } from '../progress.ts';
import { BUMP, checkVersion, findTool, type RestoreTool, runRestore, versionsOf } from '../restore/etcd-tool.ts';
import { bytesAt, fetchVerified, keepsDownload } from '../restore/fetch-and-verify.ts';
import { assertNoQuorum } from '../restore/in-use.ts';
import { assertAgrees, namesVoters } from '../restore/initial-members.ts';
import { assertNewCluster, type Marker, markerOf, readMarker, sameParameters, writeMarker } from '../restore/marker.ts';
import { assertPlanned } from '../restore/plan.ts';
import {
  type Directories,
  directoriesOf,
  isGivenByHand,
  isOneOfSeveral,
  memberFor,
  type MemberParameters,
  nextStep,
  readRestoreRequest,
  type RestoreOptions,
  type RestoreRequest,
} from '../restore/restore-request.ts';
import { ensurePlace, ownerFor, Target } from '../restore/target-directory.ts';
import type { SnapshotSource } from '../snapshot/source.ts';
import { assertReadable } from '../snapshot/stored-form.ts';
import { humanSeconds, humanSize, paragraph, printable } from '../text.ts';
import type { Arguments, Context, Outcome } from './command.ts';
import { download } from './download-file.ts';
import { assertSecretsReadable, findKnownKeys } from './known-keys.ts';
import { showPlan } from './show-plan.ts';
import { openNamedOrNewest } from './snapshot-operand.ts';
import { swap } from './swap.ts';

/** Restores, or plans a restore; where the first place fails, the hint names the second. */
export async function restore(context: Context, args: Arguments): Promise<Outcome> {
  try {
    return await restoreMember(context, args);
  } catch (error) {
    if (!context.config.hasCopy || !(error instanceof WorkerError) || !OF_THE_PLACE.has(error.exitCode)) throw error;
    const hint = `${error.hint} To use the second place, add --from-copy.`;
    throw new WorkerError(error.exitCode, error.message, hint, error);
  }
}

/** What ends a restore where storage fails, or the snapshot is missing or corrupt there. */
const OF_THE_PLACE: ReadonlySet<number> = new Set([ExitCode.storage, ExitCode.verification, ExitCode.noSuchSnapshot]);

/**
 * Creates the data directory of one member from a snapshot. Everything that can be checked is checked before anything is written,
 * etcd's own tool restores, and the directory appears in one step. Old data is not touched; `--swap` replaces it.
 */
async function restoreMember(context: Context, args: Arguments): Promise<Outcome> {
  assertCompares(args.options);
  assertChosenOnce(args.options);
  if (args.options['download'] !== undefined) return download(context, args);
  assertCombined(args.options);
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
  assertReadable(name, source.stored);
  const known = await findKnownKeys(context, source, args.options, warnings);
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
  const target = await Target.prepare(directories, warnings, signal);
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
    if (known !== undefined) await assertSecretsReadable(context, known, { file, facts }, warnings);

    const { freshDataDir, freshWalDir } = target;
    const work = { file, size, skipHashCheck, member, dataDir: freshDataDir, walDir: freshWalDir, bump };
    await watch.time('restore', runRestore(tool, work, context));
    // The tool read the file itself: this proves that it read what was verified.
    await source.assertUnchanged();
    await assertNewCluster(freshWalDir ?? join(freshDataDir, 'member/wal'), directories.oldWals);
    const marker = markerOf(source, facts, member, { plan: request.plan?.digest ?? null, tool: tool.name, bump });
    await onDisk(`Writing ${freshDataDir}`, writeMarker(freshDataDir, marker));
    await watch.time('place', target.place(owner));
    log.info('data directory restored', { dataDir: directories.dataDir, tool: tool.name, member: member.name });
    const run = { size, durationsMs: watch.durations(), findings: warnings.sentences };
    return outcomeOf(marker, { ...directories, next: nextStep(directories) }, run);
  } catch (error) {
    await target.abandon(await keepsDownload(error, source, target.work, log));
    throw error;
  }
}

/** Keys are compared where data is restored. @throws UsageError */
function assertCompares(options: Arguments['options']): void {
  const other = ['download', 'plan', 'swap'].find((option) => (options[option] ?? false) !== false);
  if (options['encryption-config'] === undefined || other === undefined) return;
  throw new UsageError(
    `--encryption-config is not used with --${other}.`,
    'Give it where a member is restored, or use it with drill.',
  );
}

/** A plan names its snapshot. @throws UsageError */
function assertChosenOnce(options: Arguments['options']): void {
  if (options['taken-before'] === undefined || options['from-plan'] === undefined) return;
  throw new UsageError(
    '--taken-before cannot be combined with --from-plan, which names a snapshot.',
    'Omit --taken-before, or create a new plan with --plan and --taken-before.',
  );
}

/** Options that have a meaning only together with another one. */
const NEEDS: Readonly<Record<string, string>> = {
  layout: 'plan',
  output: 'plan',
  restored: 'swap',
  open: 'download',
};

/** An option that is ignored could have been meant to prevent a restore. @throws UsageError */
function assertCombined(options: Arguments['options']): void {
  const isGiven = (option: string): boolean => options[option] !== undefined && options[option] !== false;
  if (isGiven('plan') && isGiven('swap')) {
    throw new UsageError('--plan cannot be combined with --swap.', 'Give only one of them.');
  }
  const alone = Object.entries(NEEDS).find(([option, needed]) => isGiven(option) && !isGiven(needed));
  if (alone === undefined) return;
  const [option, needed] = alone;
  throw new UsageError(`--${option} is used only with --${needed}.`, `Add --${needed}, or omit --${option}.`);
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
  if (waiting !== undefined && isOurs(waiting)) {
    return outcomeOf(waiting, { ...directories, next: nextStep(directories) });
  }
  const { dataDir, place } = directories;
  const swapped = place === undefined || place === dataDir ? undefined : await readMarker(place);
  if (place === undefined || swapped === undefined || !isOurs(swapped.marker)) return undefined;
  const next = 'start etcd; to restore again create a new plan';
  return outcomeOf(swapped.marker, { dataDir: place, walDir: undefined, next });
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
  return outcomeOf(marker, { ...directories, next: nextStep(directories) });
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

interface Place extends Pick<Directories, 'dataDir' | 'walDir'> {
  readonly next: string;
}

interface Run {
  /** Bytes. */
  readonly size: number;
  readonly durationsMs: Readonly<Record<string, number>> & { readonly total: number };
  readonly findings: readonly string[];
}

/** @param run undefined = an earlier run did it */
function outcomeOf({ snapshot, member, tool, revision }: Marker, place: Place, run?: Run): Outcome {
  const { dataDir, walDir = null, next } = place;
  const { name, sha256, revision: snapshotRevision, liveKeys } = snapshot;
  const alreadyDone = run === undefined;
  const { durationsMs = { total: 0 }, findings = [] } = run ?? {};
  const took = alreadyDone ? '' : ` (${humanSize(run.size)} in ${humanSeconds(durationsMs.total)})`;
  const what = `Restored ${printable(name)} to ${printable(dataDir)} as member ${printable(member.name)}`;
  const how = `at revision ${revision}, by ${printable(tool)}${took}`;
  const summary = `${alreadyDone ? 'Already done: ' : ''}${what}, ${how}.`;
  const members = member.initialCluster.map((other) => printable(other.name)).join(', ');
  return {
    text: [
      paragraph(`When all members (${members}) are restored, and etcd and the API servers are stopped on all of them:`),
      `  ${next}`,
      paragraph(summary),
    ].join('\n'),
    summary,
    json: {
      ...{ name, dataDir, tool, revision, next, walDir, sha256, snapshotRevision, liveKeys, alreadyDone },
      member: { ...member, initialCluster: formatInitialCluster(member.initialCluster) },
      ...{ durationsMs, findings },
    },
  };
}

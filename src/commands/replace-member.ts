import { setTimeout as sleep } from 'node:timers/promises';
import { EtcdError, RunTimeout, StorageError, UnsafeError, UsageError } from '../errors.ts';
import { type ClusterHealth, hasQuorum, quorumInWords, surveyCluster } from '../etcd/cluster-health.ts';
import { connectAll, type Connections } from '../etcd/connection.ts';
import { inferLayout, LAYOUTS, namedLayout } from '../installer-layouts.ts';
import { Warnings } from '../log.ts';
import { title } from '../member.ts';
import { noProgress } from '../progress.ts';
import {
  isReplacement,
  readReplacement,
  type Replacement,
  type Settings,
  settingsInWords,
  settingsOf,
} from '../replace/replacement.ts';
import {
  bestConnection,
  describeSteps,
  failedMember,
  isId,
  looksRemoved,
  makeChange,
  nextStep,
  removedMembers,
  type Step,
} from '../replace/steps.ts';
import { newestFirst } from '../snapshot/inventory.ts';
import type { RecordedMember } from '../snapshot/record.ts';
import { afterColon, printable } from '../text.ts';
import { backup } from './backup.ts';
import { type Arguments, type Context, openStore, type Outcome } from './command.ts';

/** Age up to which the backup of an earlier run is not repeated. */
const RECENT_MS = 30 * 60_000;

/** How long etcd can take to be ready for a step, without --wait. */
const STEP_TIMEOUT_MS = 60_000;

const PAUSE_MS = 1_000;

/** The next step, and what it was derived from. */
interface Next {
  readonly step: Step;
  readonly cluster: ClusterHealth;
  /** Of the replacement's etcd after the step. */
  readonly settings: Settings;
}

/** What was done, by this run or an earlier one. */
interface Done {
  /** Name of the snapshot that was taken before the first change. */
  backup: string | null;
  /** After an interruption, only what the command line gives is known: id or name. */
  removed: { readonly id: string | null; readonly name: string | null } | null;
  /** Steps that were confirmed or logged. */
  readonly announced: Set<Step['kind']>;
}

/**
 * Replaces a failed member: backup, removal, addition, promotion, each only after a survey of the cluster that finds it safe.
 * The next step depends on the cluster only, so the same command continues where an earlier run ended.
 */
export async function replaceMember(context: Context, { operands, options }: Arguments): Promise<Outcome> {
  const { config, log, signal, startProgress } = context;
  const replacement = readReplacement(operands[0] ?? '', options, await dataParent(context, options['layout']));
  const connections = await connectAll(config.etcd, new Date(), new Warnings(log));
  const waits = options['wait'] === true;
  const deadline = new Deadline(signal, waits ? Infinity : STEP_TIMEOUT_MS);
  const done: Done = { backup: null, removed: null, announced: new Set() };
  const survey = async (): Promise<Omit<Next, 'settings'>> => {
    const cluster = await surveyCluster(connections);
    done.removed ??= await removedBefore(context, cluster, replacement, connections);
    return { cluster, step: nextStep(cluster, replacement, done.removed !== null) };
  };
  let waiting = { what: '', progress: noProgress('') };
  const wait = async (what: string, why: UnsafeError): Promise<void> => {
    if (what !== waiting.what) waiting = { what, progress: startProgress(what) };
    waiting.progress.advance(0);
    await deadline.pause(why);
  };
  for (;;) {
    deadline.assertTime();
    const found = await survey().catch(async (error: unknown) => deadline.retryOrThrow(error));
    if (found === undefined) continue;
    const { cluster, step } = found;
    const rest = cluster.members.filter((member) => step.kind !== 'remove' || member !== step.member);
    // Throws for settings that cannot be written, before anything is changed.
    const settings = settingsOf(replacement, rest);
    const next = { cluster, step, settings };
    const [words = ''] = describeSteps(step, cluster, replacement);
    if (step.kind !== 'start' && step.kind !== 'catch up') waiting.progress.end();
    if (options['dry-run'] === true) return dryRun(next, replacement, context, options);
    if (step.kind === 'done' || (step.kind === 'start' && !waits)) return result(step, next, replacement, done);
    if (step.kind === 'start' || step.kind === 'catch up') {
      if (!done.announced.has(step.kind)) log.info(`next: ${words}`, settings);
      done.announced.add(step.kind);
      const { health, errors } = step.member;
      const why = unfinished(`member ${title(step.member)} is ${health}: ${afterColon(errors.join(' '))}`);
      await wait(`waiting for ${replacement.name} to ${step.kind}`, why);
      continue;
    }
    // The cluster can have changed during a backup or a question: survey it again.
    if (await prepare(context, words, next, replacement, done, options)) continue;
    const refusal = await makeChange(step, cluster, replacement, connections);
    if (refusal === undefined) {
      log.info(`done: ${words}`);
      if (step.kind === 'remove') done.removed = { id: step.member.id, name: step.member.name };
      deadline.renew();
    } else await wait(`waiting to ${words}`, unfinished(refusal.message));
  }
}

/** Limits how long the loop waits for the cluster to be ready for the next step. */
export class Deadline {
  readonly #signal: AbortSignal;
  readonly #limitMs: number;
  #since: number | undefined;

  constructor(signal: AbortSignal, limitMs: number) {
    this.#signal = signal;
    this.#limitMs = limitMs;
  }

  /** Call after a step: the time for the next one begins. */
  renew(): void {
    this.#since = performance.now();
  }

  /** @throws `why` when the time is over */
  async pause(why: unknown): Promise<void> {
    this.#since ??= performance.now();
    if (performance.now() - this.#since > this.#limitMs) throw why;
    // An abort ends the pause; assertTime throws it.
    await sleep(PAUSE_MS, undefined, { signal: this.#signal }).catch(() => {});
  }

  /** Pauses after an error that can pass, such as that of an election, if a step was done or awaited before it. */
  async retryOrThrow(error: unknown): Promise<undefined> {
    const canPass = error instanceof UnsafeError || error instanceof EtcdError;
    if (this.#since === undefined || !canPass) throw error;
    await this.pause(error);
    return undefined;
  }

  /** @throws UnsafeError after SNAPSHOT_TIMEOUT; the signal's error when one came */
  assertTime(): void {
    if (this.#signal.reason instanceof RunTimeout) throw unfinished(`${this.#signal.reason.message}.`);
    this.#signal.throwIfAborted();
  }
}

/** @param why a sentence */
function unfinished(why: string): UnsafeError {
  return new UnsafeError(
    `The replacement is not finished: ${afterColon(why)}`,
    'Run the same command again: it continues from here.',
  );
}

/** The failed member if an earlier run removed it; null while it is in the cluster, and where it never was. */
async function removedBefore(
  { memoryBudget, signal }: Context,
  cluster: ClusterHealth,
  replacement: Replacement,
  connections: Connections,
): Promise<Done['removed']> {
  const { failed } = replacement;
  if (failedMember(cluster, failed) !== undefined || !hasQuorum(cluster.quorum)) return null;
  if (!cluster.members.some((member) => isReplacement(member, replacement))) {
    const connection = bestConnection(cluster, connections);
    const removedIds = async (): Promise<readonly string[]> => removedMembers(connection, memoryBudget, signal);
    if (!(await looksRemoved(cluster, failed, removedIds))) return null;
  }
  return isId(failed) ? { id: failed, name: null } : { id: null, name: failed };
}

/**
 * Takes a backup before the first change, and asks for confirmation of each. @returns whether that took time
 * @throws UsageError where a backup or confirmation is impossible, or the answer is no
 */
async function prepare(
  context: Context,
  words: string,
  { step: { kind }, cluster }: Next,
  replacement: Replacement,
  done: Done,
  options: Arguments['options'],
): Promise<boolean> {
  const { config, confirm, log, signal } = context;
  const isConfirmed = options['yes'] === true || done.announced.has(kind);
  if (!isConfirmed && confirm === undefined) {
    throw new UsageError(
      `Confirmation is required, but stdin is not a terminal: ${words}.`,
      'Check the steps with --dry-run, and confirm all with --yes. Nothing more was changed.',
    );
  }
  if (done.backup === null && options['no-backup'] !== true) {
    if (config.storage === undefined) {
      throw new UsageError(
        'A backup is required before the members are changed, but no storage is configured.',
        'Set SNAPSHOT_AZURE_ACCOUNT_NAME, _ACCOUNT_KEY and _CONTAINER_NAME (docs/configuration.md), or give --no-backup.',
      );
    }
    const recent = await recentBackup(context, cluster, replacement);
    if (recent !== undefined) {
      const { name, takenAt } = recent;
      log.info('using the backup of an earlier run', { name, takenAt });
      done.backup = name;
      return true;
    }
    const { name, partialFailure } = await backup(context);
    done.backup = name;
    if (partialFailure !== undefined) log.warn(partialFailure.message, { hint: partialFailure.hint });
    return true;
  }
  if (isConfirmed) return false;
  if ((await confirm?.(`Next: ${words}. Continue?`)) === true) done.announced.add(kind);
  else if (!signal.aborted) {
    throw new UsageError(
      'Step not confirmed: nothing more was changed.',
      'Run the command again to continue from here.',
    );
  }
  return true;
}

/**
 * The newest snapshot of this cluster, if an earlier run of this replacement can have taken it: it is recent, and has the failed
 * or the new member. Undefined also where the container cannot be listed: the backup that follows reports that.
 */
async function recentBackup(
  context: Context,
  { clusterId }: ClusterHealth,
  replacement: Replacement,
): Promise<{ readonly name: string; readonly takenAt: Date } | undefined> {
  const isOfThis = (member: RecordedMember): boolean =>
    [member.id, member.name].includes(replacement.failed) || isReplacement(member, replacement);
  try {
    const now = new Date();
    const snapshots = newestFirst(await (await openStore(context)).list(), now);
    const newest = snapshots.find(({ record }) => record.clusterId === clusterId);
    if (newest === undefined || !newest.record.members.some(isOfThis)) return undefined;
    const { name, record } = newest;
    return now.getTime() - record.takenAt.getTime() < RECENT_MS ? { name, takenAt: record.takenAt } : undefined;
  } catch (error) {
    if (error instanceof StorageError) return undefined;
    throw error;
  }
}

/** Where the installer has data directories; undefined where the layout is unknown, or another program manages the members. */
async function dataParent({ config }: Context, named: unknown): Promise<string | undefined> {
  try {
    const layout = typeof named === 'string' ? namedLayout(named) : (await inferLayout(config.etcd?.tls)).layout;
    const { restoresItself, dataDir } = LAYOUTS[layout];
    return restoresItself ? undefined : dataDir;
  } catch (error) {
    if (typeof named !== 'string' && error instanceof UsageError) return undefined;
    throw error;
  }
}

/** The result of --dry-run. */
function dryRun(
  { step, cluster, settings }: Next,
  replacement: Replacement,
  { config }: Context,
  options: Arguments['options'],
): Outcome {
  const isChange = step.kind === 'remove' || step.kind === 'add' || step.kind === 'promote';
  const storage = config.storage === undefined ? ' (configure storage for it, or give --no-backup)' : '';
  const backsUp = isChange && options['no-backup'] !== true;
  const first = backsUp ? [`take a backup, verified and read back${storage}`] : [];
  const steps = [...first, ...describeSteps(step, cluster, replacement)];
  const list = steps.map((words, index) => `${index + 1}. ${printable(words)}`);
  return {
    text: ['Steps:', ...list, '', settingsInWords(settings), '', 'Dry run: nothing was changed.'].join('\n'),
    json: { dryRun: true, next: step.kind, steps, removed: null, added: null, settings },
  };
}

/** What was done, and what is left. */
function result(
  step: Exclude<Step, { readonly kind: 'add' }>,
  { cluster, settings }: Next,
  { name, peerURLs }: Replacement,
  done: Done,
): Outcome {
  const { id } = step.member;
  const summary = quorumInWords(cluster.quorum);
  const lines =
    step.kind === 'start'
      ? [
          settingsInWords(settings),
          '',
          'Start etcd there, and run the same command again: it continues until the member is healthy and has a vote.',
          `Member ${name} (${id}) was added and has not started yet: ${summary}.`,
        ]
      : [
          ...staleAlarms(cluster),
          'If its address is new, add it to --etcd-servers of the API servers, load balancers and SNAPSHOT_ETCD_ENDPOINTS.',
          `Member ${name} (${id}) is healthy and has a vote: ${summary}.`,
        ];
  return {
    text: lines.join('\n'),
    summary: lines.at(-1) ?? '',
    json: {
      ...{ state: step.kind, summary, backup: done.backup, removed: done.removed },
      ...{ added: { id, name, peerURLs }, settings },
    },
  };
}

function staleAlarms({ members, alarms }: ClusterHealth): string[] {
  const gone = alarms.filter(({ memberId }) => !members.some(({ id }) => id === memberId));
  return gone.map(({ memberId, alarm }) =>
    printable(
      `The alarm ${alarm} of the removed member ${memberId} is still set. To clear it, run: etcdctl alarm disarm`,
    ),
  );
}

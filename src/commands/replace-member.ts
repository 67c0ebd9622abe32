import { StorageError, UsageError } from '../errors.ts';
import { connectAll, type Connections } from '../etcd/connection.ts';
import { type ClusterHealth, surveyCluster } from '../etcd/cluster-health.ts';
import { hasQuorum, quorumInWords } from '../etcd/quorum.ts';
import { Warnings } from '../log.ts';
import { title } from '../member.ts';
import { Deadline, unfinished } from '../replace/deadline.ts';
import { plan, readReplacement, removedMembers, type Replacement } from '../replace/replacement.ts';
import { type Settings, settingsInWords, settingsOf } from '../replace/settings.ts';
import {
  bestConnection,
  failedMember,
  isId,
  isReplacement,
  looksRemoved,
  makeChange,
  nextStep,
  type Step,
} from '../replace/steps.ts';
import { factsOf, inferLayout, type Layout, namedLayout } from '../layouts.ts';
import { newestFirst } from '../snapshot/inventory.ts';
import type { RecordedMember } from '../snapshot/record.ts';
import { printable } from '../text.ts';
import { backup } from './backup.ts';
import { type Arguments, type Context, openStore, type Outcome } from './command.ts';

/** For so long the backup of an earlier run need not be repeated. */
const RECENT_MS = 30 * 60_000;

/** How long etcd may take to be ready for a step, where nobody asked to wait. */
const PATIENCE_MS = 60_000;

/** What is to be done next, and what it follows from. */
interface Next {
  readonly step: Step;
  readonly cluster: ClusterHealth;
  readonly replacement: Replacement;
}

/** What has been done, by this run or before. */
interface Done {
  /** Name of the snapshot that was taken before the first change. */
  backup: string | null;
  /** Null where a run that goes on knows only how the command line names the member. */
  removed: { readonly id: string | null; readonly name: string | null } | null;
  /** The steps that were agreed to, or of which the log has told. */
  readonly told: Set<Step['kind']>;
}

/**
 * Replaces a failed member: backup, removal, addition, promotion, each only after a look at the cluster that finds it safe.
 * What is to be done next is told from the cluster alone, so the same command goes on where an earlier run ended.
 */
export async function replaceMember(context: Context, { operands, options }: Arguments): Promise<Outcome> {
  const { config, log, signal } = context;
  const replacement = readReplacement(operands[0] ?? '', options, await dataParent(context, options['layout']));
  const connections = await connectAll(config.etcd, new Date(), new Warnings(log));
  const waits = options['wait'] === true;
  const deadline = new Deadline(signal, waits ? Infinity : PATIENCE_MS);
  const done: Done = { backup: null, removed: null, told: new Set() };
  const look = async (): Promise<{ cluster: ClusterHealth; step: Step }> => {
    const cluster = await surveyCluster(connections);
    done.removed ??= await removedBefore(context, cluster, replacement, connections);
    return { cluster, step: nextStep(cluster, replacement, done.removed !== null) };
  };
  for (;;) {
    deadline.assertTime();
    const seen = await look().catch(async (error: unknown) => deadline.retryOrThrow(error));
    if (seen === undefined) continue;
    const { cluster, step } = seen;
    // They may be impossible, and must be known to be possible before anything is changed.
    settingsAfter(step, cluster, replacement);
    const [words = ''] = plan(step, cluster, replacement);
    if (options['dry-run'] === true) return intention(step, cluster, replacement, context, options);
    if (step.kind === 'done' || (step.kind === 'start' && !waits)) return result(step, cluster, replacement, done);
    if (step.kind === 'start' || step.kind === 'catch up') {
      if (!done.told.has(step.kind)) log.info(`next: ${words}`, settingsOf(replacement, cluster.members));
      done.told.add(step.kind);
      const { health, errors } = step.member;
      await deadline.pause(unfinished(`member ${title(step.member)} is ${health}: ${errors.join(' ')}`));
      continue;
    }
    // While a backup was taken or a person was thinking the cluster may have changed, so it is looked at again.
    if (await prepare(context, words, { step, cluster, replacement }, done, options)) continue;
    const refusal = await makeChange(step, cluster, replacement, connections);
    if (refusal === undefined) {
      log.info(`done: ${words}`);
      if (step.kind === 'remove') done.removed = { id: step.member.id, name: step.member.name };
      deadline.renew();
    } else await deadline.pause(unfinished(refusal.message));
  }
}

/** The failed member as an earlier run removed it; null while it is there, and for a member that never was. */
async function removedBefore(
  { memoryBudget, signal }: Context,
  cluster: ClusterHealth,
  replacement: Replacement,
  connections: Connections,
): Promise<Done['removed']> {
  const { failed } = replacement;
  if (failedMember(cluster, failed) !== undefined || !hasQuorum(cluster.quorum)) return null;
  const isAdded = cluster.members.some((member) => isReplacement(member, replacement));
  const connection = bestConnection(cluster, connections);
  if (!isAdded && !looksRemoved(cluster, failed, await removedMembers(connection, memoryBudget, signal))) return null;
  return isId(failed) ? { id: failed, name: null } : { id: null, name: failed };
}

/**
 * Backs up before the first change, and asks before each.
 * @returns whether that took time
 * @throws UsageError where the one or the other is not possible, or the answer is no
 */
async function prepare(
  context: Context,
  words: string,
  { step: { kind }, cluster, replacement }: Next,
  done: Done,
  options: Arguments['options'],
): Promise<boolean> {
  const { config, confirm, log, signal } = context;
  const isAgreed = options['yes'] === true || done.told.has(kind);
  if (!isAgreed && confirm === undefined) {
    throw new UsageError(
      `There is no terminal to ask at before this: ${words}.`,
      'Look at the steps with --dry-run; --yes agrees to them. Nothing more was changed.',
    );
  }
  if (done.backup === null && options['no-backup'] !== true) {
    if (config.storage === undefined) {
      throw new UsageError(
        'A change of the members wants a fresh backup first, and no storage is configured.',
        'Set SNAPSHOT_AZURE_ACCOUNT_NAME, _ACCOUNT_KEY and _CONTAINER_NAME (docs/configuration.md), or say --no-backup.',
      );
    }
    const recent = await recentBackup(context, cluster, replacement);
    if (recent !== undefined) {
      const { name, takenAt } = recent;
      log.info('the backup of an earlier run of this replacement is recent enough', { name, takenAt });
      done.backup = name;
      return true;
    }
    const { json, partialFailure } = await backup(context);
    done.backup = (json as { name: string }).name;
    if (partialFailure !== undefined) log.warn(partialFailure.message, { hint: partialFailure.hint });
    return true;
  }
  if (isAgreed) return false;
  if ((await confirm?.(`Next: ${words}. Do it?`)) === true) done.told.add(kind);
  else if (!signal.aborted) {
    throw new UsageError('The step was not agreed to: nothing more was changed.', 'Run again to go on from here.');
  }
  return true;
}

/**
 * The newest snapshot of this cluster, if a run of this replacement can have taken it a short time ago: it has the failed member
 * or the new one. Undefined also where the container cannot be listed or is not there yet: the backup that follows tells of it.
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

/** Where the new member's data directory is to be, as the installer has it; etcd's own place where none is recognised. */
async function dataParent({ config }: Context, layout: unknown): Promise<string | undefined> {
  if (typeof layout === 'string') return placeOf(namedLayout(layout));
  try {
    return placeOf((await inferLayout(config.etcd?.tls)).layout);
  } catch (error) {
    if (error instanceof UsageError) return undefined;
    throw error;
  }
}

/** Undefined where another program keeps the members. */
function placeOf(layout: Layout): string | undefined {
  const { restoresItself, dataDir } = factsOf(layout);
  return restoresItself ? undefined : dataDir;
}

/** The settings of the replacement once a step is done. */
function settingsAfter(step: Step, { members }: ClusterHealth, replacement: Replacement): Settings {
  const failed = step.kind === 'remove' ? step.member : undefined;
  return settingsOf(
    replacement,
    members.filter((member) => member !== failed),
  );
}

/** What would be done. */
function intention(
  step: Step,
  cluster: ClusterHealth,
  replacement: Replacement,
  { config }: Context,
  options: Arguments['options'],
): Outcome {
  const isChange = step.kind === 'remove' || step.kind === 'add' || step.kind === 'promote';
  const storage = config.storage === undefined ? ' (configure storage for it, or say --no-backup)' : '';
  const backsUp = isChange && options['no-backup'] !== true;
  const first = backsUp ? [`take a backup, verified and read back${storage}`] : [];
  const steps = [...first, ...plan(step, cluster, replacement)];
  const settings = settingsAfter(step, cluster, replacement);
  const list = steps.map((words, index) => `${index + 1}. ${printable(words)}`);
  return {
    text: ['Nothing was changed. To be done:', ...list, '', settingsInWords(settings)].join('\n'),
    json: { dryRun: true, next: step.kind, steps, removed: null, added: null, settings },
  };
}

/** What was done, and how it goes on. */
function result(step: Step, cluster: ClusterHealth, replacement: Replacement, done: Done): Outcome {
  const { name, peerURLs } = replacement;
  const settings = settingsOf(replacement, cluster.members);
  const id = step.kind === 'remove' || step.kind === 'add' ? null : step.member.id;
  const summary = quorumInWords(cluster.quorum);
  const lines =
    step.kind === 'start'
      ? [
          `Member ${name} (${id}) is added and has not started yet: ${summary}.`,
          '',
          settingsInWords(settings),
          '',
          'Start etcd there, and run the same command again: it goes on until the member is healthy and has a vote.',
        ]
      : [
          `Member ${name} (${id}) is healthy and has a vote: ${summary}.`,
          'If its address is new: --etcd-servers of the API servers, load balancers and SNAPSHOT_ETCD_ENDPOINTS must name it.',
          ...goneAlarms(cluster),
        ];
  return {
    text: lines.join('\n'),
    json: {
      state: step.kind,
      summary,
      backup: done.backup,
      removed: done.removed,
      added: { id, name, peerURLs },
      settings,
    },
  };
}

function goneAlarms({ members, alarms }: ClusterHealth): string[] {
  const gone = alarms.filter(({ memberId }) => !members.some(({ id }) => id === memberId));
  return gone.map(({ memberId, alarm }) =>
    printable(`The alarm ${alarm} of ${memberId}, which is gone, stays: etcdctl alarm disarm`),
  );
}

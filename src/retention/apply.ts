import { ExitCode, StorageError, WorkerError } from '../errors.ts';
import type { Warnings, Log } from '../log.ts';
import type { StoredBlob } from '../store/catalogue.ts';
import type { BlobStore } from '../store/store.ts';
import type { Decision } from './decide.ts';
import type { RetentionPlan } from './retention-plan.ts';

/** What became of a plan. */
export interface Retention {
  /** `off`: no rule is set; `held`: nothing may be deleted in this run; `planned`: only shown. */
  readonly state: 'applied' | 'off' | 'held' | 'planned' | 'incomplete';
  /** How many snapshots of this cluster are left; null where nobody could count. */
  readonly kept: number | null;
  /** Names of the blobs that were deleted. */
  readonly removed: readonly string[];
  /** What stays and what goes (held or planned: would go), with all reasons. */
  readonly decisions: readonly Decision<StoredBlob>[];
  /** What ended it before everything was deleted. */
  readonly failure?: StorageError;
}

interface RetentionOptions {
  /** Deletes nothing, and only says what would be done. */
  readonly dryRun: boolean;
  readonly findings: Warnings;
  readonly log: Log;
}

/**
 * Deletes what the plan says, unless something is suspicious. What keeps a single blob from going is a finding; the first
 * refusal that concerns them all, such as a missing right, ends it.
 */
export async function applyRetention(
  store: BlobStore,
  plan: RetentionPlan<StoredBlob>,
  { dryRun, findings, log }: RetentionOptions,
): Promise<Retention> {
  const reason = plan.isOff ? 'off' : plan.anomalies.length > 0 ? 'held' : dryRun ? 'planned' : undefined;
  if (reason !== undefined) return { state: reason, kept: plan.own.length, removed: [], decisions: plan.decisions };
  const removed = new Set<StoredBlob>();
  const obstacles = new Map<StoredBlob, string>();
  let failure: StorageError | undefined;
  try {
    for (const { snapshot, reasons } of plan.decisions.filter(({ keep }) => !keep)) {
      const obstacle = await store.remove(snapshot.name, snapshot.etag);
      if (obstacle !== undefined) {
        obstacles.set(snapshot, obstacle);
        continue;
      }
      removed.add(snapshot);
      log.info('a snapshot was deleted', { name: snapshot.name, reasons });
    }
  } catch (error) {
    if (!(error instanceof StorageError)) throw error;
    failure = error;
  }
  reportObstacles([...obstacles.values()], findings);
  return {
    state: failure === undefined ? 'applied' : 'incomplete',
    kept: plan.own.length - removed.size,
    removed: [...removed].map(({ name }) => name),
    decisions: plan.decisions.map((decision) => {
      const { keep, snapshot } = decision;
      if (keep || removed.has(snapshot)) return decision;
      return { snapshot, keep: true, reasons: [obstacles.get(snapshot) ?? 'could not be deleted'] };
    }),
    ...(failure && { failure }),
  };
}

/** @param subject what is incomplete, as the beginning of a sentence */
export function incomplete(subject: string, failure: StorageError): WorkerError {
  const message = `${subject} is incomplete: ${failure.message}`;
  return new WorkerError(ExitCode.retentionIncomplete, message, failure.hint, failure);
}

/** @param subject what is suspicious, as the beginning of a sentence */
export function suspicious(subject: string, anomalies: readonly string[]): WorkerError {
  return new WorkerError(
    ExitCode.retentionIncomplete,
    `${subject} suspicious: ${anomalies.join('; ')}. Nothing was deleted.`,
    'Find out whether that was meant. The next run compares with this snapshot.',
  );
}

/** What is there and counts for nothing: a clock was wrong, or somebody copied, changed or forged metadata. */
export function warnAboutCatalogue({ futureDated, malformed }: RetentionPlan<StoredBlob>, findings: Warnings): void {
  const [ahead] = futureDated;
  if (ahead !== undefined) {
    findings.add(
      `Dated in the future, and so kept and counted for no rule: ${futureDated.length}, such as ${ahead.name}.`,
      'Check the clocks of the hosts that take snapshots; delete these by hand when they are of no use.',
    );
  }
  const [wrong] = malformed;
  if (wrong !== undefined) {
    findings.add(
      `Not counted as snapshots, and left as they are: ${malformed.length}, such as ${wrong.name}: ${wrong.problem}.`,
      'Find out who copied or changed them; `etcd-snapshot list` shows the reason for each.',
    );
  }
}

function reportObstacles(obstacles: readonly string[], findings: Warnings): void {
  for (const [obstacle, { length }] of Map.groupBy(obstacles, (text) => text)) {
    const sentence = `Of the snapshots that no rule keeps, ${length} could not be deleted: ${obstacle}.`;
    findings.add(sentence, 'The next run tries again.');
  }
}

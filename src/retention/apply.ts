import { ExitCode, StorageError, WorkerError } from '../errors.ts';
import type { Log, Warnings } from '../log.ts';
import { isOrphan, isUntrusted, laterThan, withoutTheirBundle } from '../snapshot/inventory.ts';
import { type KeptOf, keptText } from '../snapshot/marks.ts';
import type { StoredBlob } from '../store/catalogue.ts';
import type { BlobStore } from '../store/store.ts';
import { afterColon, counted } from '../text.ts';
import type { Decision, RetentionPlan } from './retention-plan.ts';

/** What became of a plan. */
export interface Retention {
  /** `off`: no rule is set; `held`: nothing is deleted in this run; `planned`: only shown. */
  readonly state: 'applied' | 'off' | 'held' | 'planned' | 'incomplete';
  /** How many snapshots of this cluster are left; null if they could not be counted. */
  readonly kept: number | null;
  /** Names of the blobs that were deleted. */
  readonly removed: readonly string[];
  /** What stays and what goes (held or planned: would go), with all reasons. */
  readonly decisions: readonly Decision<StoredBlob>[];
  /** What ended it before everything was deleted. */
  readonly failure?: StorageError;
}

interface RetentionOptions {
  readonly dryRun: boolean;
  readonly warnings: Warnings;
  readonly log: Log;
}

/** Deletions after which the marks are read again. */
const REMOVED_PER_LISTING = 25;

/**
 * Deletes what the plan says, unless it has an anomaly. A single blob that cannot be deleted is a warning; the first refusal
 * that concerns them all, such as a missing right, ends it.
 */
export async function applyRetention(
  store: BlobStore,
  plan: RetentionPlan<StoredBlob>,
  { dryRun, warnings, log }: RetentionOptions,
): Promise<Retention> {
  const state = plan.isOff ? 'off' : plan.anomalies.length > 0 ? 'held' : dryRun ? 'planned' : undefined;
  if (state !== undefined) return { state, kept: plan.own.length, removed: [], decisions: plan.decisions };
  const removed = new Set<StoredBlob>();
  const marked = new Map<StoredBlob, string>();
  const reasonsToStay = new Map<StoredBlob, string>();
  let failure: StorageError | undefined;
  try {
    let keptOf: KeptOf | undefined;
    for (const [index, { snapshot, reasons }] of plan.decisions.filter(({ keep }) => !keep).entries()) {
      // Somebody can have marked it since the plan was made.
      if (index % REMOVED_PER_LISTING === 0) keptOf = await store.readMarks();
      const kept = keptOf?.(snapshot.name);
      if (kept !== undefined) {
        marked.set(snapshot, keptText(kept));
        continue;
      }
      // Both or neither. The snapshot is first: keys without it are useless, but not the other way round.
      const { bundle } = snapshot;
      const reasonToStay =
        bundle?.isLeased === true ? 'its bundle is leased' : await store.remove(snapshot.name, snapshot.etag);
      if (reasonToStay !== undefined) {
        reasonsToStay.set(snapshot, reasonToStay);
        continue;
      }
      removed.add(snapshot);
      log.info('deleted snapshot', { name: snapshot.name, reasons });
      if (bundle === undefined) continue;
      // Nothing else would ever delete it: a run that is aborted now finishes this.
      const obstacle = await store.remove(bundle.name, bundle.etag, { isFinished: true });
      if (obstacle === undefined) {
        log.info('deleted bundle', { name: bundle.name });
        continue;
      }
      warnings.add(`The bundle ${bundle.name} of a deleted snapshot remains: it is ${obstacle}.`, 'Delete it by hand.');
    }
  } catch (error) {
    if (!(error instanceof StorageError)) throw error;
    failure = error;
  }
  for (const [reason, { length }] of Map.groupBy(reasonsToStay.values(), (text) => text)) {
    const sentence = `${counted(length, 'snapshot')} that no rule keeps could not be deleted: ${reason}.`;
    warnings.add(sentence, 'Wait until they can be deleted: each run tries again.');
  }
  return {
    state: failure === undefined ? 'applied' : 'incomplete',
    kept: plan.own.length - removed.size,
    removed: [...removed].map(({ name }) => name),
    decisions: plan.decisions.map((decision) => {
      const { keep, snapshot } = decision;
      if (keep || removed.has(snapshot)) return decision;
      return {
        snapshot,
        keep: true,
        reasons: [marked.get(snapshot) ?? reasonsToStay.get(snapshot) ?? 'could not be deleted'],
      };
    }),
    ...(failure && { failure }),
  };
}

/** The field `retention` of JSON results. */
export function retentionJson({ state, kept, removed, decisions }: Retention): object {
  const shown = decisions.map(({ snapshot: { name, bundle }, keep, reasons }) => {
    return { name, ...(bundle && { bundle: bundle.name }), keep, reasons };
  });
  return { state, kept, removed, decisions: shown };
}

/** @param subject what is incomplete, as the beginning of a sentence */
export function incomplete(subject: string, failure: StorageError): WorkerError {
  const message = `${subject} is incomplete: ${afterColon(failure.message)}`;
  return new WorkerError(ExitCode.incomplete, message, failure.hint, failure);
}

/** @param subject what has the anomalies, as the beginning of a sentence */
export function held(subject: string, anomalies: readonly string[]): WorkerError {
  return new WorkerError(
    ExitCode.incomplete,
    `${subject} suspicious: ${anomalies.join('; ')}. Nothing was deleted.`,
    'Find out whether this was intended before the next backup, which is compared with this snapshot.',
  );
}

/** Warns about what is ignored: a clock was wrong, or metadata was copied, changed or forged. */
export function warnAboutCatalogue(plan: RetentionPlan<StoredBlob>, warnings: Warnings, now: Date): void {
  for (const { sentence, hint } of uncounted(plan, now)) warnings.add(sentence, hint);
}

interface Uncounted {
  readonly what: 'dates' | 'records' | 'signatures' | 'bundle' | 'protection';
  readonly sentence: string;
  readonly hint: string;
}

/** Milliseconds. A bundle is stored before its snapshot: that of a backup that still runs must not alarm anybody. */
const ORPHANED_MS = 3_600_000;

type Doubtful = Pick<
  RetentionPlan<StoredBlob>,
  'current' | 'lost' | 'own' | 'futureDated' | 'former' | 'malformed' | 'missing'
>;

/** A sentence for each kind of blob that is ignored, missing or not protected, and what to do about it. */
export function uncounted(
  { current, lost, own, futureDated, former, malformed, missing }: Doubtful,
  now: Date,
): Uncounted[] {
  const bad = malformed.filter((blob) => isUntrusted(blob) && blob.signature?.state === 'bad');
  const unsigned = malformed.filter((blob) => isUntrusted(blob) && blob.signature?.state !== 'bad');
  const others = malformed.filter((blob) => !isUntrusted(blob) && !isOrphan(blob));
  const orphans = malformed.filter(isOrphan).filter(({ storedAt }) => now.getTime() - storedAt.getTime() > ORPHANED_MS);
  const withoutBundle = withoutTheirBundle(own);
  const later = current && laterThan(current, own);
  return [
    {
      blobs: lost.length > 0 && current !== undefined ? [current] : [],
      what: 'protection' as const,
      sentence: `The newest snapshot ${current?.name} is not ${lost.join(', and not ')}, but the one before it is.`,
      hint: 'Check the variables of the job that took it. If this is intended, ignore it: the next one is compared with this one.',
    },
    {
      blobs: later === undefined ? [] : [later],
      what: 'dates' as const,
      sentence: `${later?.name} was stored after the newest snapshot ${current?.name} and has a higher revision, but an earlier date.`,
      hint: 'Check the clocks of the hosts that take snapshots.',
    },
    {
      blobs: futureDated,
      what: 'dates' as const,
      sentence: `Snapshots that are dated in the future are kept, and ignored by all rules: ${such(futureDated)}.`,
      hint: 'Check the clocks of the hosts that take snapshots; delete these by hand when they are no longer needed.',
    },
    {
      blobs: former,
      what: 'records' as const,
      sentence: `Snapshots of a former cluster with the same id are kept: ${such(former)}. Their revisions are higher, or their members have other names.`,
      hint: 'Delete them by hand when they are no longer needed. A cluster that is rebuilt on the same addresses gets the same id.',
    },
    {
      blobs: others,
      what: 'records' as const,
      sentence: `Blobs that do not count as snapshots are left unchanged: ${such(others)} (${others[0]?.problem}).`,
      hint: 'Find out who copied or changed them: `etcd-snapshot list` shows the reason for each.',
    },
    {
      blobs: orphans,
      what: 'bundle' as const,
      sentence: `Bundles without their snapshot are left unchanged: ${such(orphans)}. A run was killed, or somebody deleted the snapshots.`,
      hint: 'Delete them by hand when their keys are no longer needed.',
    },
    {
      blobs: withoutBundle,
      what: 'bundle' as const,
      sentence: `The bundles of snapshots are missing, or were replaced: ${such(withoutBundle)}.`,
      hint: 'Find out who deleted or changed them. Take another backup while the keys are still there.',
    },
    {
      blobs: bad,
      what: 'signatures' as const,
      sentence: `Snapshots with a BAD SIGNATURE do not count, and are left unchanged: ${such(bad)}. Their records were changed after they were signed.`,
      hint: 'Find out who changed them, and what else this identity can change.',
    },
    {
      blobs: unsigned,
      what: 'signatures' as const,
      sentence: `Snapshots without a trusted signature do not count, and are left unchanged: ${such(unsigned)} (${unsigned[0]?.problem}).`,
      hint: 'Add the key of those that you trust to SNAPSHOT_VERIFICATION_KEYS_FILE. Delete the others by hand when they are no longer needed.',
    },
    {
      blobs: missing.map((name) => ({ name })),
      what: 'signatures' as const,
      sentence: `Snapshots are missing that no retention rule removed: ${such(missing.map((name) => ({ name })))}. A later one refers to each of them.`,
      hint: 'Find out who deleted them. Ignore this if it was you, or if the rules were stricter before.',
    },
  ].filter(({ blobs }) => blobs.length > 0);
}

function such(blobs: readonly Pick<StoredBlob, 'name'>[]): string {
  return `${blobs.length}, such as ${blobs[0]?.name}`;
}

import { StorageError, type WorkerError } from '../errors.ts';
import { type Log, Warnings } from '../log.ts';
import {
  applyRetention,
  held,
  incomplete,
  type Retention,
  retentionJson,
  warnAboutCatalogue,
} from '../retention/apply.ts';
import { planRetention, type RetentionPlan } from '../retention/retention-plan.ts';
import { obsoleteCopies } from '../snapshot/copies.ts';
import { obsoleteFailures } from '../snapshot/failure-marks.ts';
import { obsoleteMarks } from '../snapshot/marks.ts';
import type { Listing, StoredBlob } from '../store/catalogue.ts';
import type { BlobStore } from '../store/store.ts';
import { alignColumns, counted } from '../text.ts';
import { type Arguments, type Context, openStore, type Outcome } from './command.ts';
import { ageText, explanations } from './list.ts';
import { readClusterIds } from './snapshot-operand.ts';

/** Retention on its own: deletes what no rule keeps, or only shows it. "This cluster" is that of the newest snapshot. */
export async function prune(context: Context, { options }: Arguments): Promise<Outcome> {
  const { config, log } = context;
  const { rules, previousClusterIds } = config.retention;
  const named = readClusterIds(options['cluster-id']);
  const store = await openStore(context);
  const warnings = new Warnings(log);
  const now = new Date();

  const listing = await store.listAll();
  const plan = planRetention(listing.blobs, { rules, previousClusterIds: [...previousClusterIds, ...named] }, now);
  warnAboutCatalogue(plan, warnings, now);
  const dryRun = options['dry-run'] === true;
  const retention = await applyRetention(store, plan, { dryRun, warnings, log });
  const removedMarks = retention.state === 'applied' ? await removeMarks(store, listing, log) : [];
  const partialFailure = partialFailureOf(plan, retention);
  const summary = verdict(retention, plan, dryRun);
  return {
    text: [table(retention, plan, now), '', ...explanations(plan), summary].join('\n'),
    summary,
    json: {
      container: store.containerName,
      clusterId: plan.current?.record.clusterId ?? null,
      ...retentionJson(retention),
      removedMarks,
      anomalies: plan.anomalies,
      findings: warnings.sentences,
    },
    ...(partialFailure && { partialFailure, isDryRun: dryRun }),
  };
}

/** Removes the marks and other events that decide nothing any more, as far as the identity and policies permit it. @returns their names */
async function removeMarks(store: BlobStore, { blobs, events, time }: Listing, log: Log): Promise<string[]> {
  const removed: string[] = [];
  try {
    const obsolete = [
      ...obsoleteMarks(blobs, events, store.markRules(time)),
      ...obsoleteFailures(events, time),
      ...obsoleteCopies(blobs, events, store.prefix),
    ];
    for (const { name, etag } of obsolete) {
      if ((await store.remove(name, etag)) === undefined) removed.push(name);
    }
  } catch (error) {
    if (!(error instanceof StorageError)) throw error;
    log.debug('marks are not removed', { reason: error.message });
  }
  if (removed.length > 0) log.info('removed marks that decide nothing any more', { names: removed });
  return removed;
}

/** The cluster is shown only where there are several. */
function table({ decisions }: Retention, { otherClusterIds }: RetentionPlan<StoredBlob>, now: Date): string {
  const hasOthers = otherClusterIds.length > 0;
  const rows = decisions.map(({ snapshot, keep, reasons }) => {
    const cluster = hasOthers ? [snapshot.record?.clusterId ?? '-'] : [];
    const why = `${keep ? 'keep' : 'remove'}: ${reasons.join(', ')}`;
    return [snapshot.name, ageText(snapshot, now), ...cluster, why];
  });
  const headings = ['NAME', 'AGE', ...(hasOthers ? ['CLUSTER'] : []), 'RETENTION'];
  return alignColumns(headings, rows, ['AGE']);
}

function verdict(
  { state, kept, removed, decisions }: Retention,
  { anomalies }: RetentionPlan<StoredBlob>,
  dryRun: boolean,
): string {
  switch (state) {
    case 'off':
      return 'No retention rule is set (SNAPSHOT_KEEP_…): nothing is ever deleted.';
    case 'held':
      return `Nothing ${dryRun ? 'would be' : 'was'} deleted, because the newest snapshot is suspicious: ${anomalies.join('; ')}.`;
    case 'planned':
      return `Dry run: ${counted(decisions.filter(({ keep }) => !keep).length, 'snapshot')} would be deleted; nothing was changed.`;
    case 'applied':
    case 'incomplete':
      return `${counted(removed.length, 'snapshot')} deleted; this cluster has ${kept} left.`;
  }
}

function partialFailureOf(
  { current, anomalies }: RetentionPlan<StoredBlob>,
  retention: Retention,
): WorkerError | undefined {
  if (retention.failure !== undefined) return incomplete('Retention', retention.failure);
  return retention.state === 'held' ? held(`The newest snapshot ${current?.name} is`, anomalies) : undefined;
}

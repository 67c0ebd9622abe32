import type { WorkerError } from '../errors.ts';
import { Warnings } from '../log.ts';
import {
  applyRetention,
  held,
  incomplete,
  type Retention,
  retentionJson,
  warnAboutCatalogue,
} from '../retention/apply.ts';
import { planRetention, type RetentionPlan } from '../retention/retention-plan.ts';
import type { StoredBlob } from '../store/catalogue.ts';
import { drawTable, humanAge } from '../text.ts';
import { type Arguments, type Context, openStore, type Outcome } from './command.ts';
import { readClusterIds } from './operand.ts';
import { decisionText, notesOfMalformed, notesOfOthers } from './tables.ts';

/** Retention on its own: deletes what no rule keeps, or only shows it. "This cluster" is that of the newest snapshot. */
export async function prune(context: Context, { options }: Arguments): Promise<Outcome> {
  const { config, log } = context;
  const { rules, previousClusterIds } = config.retention;
  const named = readClusterIds(options['cluster-id']);
  const store = await openStore(context);
  const warnings = new Warnings(log);
  const now = new Date();

  const plan = planRetention(await store.list(), { rules, previousClusterIds: [...previousClusterIds, ...named] }, now);
  warnAboutCatalogue(plan, warnings);
  const dryRun = options['dry-run'] === true;
  const retention = await applyRetention(store, plan, { dryRun, warnings, log });
  const partialFailure = shortfallOf(plan, retention);
  return {
    text: [table(retention, now), ending(retention), ...notesOfMalformed(plan), ...notesOfOthers(plan)].join('\n'),
    summary: ending(retention),
    json: {
      container: store.containerName,
      clusterId: plan.current?.record.clusterId ?? null,
      ...retentionJson(retention),
      anomalies: plan.anomalies,
      findings: warnings.sentences,
    },
    ...(partialFailure && { partialFailure }),
  };
}

function table({ decisions }: Retention, now: Date): string {
  const rows = decisions.map((decision) => {
    const { name, takenAt, storedAt, record } = decision.snapshot;
    const age = humanAge(now.getTime() - (takenAt ?? storedAt).getTime());
    return [name, age, record?.clusterId ?? '-', decisionText(decision)];
  });
  return drawTable(['NAME', 'AGE', 'CLUSTER', 'RETENTION'], rows, ['NAME', 'RETENTION']);
}

function ending({ state, kept, removed }: Retention): string {
  switch (state) {
    case 'off':
      return 'No retention rule is set (SNAPSHOT_KEEP_…): nothing is ever deleted.';
    case 'held':
      return 'Retention is held: nothing was deleted.';
    case 'planned':
      return 'Dry run: nothing was deleted.';
    case 'applied':
    case 'incomplete':
      return `${removed.length} deleted; ${kept} of this cluster are left.`;
  }
}

function shortfallOf({ current, anomalies }: RetentionPlan<StoredBlob>, retention: Retention): WorkerError | undefined {
  if (retention.failure !== undefined) return incomplete('Retention', retention.failure);
  return retention.state === 'held' ? held(`The newest snapshot ${current?.name} is`, anomalies) : undefined;
}

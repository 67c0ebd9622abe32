import { Warnings } from '../log.ts';
import { warnAboutCatalogue } from '../retention/apply.ts';
import type { Decision } from '../retention/decide.ts';
import { planRetention } from '../retention/retention-plan.ts';
import type { SnapshotRecord } from '../snapshot/record.ts';
import type { StoredBlob } from '../store/catalogue.ts';
import { drawTable, humanAge, humanSize, printable } from '../text.ts';
import { type Context, openStore, type Outcome } from './command.ts';
import { decisionText, notesOfMalformed, notesOfOthers } from './tables.ts';

/** The blobs under the prefix, the newest first, with their records and what retention would do with them now. */
export async function list(context: Context): Promise<Outcome> {
  const store = await openStore(context);
  const now = new Date();
  const plan = planRetention(await store.list(), context.config.retention, now);
  warnAboutCatalogue(plan, new Warnings(context.log));
  const { decisions, isOff, anomalies } = plan;
  const headings = ['NAME', 'AGE', 'SIZE', 'REVISION', 'KEYS', 'ETCD', 'CLUSTER', 'RETENTION'];
  const rows = decisions.map((decision) => [
    ...blobCells(decision.snapshot, now),
    isOff ? '-' : decisionText(decision),
  ]);
  const table = drawTable(headings, rows, ['NAME', 'RETENTION']);
  const held =
    isOff || anomalies.length === 0
      ? []
      : [printable(`Retention is held: the newest is suspicious: ${anomalies.join('; ')}.`)];
  return {
    text:
      rows.length === 0
        ? 'There is no snapshot.'
        : [table, ...held, ...notesOfMalformed(plan), ...notesOfOthers(plan)].join('\n'),
    json: decisions.map((decision) => entry(decision, isOff)),
  };
}

function blobCells({ name, takenAt, storedAt, size, record, problem }: StoredBlob, now: Date): string[] {
  const age = humanAge(now.getTime() - (takenAt ?? storedAt).getTime());
  const none = [problem === undefined ? 'no record' : 'not counted', '-', '-', '-'];
  return [name, age, humanSize(size), ...(record === undefined ? none : recordCells(record))];
}

function recordCells({ revision, liveKeys, totalKeys, etcdVersion, clusterId }: SnapshotRecord): string[] {
  return [String(revision), String(liveKeys ?? totalKeys), etcdVersion, clusterId];
}

function entry({ snapshot, keep, reasons }: Decision<StoredBlob>, isOff: boolean): object {
  const { name, size, storedAt, takenAt, record, problem } = snapshot;
  return {
    name,
    size,
    storedAt: storedAt.toISOString(),
    takenAt: takenAt?.toISOString() ?? null,
    record: record !== undefined,
    ...(record === undefined ? {} : { ...record, takenAt: record.takenAt.toISOString() }),
    ...(problem === undefined ? {} : { problem }),
    retention: isOff ? null : { keep, reasons },
  };
}

import { Warnings } from '../log.ts';
import { warnAboutCatalogue } from '../retention/apply.ts';
import { type Decision, planRetention, type RetentionPlan } from '../retention/retention-plan.ts';
import { CLOCK_SKEW_MS, isRecorded, withoutTheirBundle } from '../snapshot/inventory.ts';
import { keptJson, keptText } from '../snapshot/marks.ts';
import { fileSizeOf } from '../snapshot/record.ts';
import { signatureText } from '../snapshot/signature-state.ts';
import type { StoredBlob } from '../store/catalogue.ts';
import { alignColumns, counted, humanAge, humanSize, paragraph, printable } from '../text.ts';
import { type Context, openStore, type Outcome } from './command.ts';

/** Lists the blobs under the prefix, the newest first, with their records and what retention would do with them now. */
export async function list(context: Context): Promise<Outcome> {
  const store = await openStore(context);
  const now = new Date();
  const plan = planRetention(await store.list(), context.config.retention, now);
  warnAboutCatalogue(plan, new Warnings(context.log), now);
  const place = `container ${store.containerName}${store.prefix === '' ? '' : `, prefix ${store.prefix}`}`;
  const text =
    plan.decisions.length === 0
      ? `There is no snapshot in ${place} yet. To take the first one, run: etcd-snapshot backup`
      : [
          table(plan, now),
          '',
          ...recipients(plan),
          ...bundles(plan),
          ...imports(plan),
          ...signers(plan, context.signatures),
          ...marks(plan),
          ...explanations(plan),
          verdict(plan),
        ].join('\n');
  return { text, json: plan.decisions.map((decision) => entry(decision, plan.isOff)) };
}

/** Characters of a cluster id, for a narrower table; the lines below it show the whole ids. */
const SHORT_ID = 8;

/**
 * Where there are several clusters, the cluster is shown instead of the version; otherwise, where snapshots are sealed, the size of
 * their blobs.
 */
function table({ decisions, isOff, otherClusterIds }: RetentionPlan<StoredBlob>, now: Date): string {
  const isSealed = decisions.some(({ snapshot }) => snapshot.record?.encoding !== undefined);
  const column = otherClusterIds.length > 0 ? 'CLUSTER' : isSealed ? 'STORED' : 'ETCD';
  const rows = decisions.map(({ snapshot, keep }) => {
    const { name, size, record, problem } = snapshot;
    const cells = [name, ageText(snapshot, now), humanSize(record === undefined ? size : fileSizeOf(record))];
    const retention = isOff ? '-' : keep ? 'keep' : 'remove';
    if (record === undefined)
      return [...cells, '-', '-', problem === undefined ? 'no record' : 'not counted', retention];
    const { revision, liveKeys, totalKeys, etcdVersion, clusterId } = record;
    const shown = { CLUSTER: clusterId.slice(0, SHORT_ID), STORED: humanSize(size), ETCD: etcdVersion ?? '-' }[column];
    return [...cells, String(revision), String(liveKeys ?? totalKeys), shown, retention];
  });
  const headings = ['NAME', 'AGE', 'SIZE', 'REVISION', 'KEYS', column, 'RETENTION'];
  return alignColumns(headings, rows, ['AGE', 'SIZE', 'REVISION', 'KEYS', 'STORED']);
}

/** Who can open the encrypted snapshots. */
function recipients({ decisions }: RetentionPlan<StoredBlob>): string[] {
  return countEach(decisions.flatMap(({ snapshot: { record } }) => record?.recipients?.join(', ') ?? [])).map(
    (line) => `encrypted for ${line}`,
  );
}

/** How many snapshots have their keys with them, where any has. */
function bundles({ own }: RetentionPlan<StoredBlob>): string[] {
  const { length } = own.filter(({ bundle }) => bundle !== undefined);
  return length === 0 ? [] : [`with a bundle: ${counted(length, 'snapshot')}`];
}

/** How many come from files of other programs, where any does. */
function imports({ own }: RetentionPlan<StoredBlob>): string[] {
  const { length } = own.filter(({ record }) => record.imported !== undefined);
  return length === 0 ? [] : [`imported from files: ${counted(length, 'snapshot')}`];
}

/** Who signed the snapshots that count, where any is signed or keys are configured; of the others, `explanations` says it. */
function signers({ decisions }: RetentionPlan<StoredBlob>, signatures: Context['signatures']): string[] {
  const counting = decisions.map(({ snapshot }) => snapshot).filter(isRecorded);
  const texts = counting.flatMap(({ signature }) => (signature === undefined ? [] : signatureText(signature)));
  if (signatures === undefined && texts.every((text) => text === 'unsigned')) return [];
  return countEach(texts);
}

/** Which snapshots are kept by a mark. */
function marks({ decisions }: RetentionPlan<StoredBlob>): string[] {
  return decisions.flatMap(({ snapshot: { name, kept } }) =>
    kept === undefined ? [] : [paragraph(printable(`${name} is ${keptText(kept)}`))],
  );
}

function countEach(texts: readonly string[]): string[] {
  return [...Map.groupBy(texts, (text) => text)].map(([text, { length }]) => `${text}: ${counted(length, 'snapshot')}`);
}

function verdict({ decisions, own, isOff, anomalies }: RetentionPlan<StoredBlob>): string {
  const removed = decisions.filter(({ keep }) => !keep).length;
  const snapshots = `${counted(own.length, 'snapshot')} of this cluster`;
  if (isOff) return `${snapshots}; no retention rule is set (SNAPSHOT_KEEP_…).`;
  if (anomalies.length === 0)
    return `${snapshots}; retention would remove ${removed} (etcd-snapshot prune --dry-run shows why).`;
  return paragraph(
    printable(`Retention deletes nothing, because the newest snapshot is suspicious: ${anomalies.join('; ')}.`),
  );
}

function entry({ snapshot, keep, reasons }: Decision<StoredBlob>, isOff: boolean): object {
  const { name, size, storedAt, takenAt, record, signature, problem, bundle, kept } = snapshot;
  return {
    name,
    size: record === undefined ? size : fileSizeOf(record),
    storedAt: storedAt.toISOString(),
    takenAt: takenAt?.toISOString() ?? null,
    record: record !== undefined,
    ...(record === undefined ? {} : { ...record, takenAt: record.takenAt.toISOString() }),
    ...(signature === undefined ? {} : { signature }),
    ...(problem === undefined ? {} : { problem }),
    ...(record?.bundleSha256 !== undefined && { bundle: bundle ? { name: bundle.name, size: bundle.size } : null }),
    ...(kept && { kept: keptJson(kept) }),
    retention: isOff ? null : { keep, reasons },
  };
}

/** Of a blob, since it was taken or else stored; `-` for a date in the future. */
export function ageText({ takenAt, storedAt }: StoredBlob, now: Date): string {
  const age = now.getTime() - (takenAt ?? storedAt).getTime();
  return age < -CLOCK_SKEW_MS ? '-' : humanAge(age);
}

/** After a table, at most this many blobs are listed with the reason why they are not snapshots. */
const EXPLAINED = 20;

/** What follows a table of snapshots: why blobs are not snapshots, and which snapshots all rules ignore. */
export function explanations({ malformed, own, current, otherClusterIds }: RetentionPlan<StoredBlob>): string[] {
  const lines = malformed.slice(0, EXPLAINED).map(({ name, problem }) => `${name} is not counted: ${problem}.`);
  if (malformed.length > EXPLAINED) lines.push(`${malformed.length - EXPLAINED} more are not counted.`);
  const withoutBundle = withoutTheirBundle(own);
  lines.push(
    ...withoutBundle.slice(0, EXPLAINED).map(({ name }) => `The bundle of ${name} is missing, or was replaced.`),
  );
  if (withoutBundle.length > EXPLAINED) lines.push(`${withoutBundle.length - EXPLAINED} more bundles are missing.`);
  const { length } = own.filter(({ notReadBackBy }) => notReadBackBy === 'copy');
  if (length > 0) lines.push(`${counted(length, 'copied snapshot')} not read back yet. Run: etcd-snapshot copy`);
  if (current !== undefined && otherClusterIds.length > 0) {
    lines.push(
      `This cluster is ${current.record.clusterId}. Snapshots of other clusters (${otherClusterIds.join(', ')}) are kept, and ignored by all rules.`,
      'A restored cluster has a new id. To apply retention to its old snapshots as well, set SNAPSHOT_PREVIOUS_CLUSTER_IDS to its earlier ids, or run `prune --cluster-id ID` once.',
    );
  }
  return lines.map((line) => paragraph(printable(line)));
}

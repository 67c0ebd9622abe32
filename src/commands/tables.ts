import type { Decision, RetentionPlan } from '../retention/retention-plan.ts';
import type { StoredBlob } from '../store/catalogue.ts';
import { drawTable, humanAge, humanSize, paragraph, printable } from '../text.ts';

interface Status {
  readonly hash: string | null;
  readonly revision: number | null;
  readonly totalKeys: number | null;
  readonly totalSize: number | null;
}

/** The table of `etcdctl snapshot status -w table`; a dash for what could not be computed. */
export function statusTable({ hash, revision, totalKeys, totalSize }: Status): string {
  const size = totalSize === null ? '-' : humanSize(totalSize);
  const cells = [hash ?? '-', String(revision ?? '-'), String(totalKeys ?? '-'), size];
  return drawTable(['HASH', 'REVISION', 'TOTAL KEYS', 'TOTAL SIZE'], [cells]);
}

/** Of a blob, since it was taken or else stored. */
export function ageText({ takenAt, storedAt }: StoredBlob, now: Date): string {
  return humanAge(now.getTime() - (takenAt ?? storedAt).getTime());
}

/** Whether a snapshot stays, and why, for one cell of a table. */
export function decisionText({ keep, reasons }: Decision<StoredBlob>): string {
  return `${keep ? 'keep' : 'remove'}: ${reasons.join(', ')}`;
}

/** After a table, at most this many blobs are listed with the reason why they are not snapshots. */
const EXPLAINED = 20;

/** What follows a table of snapshots: why blobs are not snapshots, and which snapshots all rules ignore. */
export function explanations({ malformed, current, otherClusterIds }: RetentionPlan<StoredBlob>): string[] {
  const lines = malformed.slice(0, EXPLAINED).map(({ name, problem }) => `${name} is not counted: ${problem}.`);
  if (malformed.length > EXPLAINED) lines.push(`${malformed.length - EXPLAINED} more are not counted.`);
  if (current !== undefined && otherClusterIds.length > 0) {
    lines.push(
      `This cluster is ${current.record.clusterId}; snapshots of ${otherClusterIds.join(', ')} belong to other clusters, and are kept and ignored by all rules.`,
      'A restored cluster has a new id. To let its old snapshots age out as well, set SNAPSHOT_PREVIOUS_CLUSTER_IDS to its earlier ids, or run `prune --cluster-id ID` once.',
    );
  }
  return lines.map((line) => paragraph(printable(line)));
}

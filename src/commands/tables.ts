import type { Decision } from '../retention/decide.ts';
import type { RetentionPlan } from '../retention/retention-plan.ts';
import type { StoredBlob } from '../store/catalogue.ts';
import { type Colour, drawTable, humanAge, humanSize, paragraph, printable } from '../text.ts';

interface Status {
  readonly hash: string | null;
  readonly revision: number | null;
  readonly totalKeys: number | null;
  readonly totalSize: number | null;
}

/** States in the tables of all commands. */
export const STATE_COLOURS: Readonly<Record<string, Colour>> = {
  ok: 'green',
  warn: 'yellow',
  fail: 'red',
  healthy: 'green',
  unhealthy: 'yellow',
  unreachable: 'red',
};

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

/** For so many blobs a table is followed by the reason why they are no snapshots. */
const EXPLAINED = 20;

/** What follows a table of snapshots: why blobs are no snapshots, and which snapshots no rule can touch. */
export function explanations({ malformed, current, otherClusterIds }: RetentionPlan<StoredBlob>): string[] {
  const lines = malformed.slice(0, EXPLAINED).map(({ name, problem }) => `${name} is not counted: ${problem}.`);
  if (malformed.length > EXPLAINED) lines.push(`${malformed.length - EXPLAINED} more are not counted.`);
  if (current !== undefined && otherClusterIds.length > 0) {
    lines.push(
      `This cluster is ${current.record.clusterId}; snapshots of ${otherClusterIds.join(', ')} are of another one and stay.`,
      'A restored cluster has a new id. Add the ids that this one had before to SNAPSHOT_PREVIOUS_CLUSTER_IDS, or once to `prune --cluster-id ID`: then their snapshots age out with its own.',
    );
  }
  return lines.map((line) => paragraph(printable(line)));
}

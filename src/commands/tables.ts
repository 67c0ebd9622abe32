import type { Decision } from '../retention/decide.ts';
import type { RetentionPlan } from '../retention/retention-plan.ts';
import type { StoredBlob } from '../store/catalogue.ts';
import { drawTable, humanSize, printable } from '../text.ts';

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

/** What becomes of a snapshot and why, for one cell of a table. */
export function decisionText({ keep, reasons }: Decision<StoredBlob>): string {
  return `${keep ? 'keep' : 'remove'}: ${reasons.join(', ')}`;
}

/** Of so many blobs it is written under a table why they are no snapshots. */
const NOTES = 20;

/** Why blobs that seem to be snapshots are none, in lines. */
export function notesOfMalformed({ malformed }: RetentionPlan<StoredBlob>): string[] {
  const lines = malformed.slice(0, NOTES).map(({ name, problem }) => printable(`${name} is not counted: ${problem}.`));
  return malformed.length > NOTES ? [...lines, `${malformed.length - NOTES} more are not counted.`] : lines;
}

/** What a table's readers should know of snapshots that no rule can touch, in lines. */
export function notesOfOthers({ current, otherClusterIds }: RetentionPlan<StoredBlob>): string[] {
  if (current === undefined || otherClusterIds.length === 0) return [];
  return [
    printable(
      `This cluster is ${current.record.clusterId}; snapshots of ${otherClusterIds.join(', ')} are of another one and stay.`,
    ),
    'A restored cluster has a new id. Ids that this one had before belong into SNAPSHOT_PREVIOUS_CLUSTER_IDS, or once into',
    '`prune --cluster-id ID`: then their snapshots age out with its own.',
  ];
}

import type { Retention } from '../backup/retention.ts';
import type { RetentionPlan } from '../snapshot/plan.ts';
import type { Decision } from '../snapshot/retention.ts';
import type { StoredBlob } from '../store/catalogue.ts';
import { printable } from '../text.ts';

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

export function retentionJson({ state, kept, removed, decisions }: Retention): object {
  const told = decisions.map(({ snapshot, keep, reasons }) => ({ name: snapshot.name, keep, reasons }));
  return { state, kept, removed, decisions: told };
}

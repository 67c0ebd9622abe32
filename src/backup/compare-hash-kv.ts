import { EtcdError, VerificationError } from '../errors.ts';
import type { MemberStatus } from '../etcd/messages.ts';
import { type Candidate, isCorrupt } from '../etcd/select-member.ts';
import type { Warnings } from '../log.ts';
import type { HashKV } from '../snapshot/verify/live-keys.ts';
import type { SnapshotFacts } from '../snapshot/verify/verdict.ts';
import { afterColon } from '../text.ts';

/** What other members hold at a snapshot's revision, by member id. */
export interface Comparison {
  readonly agree: readonly string[];
  readonly disagree: readonly string[];
  /** Members that could not be compared, with the reason. */
  readonly skipped: readonly string[];
  /** What the majority says; `undecided` if it is unknown who is right, as between two members. */
  readonly verdict: 'confirmed' | 'undecided' | 'outvoted';
}

/** @returns undefined where the comparison would cost the members too much, or nothing is known to compare with */
export async function compareWithOthers(
  { hashKV, totalSize }: Pick<SnapshotFacts, 'hashKV' | 'totalSize'>,
  others: readonly Candidate[],
  maxSize: number,
  warnings: Warnings,
): Promise<Comparison | undefined> {
  if (hashKV === undefined || totalSize > maxSize) return undefined;
  const comparison = await compareHashKV(hashKV, others);
  if (comparison.verdict !== 'confirmed') return comparison;
  for (const memberId of comparison.disagree) {
    const sentence = `The data of member ${memberId} differs from the snapshot at the same revision.`;
    warnings.add(sentence, 'Replace that member: it is corrupt.');
  }
  return comparison;
}

/**
 * Compares the HashKV computed from a snapshot with that of other members at the same revision. Only answers with the same
 * compaction can be compared: a member can have compacted again since the snapshot. Each member has one vote, also the
 * source of the snapshot; a member that the cluster knows to be corrupt has none.
 * @param others no two of them with the same id
 */
export async function compareHashKV(snapshot: HashKV, others: readonly Candidate[]): Promise<Comparison> {
  const comparison = { agree: [] as string[], disagree: [] as string[], skipped: [] as string[] };
  const votes = new Map<number, number>([[snapshot.hash, 1]]);
  await Promise.all(
    others.map(async ({ connection, status }) => {
      const { memberId, dbSize } = status;
      try {
        const answer = await connection.hashKV(snapshot.revision, dbSize);
        if (answer.memberId !== memberId)
          comparison.skipped.push(`${memberId}: a different member answers at its endpoint`);
        else if (answer.compactRevision !== snapshot.compactRevision)
          comparison.skipped.push(`${memberId}: compacted at a different revision`);
        else {
          comparison[answer.hash === snapshot.hash ? 'agree' : 'disagree'].push(memberId);
          if (!isCorrupt(status)) votes.set(answer.hash, (votes.get(answer.hash) ?? 0) + 1);
        }
      } catch (error) {
        if (!(error instanceof EtcdError)) throw error;
        comparison.skipped.push(`${memberId}: ${afterColon(error.message)}`);
      }
    }),
  );
  const inFavour = votes.get(snapshot.hash) ?? 0;
  const against = Math.max(0, ...[...votes].filter(([hash]) => hash !== snapshot.hash).map(([, count]) => count));
  const verdict = against === inFavour ? 'undecided' : against > inFavour ? 'outvoted' : 'confirmed';
  return { ...comparison, verdict };
}

interface Contradiction {
  readonly error: VerificationError;
  /** Whether the snapshot of another member can be a better one: where two members differ, neither is. */
  readonly isDecidable: boolean;
}

/** What the other members say against the source of a snapshot; undefined where the majority confirms it. */
export function contradiction({ memberId, endpoint }: MemberStatus, comparison: Comparison): Contradiction | undefined {
  const { verdict, disagree, skipped } = comparison;
  if (verdict === 'confirmed') return undefined;
  const what = `The data of member ${memberId} at ${endpoint} differs from that of ${disagree.join(' and ')} at the same revision`;
  const isDecidable = verdict === 'outvoted' || skipped.length > 0;
  const [message, hint] =
    verdict === 'outvoted'
      ? [`${what}.`, 'Replace that member: it is corrupt (etcdctl endpoint hashkv shows the difference).']
      : [
          `${what}, and it is not known which of them is corrupt.`,
          'Compare all members (etcdctl endpoint hashkv), and replace the one that differs from the majority.',
        ];
  return { error: new VerificationError(message, hint), isDecidable };
}

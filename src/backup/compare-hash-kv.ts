import { EtcdError } from '../errors.ts';
import { type Candidate, isCorrupt } from '../etcd/select-member.ts';
import type { HashKV } from '../snapshot/verify/live-keys.ts';

/** What other members hold beside a snapshot, by member id. */
export interface Comparison {
  readonly agree: readonly string[];
  readonly disagree: readonly string[];
  /** Members that could not be compared, with the reason. */
  readonly skipped: readonly string[];
  /** What the majority says; `undecided` where nobody knows who is right, as between two members. */
  readonly verdict: 'confirmed' | 'undecided' | 'outvoted';
}

/**
 * Compares the HashKV computed from a snapshot with that of other members at the same revision. Only answers with the same
 * compaction can be compared: between snapshot and question a member may have compacted again. Each member has one vote, the
 * source of the snapshot, too; a member of which the cluster knows that it is corrupt has none.
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
        if (answer.memberId !== memberId) comparison.skipped.push(`${memberId}: another member answers there`);
        else if (answer.compactRevision !== snapshot.compactRevision)
          comparison.skipped.push(`${memberId}: another compaction`);
        else {
          comparison[answer.hash === snapshot.hash ? 'agree' : 'disagree'].push(memberId);
          if (!isCorrupt(status)) votes.set(answer.hash, (votes.get(answer.hash) ?? 0) + 1);
        }
      } catch (error) {
        if (!(error instanceof EtcdError)) throw error;
        comparison.skipped.push(`${memberId}: ${error.message}`);
      }
    }),
  );
  return { ...comparison, verdict: verdictOf(snapshot.hash, votes) };
}

function verdictOf(own: number, votes: ReadonlyMap<number, number>): Comparison['verdict'] {
  const forIt = votes.get(own) ?? 0;
  const against = Math.max(0, ...[...votes].filter(([hash]) => hash !== own).map(([, count]) => count));
  if (against === forIt) return 'undecided';
  return against > forIt ? 'outvoted' : 'confirmed';
}

import { EtcdError } from '../errors.ts';
import type { Candidate } from '../etcd/choose.ts';
import type { HashKV } from '../snapshot/keyspace.ts';

/** What other members hold beside a snapshot, by member id. */
export interface Comparison {
  readonly agree: readonly string[];
  readonly disagree: readonly string[];
  /** Members that could not be compared, with the reason. */
  readonly skipped: readonly string[];
}

/**
 * Compares the HashKV computed from a snapshot with that of other members at the same revision. Only answers with the same
 * compaction can be compared: between snapshot and question a member may have compacted again.
 */
export async function compareHashKV(snapshot: HashKV, others: readonly Candidate[]): Promise<Comparison> {
  const comparison = { agree: [] as string[], disagree: [] as string[], skipped: [] as string[] };
  await Promise.all(
    others.map(async ({ connection, status: { memberId, dbSize } }) => {
      try {
        const { hash, compactRevision } = await connection.hashKV(snapshot.revision, dbSize);
        if (compactRevision !== snapshot.compactRevision) comparison.skipped.push(`${memberId}: another compaction`);
        else comparison[hash === snapshot.hash ? 'agree' : 'disagree'].push(memberId);
      } catch (error) {
        if (!(error instanceof EtcdError)) throw error;
        comparison.skipped.push(`${memberId}: ${error.message}`);
      }
    }),
  );
  return comparison;
}

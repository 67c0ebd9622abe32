import { invalidStream } from '../backup/pump.ts';
import type { Connection } from '../etcd/connection.ts';
import { snapshotPieces } from '../etcd/snapshot-stream.ts';
import { SnapshotVerifier } from '../snapshot/verify/verifier.ts';

/**
 * Ids of all members that were ever removed. They are in the database of every member, but no RPC returns them (all of etcd's
 * errors for a removed id are those for an unknown one), so a snapshot is streamed, verified and discarded.
 * @param memoryBudget bytes
 * @throws EtcdError, VerificationError
 */
export async function removedMembers(
  connection: Connection,
  memoryBudget: number,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const verifier = new SnapshotVerifier({ memoryBudget });
  for await (const piece of snapshotPieces(connection, signal)) verifier.push(piece);
  const verdict = verifier.finish();
  if (verdict.ok) return verdict.snapshot.facts.removedMembers;
  throw invalidStream(connection.endpoint, verdict);
}

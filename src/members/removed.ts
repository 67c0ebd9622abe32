import { unsound } from '../backup/stream.ts';
import type { Connection } from '../etcd/connection.ts';
import { snapshotPieces } from '../etcd/snapshot.ts';
import { SnapshotVerifier } from '../snapshot/verify.ts';

/**
 * Ids of the members that were ever removed. Every member's database has them, but no call tells them, so a snapshot is read
 * for it and not kept.
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
  throw unsound(connection.endpoint, verdict);
}

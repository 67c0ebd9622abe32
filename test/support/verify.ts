import { KeyScanner, type LiveKey, LiveKeys } from '../../src/snapshot/keys.ts';
import type { Verdict } from '../../src/snapshot/verify/verdict.ts';
import type { SnapshotFacts } from '../../src/snapshot/verify/verdict.ts';
import { SnapshotVerifier, type VerifierOptions } from '../../src/snapshot/verify/verifier.ts';

/** As an etcd server cuts its snapshots. */
export const ETCD_PIECE = 32_768;

export function verify(bytes: Uint8Array, pieceSize = ETCD_PIECE, options?: VerifierOptions): Verdict {
  const verifier = new SnapshotVerifier(options);
  for (let at = 0; at < bytes.length; at += pieceSize) verifier.push(bytes.subarray(at, at + pieceSize));
  return verifier.finish();
}

/** The facts of a snapshot that must be sound. */
export function factsOf(verdict: Verdict) {
  if (verdict.ok) return verdict.snapshot.facts;
  throw new Error(`rejected: ${JSON.stringify(verdict.problems)}`);
}

/** The live keys of a snapshot, as a second pass finds them. */
export function liveKeysOf(bytes: Uint8Array, { keyPages }: SnapshotFacts): LiveKey[] {
  const keys = new LiveKeys();
  new KeyScanner(keyPages, (entry) => keys.visit(entry)).push(bytes);
  return keys.sorted();
}

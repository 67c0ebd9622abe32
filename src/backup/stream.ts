import { EtcdError, VerificationError } from '../errors.ts';
import type { Candidate } from '../etcd/choose.ts';
import type { MemberStatus } from '../etcd/connection.ts';
import { snapshotPieces } from '../etcd/snapshot.ts';
import type { Log } from '../log.ts';
import type { RecordedMember } from '../snapshot/record.ts';
import { SnapshotVerifier, type VerifiedSnapshot } from '../snapshot/verify.ts';
import type { StagedUpload } from '../store/upload.ts';

export interface StreamedSnapshot {
  readonly source: MemberStatus;
  readonly members: readonly RecordedMember[];
  readonly snapshot: VerifiedSnapshot;
  /** Holds the snapshot's bytes, staged and not yet visible. */
  readonly upload: StagedUpload;
}

/**
 * Streams a snapshot from the first candidate that gives a sound one. Each attempt begins from zero with an upload of its
 * own, so bytes of two members never mix.
 * @throws EtcdError or VerificationError of the last candidate; StorageError at once
 */
export async function streamFirstSound(
  candidates: readonly Candidate[],
  startUpload: () => StagedUpload,
  log: Log,
  signal: AbortSignal,
): Promise<StreamedSnapshot> {
  const [candidate, ...others] = candidates;
  if (candidate === undefined) throw new Error('there is no candidate');
  const upload = startUpload();
  try {
    const { endpoint, memberId, version, dbSize } = candidate.status;
    log.info('the snapshot is streamed', { endpoint, memberId, version, dbSize });
    const members = await candidate.connection.members();
    const snapshot = await stream(candidate, upload, signal);
    return { source: candidate.status, members, snapshot, upload };
  } catch (error) {
    upload.abort();
    const memberFailed = error instanceof EtcdError || error instanceof VerificationError;
    if (!memberFailed || signal.aborted || others.length === 0) throw error;
    log.warn(`${error.message} The next member is tried.`, { hint: error.hint });
    return streamFirstSound(others, startUpload, log, signal);
  }
}

async function stream({ connection }: Candidate, upload: StagedUpload, signal: AbortSignal): Promise<VerifiedSnapshot> {
  const verifier = new SnapshotVerifier();
  for await (const piece of snapshotPieces(connection, signal)) {
    verifier.push(piece);
    await upload.write(piece);
  }
  const verdict = verifier.finish();
  if (verdict.ok) return verdict.snapshot;
  throw new VerificationError(
    `The snapshot of ${connection.endpoint} is not sound: ${verdict.faults.map(({ message }) => message).join('; ')}.`,
    'Nothing was stored. Run again; if it persists, look at the disk of that member and at what stands between.',
  );
}

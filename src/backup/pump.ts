import type { Config } from '../config/config.ts';
import { VerificationError } from '../errors.ts';
import type { Candidate } from '../etcd/select-member.ts';
import { snapshotPieces } from '../etcd/snapshot-stream.ts';
import type { Log } from '../log.ts';
import type { StartProgress } from '../progress.ts';
import type { Verdict } from '../snapshot/verify/verdict.ts';
import type { VerifiedSnapshot } from '../snapshot/verify/verdict.ts';
import { SnapshotVerifier } from '../snapshot/verify/verifier.ts';
import { SpoolQueue } from '../spool/queue.ts';
import type { StagedUpload } from '../store/upload.ts';

/** Bytes that wait in memory for the upload before any are spilled: some tenths of a second of a fast stream. */
const QUEUE_BYTES = 16 * 1024 * 1024;

export interface PumpOptions {
  readonly config: Pick<Config, 'spoolDir' | 'spoolReserve'>;
  /** Bytes of memory for the verifier. */
  readonly memoryBudget: number;
  readonly startProgress: StartProgress;
  readonly log: Log;
  readonly signal: AbortSignal;
}

interface Pumped {
  readonly snapshot: VerifiedSnapshot;
  /** Milliseconds until etcd had sent everything: its read transaction was open for that long. */
  readonly readMs: number;
  /** Bytes that the upload was too slow for. */
  readonly spilledBytes: number;
}

/**
 * etcd → queue → verifier → upload. The queue takes what etcd sends as fast as it comes, while verifier and upload take from
 * it what they can: a slow uplink must not keep etcd's read transaction open.
 * @throws EtcdError, StorageError; VerificationError when the snapshot is not valid
 */
export async function pump(
  { connection, status }: Candidate,
  upload: StagedUpload,
  options: PumpOptions,
): Promise<Pumped> {
  const { config, memoryBudget, startProgress, log, signal } = options;
  const verifier = new SnapshotVerifier({ memoryBudget });
  const start = performance.now();
  let received = 0;
  let readMs = 0;
  const queue = new SpoolQueue({
    dir: config.spoolDir,
    reserve: config.spoolReserve,
    memoryBytes: QUEUE_BYTES,
    log,
    remaining: () => Math.max(0, status.dbSize - received),
  });
  const stop = new AbortController();
  const streaming = AbortSignal.any([signal, upload.failed, stop.signal]);
  const drain = async (): Promise<void> => {
    try {
      for await (const piece of snapshotPieces(connection, streaming, status)) {
        received += piece.length;
        await queue.push(piece);
      }
      queue.end();
    } catch (error) {
      queue.fail(error);
    }
    readMs = performance.now() - start;
  };
  const draining = drain();
  const progress = startProgress(`streaming from ${status.endpoint}`, status.dbSize);
  try {
    for await (const block of queue) {
      verifier.push(block);
      await upload.write(block);
      progress.advance(block.length);
    }
  } catch (error) {
    // etcd keeps its read transaction open for as long as the stream is.
    stop.abort(error);
    throw error;
  } finally {
    progress.end();
    await queue.close();
    await draining;
  }
  const verdict = verifier.finish();
  if (verdict.ok) return { snapshot: verdict.snapshot, readMs, spilledBytes: queue.spilledBytes };
  throw invalidStream(connection.endpoint, verdict);
}

/** The error for a snapshot that a member sent and that did not pass the verification. */
export function invalidStream(
  endpoint: string,
  { problems, report, undecided }: Verdict & { ok: false },
): VerificationError {
  const shown = problems.slice(0, 3).map(({ message }) => message);
  const more = report.faultCount - shown.length;
  return new VerificationError(
    `The snapshot of ${endpoint} ${undecided ? 'cannot be verified in one pass' : 'is not valid'}: ` +
      `${shown.join('; ')}${more > 0 ? `; and ${more} more` : ''}.`,
    'Nothing was stored. Run again; if it persists, check the disk of that member and the network in between.',
  );
}

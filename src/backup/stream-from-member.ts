import type { Config } from '../config/config.ts';
import { EtcdError, VerificationError } from '../errors.ts';
import type { MemberStatus } from '../etcd/messages.ts';
import { type Candidate, isCorrupt, onePerMember } from '../etcd/select-member.ts';
import { snapshotPieces } from '../etcd/snapshot-stream.ts';
import type { Log, Warnings } from '../log.ts';
import type { StartProgress } from '../progress.ts';
import type { RecordedMember, Seal } from '../snapshot/record.ts';
import type { Verdict, VerifiedSnapshot } from '../snapshot/verify/verdict.ts';
import type { Sealing } from '../sealed/sealing.ts';
import { SpoolQueue } from '../spool/queue.ts';
import type { StagedUpload } from '../store/upload.ts';
import { compareWithOthers, type Comparison, contradiction } from './compare-hash-kv.ts';
import { membersToRecord } from './make-record.ts';
import { type Staged, verifyAndStage } from './verify-and-stage.ts';

/** Bytes that wait in memory for the upload before any are spilled: some tenths of a second of a fast stream. */
const QUEUE_BYTES = 16 * 1024 * 1024;

export interface StreamedSnapshot {
  readonly source: MemberStatus;
  readonly snapshot: VerifiedSnapshot;
  /** Those of the running cluster, as its source lists them. */
  readonly members: readonly RecordedMember[];
  /** Holds the snapshot's bytes, staged and not yet visible. */
  readonly upload: StagedUpload;
  /** Of those bytes; undefined where they are the snapshot's file itself. */
  readonly seal: Seal | undefined;
  /** What the other members hold at the snapshot's revision; undefined if asking them would have cost too much. */
  readonly comparison: Comparison | undefined;
  /** Every member that was asked for a snapshot, in order; the last one gave it. */
  readonly attempts: readonly Attempt[];
  /** Bytes that went through the spool, because the upload was slow. */
  readonly spilledBytes: number;
  /** What casts doubt on the source itself, in sentences, where no other member could be taken. */
  readonly anomalies: readonly string[];
}

interface Attempt {
  readonly endpoint: string;
  readonly memberId: string;
  /** Why it was chosen, in words that follow "it". */
  readonly reason: string;
  /** Undefined for the one that succeeded. */
  readonly failure?: string;
  /** Seconds for which the member held a read transaction. */
  readonly readTransactionSeconds: number;
}

interface StreamOptions {
  readonly config: Pick<Config, 'hashKvMaxSize' | 'spoolDir' | 'spoolReserve'>;
  /** Bytes of memory for the verifier. */
  readonly memoryBudget: number;
  readonly startProgress: StartProgress;
  readonly startUpload: () => StagedUpload;
  /** Undefined where the blob is the snapshot's file itself. */
  readonly sealing: Sealing | undefined;
  readonly log: Log;
  readonly warnings: Warnings;
  readonly signal: AbortSignal;
}

/**
 * Streams a snapshot from the first member that gives a valid one. Each attempt begins from zero with an upload of its own:
 * bytes of two members never mix.
 * @throws EtcdError or VerificationError of the last member; StorageError immediately
 */
export async function streamFromFirstValidMember(
  endpoints: readonly Candidate[],
  options: StreamOptions,
): Promise<StreamedSnapshot> {
  const { config, log, signal, warnings } = options;
  const candidates = onePerMember(endpoints, log);
  const attempts: Attempt[] = [];
  const broken = new Set<Candidate>();
  for (const [index, candidate] of candidates.entries()) {
    const { connection, reason, status: source } = candidate;
    const { endpoint, memberId, version, dbSize } = source;
    const isLast = index === candidates.length - 1;
    // A member that did not answer an attempt would only cost time again; one whose snapshot was refused still has a vote.
    const others = candidates.filter((other) => other !== candidate && !broken.has(other));
    const upload = options.startUpload();
    const start = performance.now();
    let readMs: number | undefined;
    const ended = (failure?: string): void => {
      const readTransactionSeconds = Math.round(readMs ?? performance.now() - start) / 1000;
      attempts.push({ endpoint, memberId, reason, ...(failure && { failure }), readTransactionSeconds });
    };
    try {
      const role = source.isLeader ? 'leader' : 'follower';
      log.info('streaming snapshot', { endpoint, member: memberId, role, version, dbSize });
      const pumped = await pump(candidate, upload, options);
      readMs = pumped.readMs;
      const { snapshot, seal, spilledBytes } = pumped;
      await assertSameMember(candidate);
      const comparison = await compareWithOthers(snapshot.facts, others, config.hashKvMaxSize, warnings);
      const contradicted = comparison && contradiction(source, comparison);
      if (contradicted?.isDecidable === true && !isLast) throw contradicted.error;
      const members = await membersToRecord(connection, source, snapshot.facts, warnings);
      const anomalies = [
        ...(isCorrupt(source) ? [`Member ${memberId} has the alarm CORRUPT.`] : []),
        ...(contradicted === undefined ? [] : [contradicted.error.message]),
      ];
      ended();
      return { source, snapshot, members, upload, seal, comparison, attempts, spilledBytes, anomalies };
    } catch (error) {
      upload.abort();
      const memberFailed = error instanceof EtcdError || error instanceof VerificationError;
      if (!memberFailed || signal.aborted || isLast) throw error;
      warnings.add(`${error.message} The next member was tried.`, error.hint);
      ended(error.message);
      if (error instanceof EtcdError) broken.add(candidate);
    }
  }
  throw new Error('there is no candidate');
}

interface Pumped {
  readonly snapshot: VerifiedSnapshot;
  readonly seal: Seal | undefined;
  /** Milliseconds until etcd had sent everything: its read transaction was open for that long. */
  readonly readMs: number;
  readonly spilledBytes: number;
}

/**
 * etcd → queue → verifier → (sealer →) upload. The queue takes what etcd sends as fast as it comes, while verifier and upload take from
 * it what they can: a slow uplink must not keep etcd's read transaction open.
 * @throws EtcdError, StorageError; VerificationError when the snapshot is not valid
 */
async function pump({ connection, status }: Candidate, upload: StagedUpload, options: StreamOptions): Promise<Pumped> {
  const { config, startProgress, log, signal } = options;
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
      for await (const piece of snapshotPieces(connection, streaming)) {
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
  let staged: Staged;
  try {
    staged = await verifyAndStage(queue, upload, { ...options, progress });
  } catch (error) {
    // etcd keeps its read transaction open for as long as the stream is.
    stop.abort(error);
    throw error;
  } finally {
    await queue.close();
    await draining;
  }
  const { verdict, seal } = staged;
  if (verdict.ok) return { snapshot: verdict.snapshot, seal, readMs, spilledBytes: queue.spilledBytes };
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
    `The snapshot of ${endpoint} ${undecided ? 'could not be verified completely' : 'is not valid'}: ` +
      `${shown.join('; ')}${more > 0 ? `; and ${more} more` : ''}.`,
    undecided
      ? 'Nothing was stored. Raise the memory limit of the container, or save the snapshot with `etcdctl snapshot save` and check it with `etcdutl snapshot status`.'
      : 'Nothing was stored. Run the command again; if the problem persists, check the disk of that member and the network path to it.',
  );
}

/**
 * Without TLS nothing but the snapshot itself is protected against changed bits; the record must not name another cluster.
 * The snapshot of a member that has died since then is valid nevertheless.
 */
async function assertSameMember({ connection, status }: Candidate): Promise<void> {
  const again = await connection.status().catch(() => status);
  const isSame =
    again.clusterId === status.clusterId && again.memberId === status.memberId && again.version === status.version;
  if (isSame) return;
  throw new EtcdError(
    `A different member answered at ${status.endpoint} after the snapshot.`,
    'Set SNAPSHOT_ETCD_ENDPOINTS to the members, not a load balancer, and use https.',
  );
}

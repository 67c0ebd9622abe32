import type { Config } from '../config/config.ts';
import { EtcdError, VerificationError } from '../errors.ts';
import type { MemberStatus } from '../etcd/messages.ts';
import { type Candidate, isCorrupt, onePerMember } from '../etcd/select-member.ts';
import type { Log, Warnings } from '../log.ts';
import type { RecordedMember } from '../snapshot/record.ts';
import type { VerifiedSnapshot } from '../snapshot/verify/verdict.ts';
import type { StagedUpload } from '../store/upload.ts';
import { compareWithOthers, type Comparison, contradiction } from './compare-hash-kv.ts';
import { pump, type PumpOptions } from './pump.ts';
import { membersToRecord } from './make-record.ts';

export interface StreamedSnapshot {
  readonly source: MemberStatus;
  readonly snapshot: VerifiedSnapshot;
  /** Those of the running cluster, as its source lists them. */
  readonly members: readonly RecordedMember[];
  /** Holds the snapshot's bytes, staged and not yet visible. */
  readonly upload: StagedUpload;
  /** What the other members hold at the snapshot's revision; undefined when that would have cost too much. */
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

interface StreamOptions extends PumpOptions {
  readonly config: Pick<Config, 'hashKvMaxSize' | 'spoolDir' | 'spoolReserve'>;
  readonly startUpload: () => StagedUpload;
  readonly warnings: Warnings;
}

/**
 * Streams a snapshot from the first member that gives a valid one. Each attempt begins from zero with an upload of its own:
 * bytes of two members never mix.
 * @throws EtcdError or VerificationError of the last member; StorageError at once
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
    const isLast = index === candidates.length - 1;
    // A member that did not answer an attempt would only cost time again; one whose snapshot was refused still has a vote.
    const others = candidates.filter((other) => other !== candidate && !broken.has(other));
    const upload = options.startUpload();
    const start = performance.now();
    let readMs: number | undefined;
    try {
      logSource(candidate, log);
      const pumped = await pump(candidate, upload, options);
      readMs = pumped.readMs;
      const { facts } = pumped.snapshot;
      const comparison = await compareWithOthers(facts, others, config.hashKvMaxSize, warnings);
      const contradicted = comparison && contradiction(candidate.status, comparison);
      if (contradicted?.isDecidable === true && !isLast) throw contradicted.error;
      const members = await membersToRecord(candidate.connection, candidate.status, facts, warnings);
      attempts.push(attemptOf(candidate, readMs));
      return {
        source: candidate.status,
        snapshot: pumped.snapshot,
        members,
        upload,
        comparison,
        attempts,
        spilledBytes: pumped.spilledBytes,
        anomalies: [
          ...(isCorrupt(candidate.status) ? [`Member ${candidate.status.memberId} has the alarm CORRUPT.`] : []),
          ...(contradicted === undefined ? [] : [contradicted.error.message]),
        ],
      };
    } catch (error) {
      upload.abort();
      const memberFailed = error instanceof EtcdError || error instanceof VerificationError;
      if (!memberFailed || signal.aborted || isLast) throw error;
      warnings.add(`${error.message} The next member was tried.`, error.hint);
      attempts.push(attemptOf(candidate, readMs ?? performance.now() - start, error.message));
      if (error instanceof EtcdError) broken.add(candidate);
    }
  }
  throw new Error('there is no candidate');
}

function logSource({ reason, status }: Candidate, log: Log): void {
  const { endpoint, memberId: member, version, dbSize, isLeader } = status;
  log.info('streaming snapshot', { endpoint, member, role: isLeader ? 'leader' : 'follower', version, dbSize });
  log.debug('reason for this member', { member, reason });
}

function attemptOf({ reason, status: { endpoint, memberId } }: Candidate, readMs: number, failure?: string): Attempt {
  const readTransactionSeconds = Math.round(readMs) / 1000;
  return { endpoint, memberId, reason, ...(failure && { failure }), readTransactionSeconds };
}

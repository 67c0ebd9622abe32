import { EtcdError, VerificationError } from '../errors.ts';
import type { MemberStatus } from '../etcd/connection.ts';
import { type Candidate, isCorrupt, onePerMember } from '../etcd/select-member.ts';
import { snapshotPieces } from '../etcd/snapshot-stream.ts';
import type { Warnings, Log } from '../log.ts';
import type { StartProgress } from '../progress.ts';
import type { Member } from '../snapshot/verify/etcd-buckets.ts';
import { SnapshotVerifier, type Verdict, type VerifiedSnapshot } from '../snapshot/verify/verifier.ts';
import { SpoolQueue } from '../spool/queue.ts';
import type { Reserve } from '../spool/spool-file.ts';
import type { StagedUpload } from '../store/upload.ts';
import { compareHashKV, type Comparison } from './compare-hash-kv.ts';
import { membersToRecord } from './recorded-members.ts';

/** Bytes that wait in memory for the upload before any are spilled: some tenths of a second of a fast stream. */
const QUEUE_BYTES = 16 * 1024 * 1024;

interface StreamedSnapshot {
  readonly source: MemberStatus;
  readonly snapshot: VerifiedSnapshot;
  /** Those of the running cluster, as its source lists them. */
  readonly members: readonly Member[];
  /** Holds the snapshot's bytes, staged and not yet visible. */
  readonly upload: StagedUpload;
  /** What the other members hold at the snapshot's revision; undefined when that would have cost too much. */
  readonly comparison: Comparison | undefined;
  /** Every member that was asked for a snapshot, in order; the last one gave it. */
  readonly attempts: readonly Attempt[];
  /** Bytes that went through the spool, because the upload was slow. */
  readonly spilledBytes: number;
  /** What is suspicious about the source itself, where there was no better one. */
  readonly suspicions: readonly string[];
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
  readonly startUpload: () => StagedUpload;
  /** Bytes of database up to which the other members are asked for their HashKV. */
  readonly hashKvMaxSize: number;
  /** Where to spill what the upload is too slow for; undefined = nowhere, and etcd waits. */
  readonly spoolDir: string | undefined;
  readonly spoolReserve: Reserve | undefined;
  /** Bytes of memory for the verifier. */
  readonly memoryBudget: number;
  readonly startProgress: StartProgress;
  readonly log: Log;
  readonly findings: Warnings;
  readonly signal: AbortSignal;
}

/**
 * Streams a snapshot from the first candidate that gives a sound one. Each attempt begins from zero with an upload of its
 * own, so bytes of two members never mix.
 * @throws EtcdError or VerificationError of the last candidate; StorageError at once
 */
export async function streamFromFirstValidMember(
  endpoints: readonly Candidate[],
  options: StreamOptions,
): Promise<StreamedSnapshot> {
  const { log, signal, findings } = options;
  const candidates = onePerMember(endpoints, log);
  const attempts: Attempt[] = [];
  const broken = new Set<Candidate>();
  for (const [index, candidate] of candidates.entries()) {
    const isLast = index === candidates.length - 1;
    // A member that was silent a moment ago would only cost time again; one that contradicts may be right about the next.
    const others = candidates.filter((other) => other !== candidate && !broken.has(other));
    const upload = options.startUpload();
    const start = performance.now();
    let readMs: number | undefined;
    try {
      reportSource(candidate, log);
      const sound = await stream(candidate, upload, options);
      const { snapshot, spilledBytes } = sound;
      readMs = sound.readMs;
      const opinion = await askOthers(candidate, others, snapshot, isLast, options);
      const members = await membersToRecord(candidate.connection, candidate.status, snapshot.facts, findings);
      attempts.push(attempt(candidate, readMs));
      return { source: candidate.status, snapshot, members, upload, ...opinion, attempts, spilledBytes };
    } catch (error) {
      upload.abort();
      const memberFailed = error instanceof EtcdError || error instanceof VerificationError;
      if (!memberFailed || signal.aborted || isLast) throw error;
      findings.add(`${error.message} The next member was tried.`, error.hint);
      attempts.push(attempt(candidate, readMs ?? performance.now() - start, error.message));
      if (error instanceof EtcdError) broken.add(candidate);
    }
  }
  throw new Error('there is no candidate');
}

function reportSource({ reason, status: { endpoint, memberId, version, dbSize } }: Candidate, log: Log): void {
  log.info(`the snapshot is streamed from a member that ${reason}`, { endpoint, memberId, version, dbSize });
}

function attempt({ reason, status: { endpoint, memberId } }: Candidate, readMs: number, failure?: string): Attempt {
  const readTransactionSeconds = Math.round(readMs) / 1000;
  return { endpoint, memberId, reason, ...(failure && { failure }), readTransactionSeconds };
}

/**
 * What the other members say of a sound snapshot.
 * @throws VerificationError when they contradict it and there is another one to ask; EtcdError when its source is no longer the same
 */
async function askOthers(
  candidate: Candidate,
  others: readonly Candidate[],
  snapshot: VerifiedSnapshot,
  isLast: boolean,
  { hashKvMaxSize, findings }: StreamOptions,
): Promise<Pick<StreamedSnapshot, 'comparison' | 'suspicions'>> {
  await assertSameMember(candidate);
  const comparison = await compare(snapshot, others, hashKvMaxSize);
  if (comparison?.verdict === 'confirmed') reportDifferent(comparison, findings);
  else if (comparison !== undefined && !isLast && mayBeDecided(comparison)) throw contestedBy(candidate, comparison);
  return { comparison, suspicions: suspicionsOf(candidate, comparison) };
}

interface Sound {
  readonly snapshot: VerifiedSnapshot;
  /** Milliseconds until etcd had sent everything: so long its read transaction was open. */
  readonly readMs: number;
  /** Bytes that the upload was too slow for. */
  readonly spilledBytes: number;
}

/**
 * Takes what etcd sends into a queue as fast as it comes, while verifier and upload take from the queue what they can: a slow
 * uplink must not keep etcd's read transaction open.
 */
async function stream({ connection, status }: Candidate, upload: StagedUpload, options: StreamOptions): Promise<Sound> {
  const { memoryBudget, spoolDir, spoolReserve: reserve, startProgress, log, signal } = options;
  const verifier = new SnapshotVerifier({ memoryBudget });
  const start = performance.now();
  let received = 0;
  const remaining = (): number => Math.max(0, status.dbSize - received);
  const queue = new SpoolQueue({ dir: spoolDir, reserve, memoryBytes: QUEUE_BYTES, log, remaining });
  let readMs = 0;
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
  throw unsound(connection.endpoint, verdict);
}

export function unsound(endpoint: string, { faults, report, undecided }: Verdict & { ok: false }): VerificationError {
  const told = faults.slice(0, 3).map(({ message }) => message);
  const more = report.faultCount - told.length;
  return new VerificationError(
    `The snapshot of ${endpoint} ${undecided ? 'cannot be verified in one pass' : 'is not sound'}: ` +
      `${told.join('; ')}${more > 0 ? `; and ${more} more` : ''}.`,
    'Nothing was stored. Run again; if it persists, look at the disk of that member and at what stands between.',
  );
}

/**
 * Without TLS nothing but the snapshot itself is protected against changed bits; the record must not name another cluster.
 * A member that has died meanwhile has given its snapshot all the same.
 */
async function assertSameMember({ connection, status }: Candidate): Promise<void> {
  const again = await connection.status().catch(() => status);
  const isSame =
    again.clusterId === status.clusterId && again.memberId === status.memberId && again.version === status.version;
  if (isSame) return;
  throw new EtcdError(
    `etcd at ${status.endpoint} answered as another member after the snapshot.`,
    'Name the members themselves, not a load balancer, and use https.',
  );
}

/** Whether the snapshot of another member can be a better one: where two are of different minds, neither is. */
function mayBeDecided({ verdict, skipped }: Comparison): boolean {
  return verdict === 'outvoted' || skipped.length > 0;
}

async function compare(
  { facts }: VerifiedSnapshot,
  others: readonly Candidate[],
  maxSize: number,
): Promise<Comparison | undefined> {
  if (facts.hashKV === undefined || facts.totalSize > maxSize) return undefined;
  return compareHashKV(facts.hashKV, others);
}

/** Reasons to hold retention although there was no better source. */
function suspicionsOf(candidate: Candidate, comparison: Comparison | undefined): string[] {
  const corrupt = isCorrupt(candidate.status) ? [`Member ${candidate.status.memberId} has the alarm CORRUPT.`] : [];
  if (comparison === undefined || comparison.verdict === 'confirmed') return corrupt;
  return [...corrupt, contestedBy(candidate, comparison).message];
}

function reportDifferent(comparison: Comparison | undefined, findings: Warnings): void {
  for (const memberId of comparison?.disagree ?? []) {
    const sentence = `Member ${memberId} holds other data than the snapshot at the same revision.`;
    findings.add(sentence, 'That member is corrupt: replace it.');
  }
}

function contestedBy({ status }: Candidate, { disagree, verdict }: Comparison): VerificationError {
  const who = `Member ${status.memberId} at ${status.endpoint}`;
  const what = `${who} holds other data than ${disagree.join(' and ')} at the same revision`;
  return verdict === 'outvoted'
    ? new VerificationError(
        `${what}.`,
        'That member is corrupt: replace it (etcdctl endpoint hashkv shows the difference).',
      )
    : new VerificationError(
        `${what}, and it is not known which of them is corrupt.`,
        'Compare all members (etcdctl endpoint hashkv), and replace the one that differs from the majority.',
      );
}

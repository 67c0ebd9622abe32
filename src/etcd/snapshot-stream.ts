import { addAbortListener } from 'node:events';
import { EtcdError } from '../errors.ts';
import type { Connection } from './connection.ts';
import { etcdError } from './errors.ts';
import type { MemberStatus, MoreStatus } from './messages.ts';

/** Milliseconds without progress until a stream is cancelled. */
const STALL_MS = 30_000;

/** Tolerated messages without bytes in a row; a server that lost its database file sends them without end. */
const EMPTY_MESSAGES = 16;

/** The sha256 that the server sends after the database. */
const TRAILER_SIZE = 32;

/**
 * The bytes of one member's snapshot, exactly as `etcdctl snapshot save` writes them. Ends normally only if the server ended the
 * stream with status OK after all bytes that it announced (specification: the Snapshot RPC). Leaving the loop early cancels the
 * call.
 * @param expected who must send it
 * @throws EtcdError for everything else; the abort's reason if `signal` is aborted
 */
export async function* snapshotPieces(
  connection: Connection,
  signal: AbortSignal,
  expected?: MemberStatus,
  stallMs = STALL_MS,
): AsyncGenerator<Buffer, void, void> {
  let hasBegun = false;
  for (let renewed = false; ; renewed = true) {
    try {
      signal.throwIfAborted();
      for await (const piece of oneStream(connection, signal, expected, stallMs)) {
        hasBegun = true;
        yield piece;
      }
      return;
    } catch (error) {
      const isExpired = !hasBegun && !renewed && connection.dropsToken(error);
      if (signal.aborted || !isExpired) throw etcdError(connection.endpoint, signal.aborted ? signal.reason : error);
    }
  }
}

/** Cancels the call on abort, when the consumer leaves, or if no bytes arrive for a while. */
async function* oneStream(
  connection: Connection,
  signal: AbortSignal,
  expected: MemberStatus | undefined,
  stallMs: number,
): AsyncGenerator<Buffer, void, void> {
  const { endpoint } = connection;
  const maintenance = await unlessAborted(connection.maintenance(), signal, (late) => late.close());
  let announced: number | undefined;
  let storageVersion: string | undefined;
  let received = 0;
  let empty = 0;
  let waiting = true;
  let stalled = false;
  const timer = setTimeout(() => {
    // While the consumer works on a piece, the server is not to blame.
    if (!waiting) return;
    stalled = true;
    maintenance.close();
  }, stallMs);
  const listener = addAbortListener(signal, () => maintenance.close());
  try {
    if (expected !== undefined) assertSameMember(expected, await maintenance.status());
    for await (const { remaining, pieces, version } of maintenance.snapshot()) {
      for (const piece of pieces) received += piece.length;
      announced ??= remaining + received + TRAILER_SIZE;
      storageVersion ??= version;
      if (pieces.length === 0) {
        if (++empty > EMPTY_MESSAGES) throw stuck(endpoint, 'sends messages without data', received, announced);
        continue;
      }
      if (remaining !== Math.max(0, announced - TRAILER_SIZE - received) || version !== storageVersion) {
        throw new EtcdError(
          `The snapshot stream of ${endpoint} is inconsistent after ${received} bytes.`,
          'Use https, and set SNAPSHOT_ETCD_ENDPOINTS to the members: a proxy may change data.',
        );
      }
      empty = 0;
      waiting = false;
      yield* pieces;
      waiting = true;
      timer.refresh();
    }
  } catch (error) {
    throw stalled ? stuck(endpoint, `made no progress for ${stallMs / 1000} s`, received, announced) : error;
  } finally {
    listener[Symbol.dispose]();
    clearTimeout(timer);
    maintenance.close();
  }
  if (received !== announced) {
    throw new EtcdError(
      `The snapshot stream of ${endpoint} ended after ${received} of ${announced ?? 'unknown'} bytes.`,
      'Set SNAPSHOT_ETCD_ENDPOINTS to the members: a proxy or load balancer may have ended the connection.',
    );
  }
}

/**
 * A load balancer can lead to another member than before, and without TLS an id can be changed on the way: the record must not
 * name another member.
 */
function assertSameMember(expected: MemberStatus, { clusterId, memberId, version }: MoreStatus): void {
  if (expected.clusterId === clusterId && expected.memberId === memberId && expected.version === version) return;
  throw new EtcdError(
    `etcd at ${expected.endpoint} answers as another member than before.`,
    'Set SNAPSHOT_ETCD_ENDPOINTS to the members, not a load balancer, and use https.',
  );
}

function stuck(endpoint: string, how: string, received: number, announced: number | undefined): EtcdError {
  return new EtcdError(
    `The snapshot stream of ${endpoint} ${how} after ${received} of ${announced ?? 'unknown'} bytes.`,
    "Check that member's disk and log; its database file may be unreadable.",
  );
}

/**
 * The result of work that does not use the signal, or the abort's reason at once.
 * @param dispose gets a result that comes after that
 */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal, dispose: (late: T) => void): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const listener = addAbortListener(signal, () => {
    work.then(dispose).catch(() => {});
    reject(signal.reason);
  });
  try {
    return await Promise.race([aborted, work]);
  } finally {
    listener[Symbol.dispose]();
  }
}

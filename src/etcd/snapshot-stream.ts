import { addAbortListener } from 'node:events';
import { EtcdError } from '../errors.ts';
import type { Connection } from './connection.ts';
import { etcdError } from './errors.ts';

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
 * @throws EtcdError for everything else; the abort's reason if `signal` is aborted
 */
export async function* snapshotPieces(
  connection: Connection,
  signal: AbortSignal,
  stallMs = STALL_MS,
): AsyncGenerator<Buffer, void, void> {
  let hasBegun = false;
  for (let renewed = false; ; renewed = true) {
    try {
      signal.throwIfAborted();
      for await (const piece of oneStream(connection, signal, stallMs)) {
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
  stallMs: number,
): AsyncGenerator<Buffer, void, void> {
  const { endpoint } = connection;
  const call = await unlessAborted(connection.snapshot(), signal, (late) => late.cancel());
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
    call.cancel();
  }, stallMs);
  const listener = addAbortListener(signal, () => call.cancel());
  try {
    for await (const { remaining, blob, version } of call) {
      received += blob.length;
      announced ??= remaining + received + TRAILER_SIZE;
      storageVersion ??= version;
      if (blob.length === 0) {
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
      yield blob;
      waiting = true;
      timer.refresh();
    }
  } catch (error) {
    throw stalled ? stuck(endpoint, `made no progress for ${stallMs / 1000} s`, received, announced) : error;
  } finally {
    listener[Symbol.dispose]();
    clearTimeout(timer);
    call.cancel();
  }
  if (received !== announced) {
    throw new EtcdError(
      `The snapshot stream of ${endpoint} ended after ${received} of ${announced ?? 'unknown'} bytes.`,
      'Set SNAPSHOT_ETCD_ENDPOINTS to the members: a proxy or load balancer may have ended the connection.',
    );
  }
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

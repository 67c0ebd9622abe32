import { isRestError } from '@azure/storage-blob';
import { messageOf, RunTimeout, StorageError, WorkerError } from '../errors.ts';
import { excerpt } from '../text.ts';
import { tokenRefusal } from './entra.ts';
import type { Failure, Place, Sentence } from './failure.ts';
import { isBroken, isUnheard, networkFault } from './network.ts';
import { refusal } from './refusals.ts';

/** One try of a request took longer than it may. */
export class TryTimeout extends Error {
  constructor(ms: number, cause: unknown) {
    super(`no answer within ${ms / 1000} s`, { cause });
    this.name = 'TryTimeout';
  }
}

/**
 * Azure's error code, the network's, or the name of what was thrown. Answers to HEAD have no body, so the SDK finds no code
 * there and the header must be asked.
 */
export function codeOf(error: unknown): string {
  if (isRestError(error)) {
    const fromHeader = error.response?.headers.get('x-ms-error-code');
    return fromHeader ?? error.code ?? String(error.statusCode ?? error.name);
  }
  if (error instanceof StorageError) return error.code;
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') return error.code;
  return error instanceof Error ? error.name : 'unknown';
}

/** Whether trying again can help. The SDK itself gives up on 408, 429, 502 and 504, which proxies produce. */
export function isTransient(error: unknown): boolean {
  if (error instanceof TryTimeout) return true;
  const code = codeOf(error);
  // The answer's body broke off, or something between has written another one.
  if (code === 'PARSE_ERROR') return true;
  // Something between changed what was sent: the buffer still holds it as it was.
  if (code === 'Md5Mismatch') return true;
  if (isRestError(error) && error.statusCode !== undefined) {
    return [408, 429, 500, 502, 503, 504].includes(error.statusCode) || code === 'ContainerBeingDeleted';
  }
  return isBroken(code) || code === 'AbortError';
}

/** Whether Azure itself answered, and not a proxy on the way: then the configuration leads to it. */
export function isAnswer(error: unknown): boolean {
  return requestIdOf(error) !== undefined;
}

/**
 * Whether nothing came at all, which may pass: somebody who says no is another matter. So is the identity endpoint of a
 * machine, which is near: where it is silent, there is none.
 */
export function isSilence(error: unknown, { host, source }: Place): boolean {
  if (source === 'managed-identity' && hostOf(error) !== host) return false;
  return error instanceof TryTimeout || isUnheard(codeOf(error));
}

/** Milliseconds that the service asked us to wait, if it did: it names seconds or a date. */
export function retryAfterMs(error: unknown): number | undefined {
  const value = headerOf(error, 'retry-after');
  if (value === undefined) return undefined;
  const ms = /^\d{1,6}$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isNaN(ms) ? undefined : Math.max(0, ms);
}

/**
 * Turns what the SDK threw into our error; errors of our own pass through.
 * @param doing completes "Azure failed while …"
 * @param before what the last try failed with, where the run's end came while it was waited for the next
 */
export function storageError(place: Place, doing: string, error: unknown, before?: unknown): WorkerError {
  if (error instanceof WorkerError) return error;
  if (error instanceof RunTimeout) {
    const last = before === undefined ? '' : `; the last try failed: ${storageError(place, doing, before).message}`;
    return new StorageError(
      'RunTimeout',
      `${error.message} while ${doing}${last || '.'}`,
      'Is the uplink slow? Raise SNAPSHOT_TIMEOUT (and the Job deadline above it).',
      error,
    );
  }
  // Whatever answers may be no Azure: no more of it is shown than of Azure's own.
  const code = excerpt(codeOf(error), 64);
  const requestId = requestIdOf(error);
  const [message, hint] = explain({
    place,
    doing,
    code,
    text: messageOf(error),
    host: hostOf(error) ?? place.host,
    minutesOff: minutesOff(error),
    waitMs: retryAfterMs(error),
  });
  return new StorageError(
    code,
    `${excerpt(message, 500)} [${code}${requestId === undefined ? '' : `, request ${requestId}`}]`,
    hint,
    error,
  );
}

function explain(failure: Failure): Sentence {
  return networkFault(failure) ?? tokenRefusal(failure) ?? refusal(failure) ?? anythingElse(failure);
}

function anythingElse({ doing, waitMs }: Failure): Sentence {
  return [
    `Azure failed while ${doing}.`,
    waitMs === undefined
      ? 'Look the code up in the documentation of Azure Blob Storage; without a request id it came from a proxy.'
      : `Azure is too busy and asks to wait ${Math.ceil(waitMs / 1000)} s: run the command after that.`,
  ];
}

/** The name of a new snapshot is in use; the blob that has it is left as it is. */
export function nameTaken(name: string, cause?: unknown): StorageError {
  return new StorageError(
    'BlobAlreadyExists',
    `A blob named ${name} exists already; it was left as it is.`,
    'Another worker took a snapshot in the same second. Run the command again.',
    cause,
  );
}

/** Somebody else wrote to the name of a new snapshot, so that its blocks cannot be committed; no blob has it now. */
export function nameContested(name: string, cause: unknown): StorageError {
  return new StorageError(
    codeOf(cause),
    `Another worker wrote to the name ${name} before this snapshot was committed; nothing was overwritten.`,
    'Run the command again. If there is no other worker, somebody deleted the blob as soon as it was stored.',
    cause,
  );
}

/** When the service answered by its own clock, in milliseconds since 1970, to a second. */
export function serverTimeOf(error: unknown): number | undefined {
  const date = Date.parse(headerOf(error, 'date') ?? '');
  return Number.isNaN(date) ? undefined : date;
}

function headerOf(error: unknown, name: string): string | undefined {
  return isRestError(error) ? error.response?.headers.get(name) : undefined;
}

function requestIdOf(error: unknown): string | undefined {
  const id = headerOf(error, 'x-ms-request-id');
  return id === undefined ? undefined : excerpt(id, 64);
}

/** Never more than the host of an address: the rest of it may hold a signature. */
function hostOf(error: unknown): string | undefined {
  if (error instanceof TryTimeout) return hostOf(error.cause);
  return isRestError(error) && error.request !== undefined ? new URL(error.request.url).host : undefined;
}

function minutesOff(error: unknown): number {
  const serverTime = serverTimeOf(error);
  return serverTime === undefined ? 0 : Math.floor(Math.abs(Date.now() - serverTime) / 60_000);
}

import { addAbortListener } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { type BlobClient, isRestError } from '@azure/storage-blob';
import type { Log } from '../log.ts';
import {
  BROKEN,
  codeOf,
  type Endpoint,
  headerOf,
  hostOf,
  isMissing,
  retryAfterMs,
  storageError,
  TryTimeout,
  UNTRUSTED,
} from './errors.ts';

/** How long the store is waited for, in milliseconds. */
export interface Deadlines {
  /** For the answer to one try of a small request, and for the next bytes of a long answer. */
  readonly tryMs: number;
  /** For one try that sends data, in addition to the time that the slowest line takes for it. */
  readonly sendMs: number;
  /** Bytes per second of the slowest line. */
  readonly slowestLine: number;
  /** How long a request without progress is retried. */
  readonly retryMs: number;
  /**
   * The same as long as Azure has never answered, not even with a refusal, and the error is more likely one of the
   * configuration: connection refused, unknown host, another server.
   */
  readonly firstRetryMs: number;
  /**
   * For the answer to the first small request. Silence can be a lost packet, a slow name server or a slow proxy, so each try
   * gets twice the time of the one before, until `retryMs` is over.
   */
  readonly firstTryMs: number;
}

export const DEADLINES: Deadlines = {
  tryMs: 20_000,
  sendMs: 60_000,
  slowestLine: 100_000,
  retryMs: 120_000,
  firstRetryMs: 6_000,
  firstTryMs: 6_000,
};

/** Also the shortest pause, even if the service asks for none. */
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 10_000;

/** One try of a request. It ends with the signal; `progressed` resets the deadlines when a part of a long answer came. */
type Try<T> = (signal: AbortSignal, progressed: () => void) => Promise<T>;

interface SendOptions {
  /** Bytes that a try sends. */
  readonly bytes?: number;
  /** Ends the tries instead of the run's own. */
  readonly signal?: AbortSignal;
}

/**
 * Sends the requests of one run. Each try has its own deadline, because the SDK has none; transient failures are retried with
 * full jitter, because the SDK retries too few of them and without jitter. An abort of the run ends everything immediately.
 */
export class Requests {
  readonly endpoint: Endpoint;
  readonly #signal: AbortSignal;
  readonly #log: Log;
  readonly #deadlines: Deadlines;
  #answered = false;

  constructor(endpoint: Endpoint, signal: AbortSignal, log: Log, deadlines: Deadlines) {
    this.endpoint = endpoint;
    this.#signal = signal;
    this.#log = log;
    this.#deadlines = deadlines;
  }

  /**
   * @param doing completes "failed while …"
   * @throws StorageError, or the run's abort reason
   */
  async send<T>(doing: string, request: Try<T>, { bytes, signal = this.#signal }: SendOptions = {}): Promise<T> {
    let start = performance.now();
    /** Since when there was only silence, or only something else. */
    let since = start;
    let wasSilent: boolean | undefined;
    let attempt = 0;
    let failure: unknown;
    const progressed = (): void => {
      this.#answered = true;
      start = performance.now();
      attempt = 0;
    };
    for (;;) {
      try {
        const result = await oneTry(request, this.#tryMs(bytes, attempt, start), signal, progressed);
        this.#answered = true;
        return result;
      } catch (error) {
        if (signal.aborted) throw storageError(this.endpoint, doing, signal.reason, failure);
        failure = error;
        if (isAnswer(error)) this.#answered = true;
        const silent = isSilence(error, this.endpoint);
        if (silent !== wasSilent) since = wasSilent === undefined ? start : performance.now();
        wasSilent = silent;
        const longest = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** attempt++);
        const pause = Math.max(retryAfterMs(error) ?? 0, FIRST_PAUSE_MS + Math.random() * longest);
        const left = this.#answered || silent ? this.#left('retryMs', start) : this.#left('firstRetryMs', since);
        if (!isTransient(error) || pause >= left) throw storageError(this.endpoint, doing, error);
        this.#log.warn('request to Azure failed, retrying', { doing, code: codeOf(error), attempt });
        await sleep(pause, undefined, { signal }).catch(() => {
          throw storageError(this.endpoint, doing, signal.reason, error);
        });
      }
    }
  }

  #left(deadline: 'retryMs' | 'firstRetryMs', start: number): number {
    return this.#deadlines[deadline] - (performance.now() - start);
  }

  #tryMs(bytes: number | undefined, attempt: number, start: number): number {
    const { tryMs, sendMs, slowestLine, firstTryMs } = this.#deadlines;
    if (bytes !== undefined) return sendMs + Math.ceil(bytes / slowestLine) * 1000;
    if (this.#answered) return tryMs;
    return Math.max(FIRST_PAUSE_MS, Math.min(firstTryMs * 2 ** attempt, this.#left('retryMs', start)));
  }
}

async function oneTry<T>(request: Try<T>, ms: number, signal: AbortSignal, progressed: () => void): Promise<T> {
  const controller = new AbortController();
  const abort = (): void => controller.abort();
  const timer = setTimeout(abort, ms);
  const listener = addAbortListener(signal, abort);
  try {
    signal.throwIfAborted();
    return await request(controller.signal, () => {
      timer.refresh();
      progressed();
    });
  } catch (error) {
    throw controller.signal.aborted && !signal.aborted ? new TryTimeout(ms, error) : error;
  } finally {
    clearTimeout(timer);
    listener[Symbol.dispose]();
  }
}

/** Whether another try can help. The SDK itself gives up on 408, 429, 502 and 504, which proxies produce. */
function isTransient(error: unknown): boolean {
  const code = codeOf(error);
  // PARSE_ERROR: the body of the answer broke off. Md5Mismatch: what was sent was changed in transit.
  if (['TryTimeout', 'AbortError', 'PARSE_ERROR', 'Md5Mismatch', 'ContainerBeingDeleted'].includes(code)) return true;
  if (isRestError(error) && error.statusCode !== undefined) {
    return [408, 429, 500, 502, 503, 504].includes(error.statusCode);
  }
  return BROKEN.test(code) && !UNTRUSTED.test(code);
}

/** Whether Azure itself answered, and not a proxy in between: then the configuration leads to it. */
function isAnswer(error: unknown): boolean {
  return headerOf(error, 'x-ms-request-id') !== undefined;
}

/**
 * Whether there was no answer at all, which may pass, unlike a refusal. The identity endpoint of a machine is near: where it
 * is silent, there is none, and its silence counts as a refusal.
 */
function isSilence(error: unknown, { host, source }: Endpoint): boolean {
  if (source === 'managed-identity' && hostOf(error) !== host) return false;
  return ['TryTimeout', 'ETIMEDOUT', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH'].includes(codeOf(error));
}

/**
 * Whether a request that demanded an etag failed because the blob is gone: the service may only have said that the etag is
 * another, and is asked again.
 * @throws StorageError
 */
export async function isGone(
  blob: BlobClient,
  error: unknown,
  requests: Requests,
  signal?: AbortSignal,
): Promise<boolean> {
  if (codeOf(error) !== 'ConditionNotMet') return isMissing(error);
  const exists = (abortSignal: AbortSignal): Promise<boolean> => blob.exists({ abortSignal });
  return !(await requests.send(`looking for ${blob.name}`, exists, signal && { signal }));
}

/** A signal that is aborted some time after another one, with the same reason. */
export function abortedAfter(signal: AbortSignal, ms: number): AbortSignal {
  const controller = new AbortController();
  addAbortListener(signal, () => void setTimeout(() => controller.abort(signal.reason), ms).unref());
  return controller.signal;
}

import { setTimeout as sleep } from 'node:timers/promises';
import { onAbort } from '../abort.ts';
import type { Log } from '../log.ts';
import {
  codeOf,
  isAnswer,
  isSilence,
  isTransient,
  type Place,
  retryAfterMs,
  storageError,
  TryTimeout,
} from './errors.ts';

/** How long the store is waited for, in milliseconds. */
export interface Deadlines {
  /** For the answer to one try of a small request, and for the next bytes of a long answer. */
  readonly tryMs: number;
  /** For one try that sends data; besides, it may take as long as the slowest line needs. */
  readonly sendMs: number;
  /** Bytes per second that a line carries at the least. */
  readonly slowestLine: number;
  /** For how long a request that makes no progress is tried again. */
  readonly patienceMs: number;
  /**
   * The same while Azure has never answered, be it with a refusal, and what comes instead is more likely a fault of the
   * configuration than one that passes: a refused connection, a name that does not exist, somebody else's answer.
   */
  readonly firstPatienceMs: number;
  /**
   * For the answer to a first small request. Silence may be a lost packet, a slow name server or a slow proxy, so each try
   * gets twice the time of the one before, until deadline is over.
   */
  readonly firstTryMs: number;
}

export const DEADLINES: Deadlines = {
  tryMs: 20_000,
  sendMs: 60_000,
  slowestLine: 100_000,
  patienceMs: 120_000,
  firstPatienceMs: 6_000,
  firstTryMs: 6_000,
};

/** The least, too, whatever the service says: it may ask for none at all. */
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 10_000;

/**
 * One try of a request. It ends with the signal; `progressed` is called when something came of a long answer, and starts the
 * deadlines and the deadline anew.
 */
type Try<T> = (signal: AbortSignal, progressed: () => void) => Promise<T>;

interface SendOptions {
  /** Bytes that a try sends, where it sends data. */
  readonly bytes?: number;
  /** Ends the tries instead of the run's own. */
  readonly signal?: AbortSignal;
}

/**
 * Sends the requests of one run: each try with its own deadline, because the SDK has none; transient failures again, with
 * full jitter, because the SDK retries too few of them and without jitter. An abort of the run ends all of it at once.
 */
export class Requests {
  readonly place: Place;
  readonly #signal: AbortSignal;
  readonly #log: Log;
  readonly #deadlines: Deadlines;
  #answered = false;

  constructor(place: Place, signal: AbortSignal, log: Log, deadlines: Deadlines) {
    this.place = place;
    this.#signal = signal;
    this.#log = log;
    this.#deadlines = deadlines;
  }

  /**
   * @param doing completes "failed while …"
   * @param request is called once a try
   * @throws StorageError, or the run's abort reason
   */
  async send<T>(doing: string, request: Try<T>, { bytes, signal = this.#signal }: SendOptions = {}): Promise<T> {
    let start = performance.now();
    /** Since when nothing but silence came, or nothing but what is no silence. */
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
        if (signal.aborted) throw storageError(this.place, doing, signal.reason, failure);
        failure = error;
        if (isAnswer(error)) this.#answered = true;
        const silent = isSilence(error, this.place);
        if (silent !== wasSilent) since = wasSilent === undefined ? start : performance.now();
        wasSilent = silent;
        const left = this.#patienceLeft(start, since, silent);
        const longest = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** attempt++);
        const pause = Math.max(retryAfterMs(error) ?? 0, FIRST_PAUSE_MS + Math.random() * longest);
        if (!isTransient(error) || pause >= left) throw storageError(this.place, doing, error);
        this.#log.warn('a request to Azure failed and is tried again', { doing, code: codeOf(error), attempt });
        await sleep(pause, undefined, { signal }).catch(() => {
          throw storageError(this.place, doing, signal.reason, error);
        });
      }
    }
  }

  #patienceLeft(start: number, since: number, silent: boolean): number {
    const { patienceMs, firstPatienceMs } = this.#deadlines;
    const now = performance.now();
    return this.#answered || silent ? patienceMs - (now - start) : firstPatienceMs - (now - since);
  }

  #tryMs(bytes: number | undefined, attempt: number, start: number): number {
    const { tryMs, sendMs, slowestLine, patienceMs, firstTryMs } = this.#deadlines;
    if (bytes !== undefined) return sendMs + Math.ceil(bytes / slowestLine) * 1000;
    if (this.#answered) return tryMs;
    const left = patienceMs - (performance.now() - start);
    return Math.max(FIRST_PAUSE_MS, Math.min(firstTryMs * 2 ** attempt, left));
  }
}

async function oneTry<T>(request: Try<T>, ms: number, signal: AbortSignal, progressed: () => void): Promise<T> {
  const controller = new AbortController();
  const abort = (): void => controller.abort();
  const timer = setTimeout(abort, ms);
  const stopWatching = onAbort(signal, abort);
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
    stopWatching();
  }
}

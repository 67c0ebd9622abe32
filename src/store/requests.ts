import { setTimeout as sleep } from 'node:timers/promises';
import type { Log } from '../log.ts';
import { codeOf, isAnswer, isTransient, retryAfterMs, storageError, TryTimeout } from './errors.ts';
import type { Place } from './failure.ts';

/**
 * While Azure has never answered, be it with a refusal, a fault is more likely in the configuration than passing: say so
 * soon.
 */
const FIRST_PATIENCE_MS = 6_000;
const PATIENCE_MS = 120_000;

/** One small request; its answer comes within a fraction of a second. */
const TRY_MS = 20_000;

const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 10_000;

/**
 * Sends the requests of one run: each try with its own deadline, because the SDK has none; transient failures again, with
 * full jitter, because the SDK retries too few of them and without jitter. An abort of the run ends all of it at once.
 */
export class Requests {
  readonly place: Place;
  readonly #signal: AbortSignal;
  readonly #log: Log;
  #answered = false;

  constructor(place: Place, signal: AbortSignal, log: Log) {
    this.place = place;
    this.#signal = signal;
    this.#log = log;
  }

  /**
   * @param doing completes "failed while …"
   * @param request is called once a try, with the signal that ends the try
   * @param tryMs how long one try may take; more than the default where data is moved
   * @param signal ends the tries as well, besides the run's own
   * @throws StorageError, or the run's abort reason
   */
  async send<T>(
    doing: string,
    request: (signal: AbortSignal) => Promise<T>,
    tryMs = TRY_MS,
    signal = this.#signal,
  ): Promise<T> {
    const start = performance.now();
    let failure: unknown;
    for (let attempt = 0; ; attempt++) {
      try {
        const isPatient = this.#answered || tryMs > TRY_MS;
        const result = await oneTry(request, isPatient ? tryMs : Math.min(tryMs, FIRST_PATIENCE_MS), signal);
        this.#answered = true;
        return result;
      } catch (error) {
        if (signal.aborted) throw storageError(this.place, doing, signal.reason, failure);
        failure = error;
        if (isAnswer(error)) this.#answered = true;
        const patience = this.#answered ? PATIENCE_MS : FIRST_PATIENCE_MS;
        const left = patience - (performance.now() - start);
        const pause = retryAfterMs(error) ?? Math.random() * Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** attempt);
        if (!isTransient(error) || pause >= left) throw storageError(this.place, doing, error);
        this.#log.warn('a request to Azure failed and is tried again', {
          doing,
          code: codeOf(error),
          attempt: attempt + 1,
        });
        await sleep(pause, undefined, { signal }).catch(() => {
          throw storageError(this.place, doing, signal.reason, error);
        });
      }
    }
  }
}

/** For data: a minute, and more for a line that carries no more than 100 kB/s. */
export function transferMs(bytes: number): number {
  return 60_000 + bytes / 100;
}

async function oneTry<T>(request: (signal: AbortSignal) => Promise<T>, ms: number, signal: AbortSignal): Promise<T> {
  const controller = new AbortController();
  const abort = (): void => controller.abort();
  const timer = setTimeout(abort, ms);
  signal.addEventListener('abort', abort);
  try {
    signal.throwIfAborted();
    return await request(controller.signal);
  } catch (error) {
    throw controller.signal.aborted && !signal.aborted ? new TryTimeout(ms, error) : error;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', abort);
  }
}

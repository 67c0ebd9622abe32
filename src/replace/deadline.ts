import { setTimeout as sleep } from 'node:timers/promises';
import { EtcdError, RunTimeout, UnsafeError } from '../errors.ts';

const PAUSE_MS = 1_000;

/** Waits for the cluster in short pauses, and not for ever. */
export class Deadline {
  readonly #signal: AbortSignal;
  readonly #limitMs: number;
  #since: number | undefined;

  /** @param limitMs how long one thing may be waited for */
  constructor(signal: AbortSignal, limitMs: number) {
    this.#signal = signal;
    this.#limitMs = limitMs;
  }

  /** Something was done: the time for the next thing begins. */
  renew(): void {
    this.#since = performance.now();
  }

  /** @param why what is not as it should be: thrown when that was waited for long enough */
  async pause(why: unknown): Promise<void> {
    this.#since ??= performance.now();
    if (performance.now() - this.#since > this.#limitMs) throw why;
    // An abort ends the pause, and is told by the next look at the clock.
    await sleep(PAUSE_MS, undefined, { signal: this.#signal }).catch(() => {});
  }

  /** The same for a failure that comes right by itself, as an election does, if something was done or waited for before it. */
  async bear(error: unknown): Promise<undefined> {
    const mayPass = error instanceof UnsafeError || error instanceof EtcdError;
    if (this.#since === undefined || !mayPass) throw error;
    await this.pause(error);
    return undefined;
  }

  /** @throws UnsafeError when the time of the whole run is over; the signal's error when one came */
  assertTime(): void {
    if (this.#signal.reason instanceof RunTimeout) throw unfinished(`${this.#signal.reason.message}.`);
    this.#signal.throwIfAborted();
  }
}

/** @param why in a sentence */
export function unfinished(why: string): UnsafeError {
  return new UnsafeError(
    `The replacement is not finished: ${why}`,
    'Run the same command again: it goes on from here.',
  );
}

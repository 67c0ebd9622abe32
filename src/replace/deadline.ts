import { setTimeout as sleep } from 'node:timers/promises';
import { EtcdError, RunTimeout, UnsafeError } from '../errors.ts';

const PAUSE_MS = 1_000;

/** Limits how long the loop waits for the cluster to be ready for the next step. */
export class Deadline {
  readonly #signal: AbortSignal;
  readonly #limitMs: number;
  #since: number | undefined;

  constructor(signal: AbortSignal, limitMs: number) {
    this.#signal = signal;
    this.#limitMs = limitMs;
  }

  /** Call after a step: the time for the next one begins. */
  renew(): void {
    this.#since = performance.now();
  }

  /** @throws `why` when the time is over */
  async pause(why: unknown): Promise<void> {
    this.#since ??= performance.now();
    if (performance.now() - this.#since > this.#limitMs) throw why;
    // An abort ends the pause; assertTime throws it.
    await sleep(PAUSE_MS, undefined, { signal: this.#signal }).catch(() => {});
  }

  /** Pauses after an error that can pass, such as that of an election, if a step was done or awaited before it. */
  async retryOrThrow(error: unknown): Promise<undefined> {
    const canPass = error instanceof UnsafeError || error instanceof EtcdError;
    if (this.#since === undefined || !canPass) throw error;
    await this.pause(error);
    return undefined;
  }

  /** @throws UnsafeError after SNAPSHOT_TIMEOUT; the signal's error when one came */
  assertTime(): void {
    if (this.#signal.reason instanceof RunTimeout) throw unfinished(`${this.#signal.reason.message}.`);
    this.#signal.throwIfAborted();
  }
}

/** @param why a sentence */
export function unfinished(why: string): UnsafeError {
  return new UnsafeError(
    `The replacement is not finished: ${why}`,
    'Run the same command again: it continues from here.',
  );
}

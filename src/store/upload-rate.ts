import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';

/** Bytes that are sent at once. */
const PIECE = 64 * 1024;

/** How much of the rate can be caught up after a pause, in milliseconds: timers are not exact. */
const BURST_MS = 100;

/** Limits how fast bytes are sent, all uploads of a store together: a token bucket that holds a tenth of a second. */
export class UploadRate {
  readonly #bytesPerMs: number;
  /** When all bytes that were taken are sent at this rate, by `performance.now()`. */
  #sentAt = 0;

  constructor(bytesPerSecond: number) {
    this.#bytesPerMs = bytesPerSecond / 1000;
  }

  /** The same bytes as a stream that waits before each piece. */
  limit(bytes: Buffer): Readable {
    return Readable.from(this.#pieces(bytes), { objectMode: false, highWaterMark: PIECE });
  }

  async *#pieces(bytes: Buffer): AsyncGenerator<Buffer, void, void> {
    for (let at = 0; at < bytes.length; at += PIECE) {
      const piece = bytes.subarray(at, at + PIECE);
      await this.#take(piece.length);
      yield piece;
    }
  }

  async #take(bytes: number): Promise<void> {
    const now = performance.now();
    this.#sentAt = Math.max(this.#sentAt, now - BURST_MS) + bytes / this.#bytesPerMs;
    if (this.#sentAt > now) await sleep(this.#sentAt - now);
  }
}

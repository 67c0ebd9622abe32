import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';
import type { Order, Piece, Sealing } from './seal.ts';

/** Its file has the ending of this one: `.ts` as source, `.js` as built. */
const PROGRAM = new URL(`./sealer${extname(import.meta.url)}`, import.meta.url);

/** The thread that encrypts records and writes them. */
export class SealingThread {
  readonly #worker: Worker;
  readonly #waiting: PromiseWithResolvers<Sealing>[] = [];
  #failure: Error | undefined;

  constructor(fd: number, key: Uint8Array) {
    this.#worker = new Worker(PROGRAM, { workerData: { fd, key }, execArgv: [] });
    this.#worker.on('message', (sealing: Sealing) => this.#waiting.shift()?.resolve(sealing));
    this.#worker.on('error', (error) => this.#fail(error));
  }

  /** Takes the memory of the pieces: they are empty afterwards. @throws Error when the thread has died, and the bytes with it */
  async seal(order: Order): Promise<Sealing> {
    if (this.#failure !== undefined) throw this.#failure;
    const sealing = Promise.withResolvers<Sealing>();
    this.#waiting.push(sealing);
    this.#worker.postMessage(
      order,
      order.pieces.map(({ buffer }: Piece) => buffer),
    );
    return sealing.promise;
  }

  /** Once all orders are answered. */
  async end(): Promise<void> {
    await this.#worker.terminate();
  }

  #fail(error: unknown): void {
    this.#failure = error instanceof Error ? error : new Error(String(error));
    for (const { reject } of this.#waiting.splice(0)) reject(this.#failure);
  }
}

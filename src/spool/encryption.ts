import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';

/** Confidential, as a snapshot holds every Secret, and authenticated: other bytes than the written ones are never returned. */
export const CIPHER = 'aes-256-gcm';

/** Unique under a key that is used for one file only, which is all that GCM asks of a nonce (NIST SP 800-38D, 8.2.1). */
export function nonceOf(sequence: number): Buffer {
  const nonce = Buffer.alloc(12);
  nonce.writeUIntBE(sequence, 6, 6);
  return nonce;
}

/** Bytes in a memory of their own, which can be handed from one thread to another. */
export type Piece = Uint8Array<ArrayBuffer>;

/** What the sealing thread is told: encrypt these bytes as the record of this number, and write it to this place. */
export interface Order {
  readonly sequence: number;
  readonly offset: number;
  readonly pieces: readonly Piece[];
}

/** What it answers, in the order of the orders: the tag, or why the record is not in the file, with the bytes. */
export type Sealing = { readonly tag: Uint8Array } | { readonly failure: string; readonly pieces: readonly Piece[] };

/** Its file has the ending of this one: `.ts` as source, `.js` as built. */
const PROGRAM = new URL(`./encrypt-worker${extname(import.meta.url)}`, import.meta.url);

/** The thread that encrypts records and writes them. */
export class EncryptionThread {
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

import type { Log } from '../log.ts';
import { messageOf, SpoolFile } from './file.ts';

/** Large enough that a disk writes at full speed, small beside the memory that a run takes. */
const BLOCK_SIZE = 1024 * 1024;

export interface SpoolOptions {
  /** Where to spill; undefined = memory only. */
  readonly dir: string | undefined;
  /** Bytes that wait in memory before any are spilled. The queue takes these and up to five blocks more. */
  readonly memoryBytes: number;
  readonly log: Log;
  /** Bytes that are still to be pushed at the most. Asked once, before the file is created. */
  readonly remaining: () => number;
  /** Bytes of a block, of which the memory and the file consist. */
  readonly blockSize?: number;
}

/** The newest bytes: `from` is what the consumer has taken, `to` what the producer has filled. */
interface Tail {
  readonly bytes: Buffer;
  readonly from: number;
  readonly to: number;
}

/**
 * What stands between a stream that must be drained fast and an upload that may be slow. What does not fit into memory goes
 * to an encrypted file; what cannot go there waits in `push`. Bytes come out in the order in which they went in, in buffers
 * of other sizes.
 *
 * For one producer, that awaits each `push`, and one consumer. Whoever made the queue closes it. Should both sides fail, the
 * consumer's error is the one to report: it is either its own or the producer's.
 */
export class SpoolQueue implements AsyncIterable<Buffer> {
  readonly #options: SpoolOptions;
  readonly #blockSize: number;
  // From old to new: the head, then the records of the file, then the tail.
  readonly #head: Buffer[] = [];
  #file: SpoolFile | undefined;
  #tail: Tail;
  /** While the tail is on its way to the file the consumer must not take it. */
  #spilling: Promise<boolean> | undefined;
  /** The disk cannot be used, or not any more. */
  #mustWait = false;
  #spilledBytes = 0;
  #ended = false;
  #closed = false;
  #failure: unknown;
  #change = Promise.withResolvers<void>();

  constructor(options: SpoolOptions) {
    this.#options = options;
    this.#blockSize = options.blockSize ?? BLOCK_SIZE;
    this.#tail = emptyTail(this.#blockSize);
  }

  /** Bytes that went through the file; 0 = there was none. */
  get spilledBytes(): number {
    return this.#spilledBytes;
  }

  /**
   * Takes a copy of the piece, which may be a view into something larger. Waits for the disk, and for the consumer only when
   * neither memory nor disk have room.
   * @throws Error when the queue was closed, as it is when the consumer leaves
   */
  async push(piece: Uint8Array): Promise<void> {
    if (this.#ended) throw new Error('the queue was ended');
    for (let taken = 0; taken < piece.length;) {
      while (this.#tail.to === this.#blockSize) await this.#makeRoom();
      if (this.#closed) throw new Error('nobody reads the queue any more');
      const { bytes, from, to } = this.#tail;
      const part = piece.subarray(taken, taken + this.#blockSize - to);
      bytes.set(part, to);
      this.#tail = { bytes, from, to: to + part.length };
      taken += part.length;
      this.#wake();
    }
  }

  /** No more pieces, all `push` have returned: the iteration ends when all bytes are taken. */
  end(): void {
    this.#ended = true;
    this.#wake();
  }

  /** The producer failed: the iteration throws this at once, as what is still in the queue is worth nothing. */
  fail(error: unknown): void {
    this.#failure ??= error ?? new Error('the producer failed');
    this.#wake();
  }

  /**
   * The bytes in order. Leaving the loop, for whatever reason, closes the queue. Normal end: all bytes up to `end()` came.
   * @throws SpoolError when the file does not give back what was written, what `fail` was told, Error when the queue was
   *   closed before the end
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer, void, void> {
    try {
      for (let block = await this.#take(); block !== undefined; block = await this.#take()) yield block;
    } finally {
      await this.close();
    }
  }

  /** Frees memory and file, in any state; who waits in `push` or for the next block gets an error. May be called again. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#head.length = 0;
    this.#tail = emptyTail(0);
    this.#wake();
    await this.#spilling;
    await this.#file?.close();
  }

  /** The oldest bytes, or undefined at the end. */
  async #take(): Promise<Buffer | undefined> {
    for (;;) {
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#closed) throw new Error('the queue was closed before its end');
      const block = this.#head.shift() ?? (this.#fileIsEmpty ? this.#takeTail() : await this.#takeRecord());
      if (block !== undefined) {
        this.#wake();
        return block;
      }
      if (this.#ended) return undefined;
      await this.#change.promise;
    }
  }

  async #takeRecord(): Promise<Buffer | undefined> {
    const record = await this.#file?.read();
    // A disk in trouble gets its room back as soon as possible: etcd may live on it.
    if (this.#mustWait && this.#fileIsEmpty) await this.#file?.close();
    return record;
  }

  /** The bytes of the tail that nobody has taken; the next ones go behind them, or into a new block. */
  #takeTail(): Buffer | undefined {
    const { bytes, from, to } = this.#tail;
    if (from === to || this.#spilling !== undefined) return undefined;
    this.#tail = to < this.#blockSize ? { bytes, from: to, to } : emptyTail(this.#blockSize);
    return bytes.subarray(from, to);
  }

  get #fileIsEmpty(): boolean {
    return this.#file?.isEmpty ?? true;
  }

  /** Does what can be done now about a full tail: to memory, to the file, or wait for the consumer. */
  async #makeRoom(): Promise<void> {
    const fits = (this.#head.length + 1) * this.#blockSize <= this.#options.memoryBytes;
    if (fits && this.#fileIsEmpty) {
      const block = this.#takeTail();
      if (block !== undefined) this.#head.push(block);
    } else if (this.#mustWait) {
      await this.#change.promise;
    } else {
      this.#spilling = this.#spill();
      const isSpilled = await this.#spilling;
      this.#spilling = undefined;
      if (isSpilled) this.#takeTail();
      this.#wake();
    }
  }

  /** Writes the tail to the file. Never rejects: a disk in trouble is not used again, and the tail stays what it is. */
  async #spill(): Promise<boolean> {
    const { dir, log, remaining } = this.#options;
    const { bytes, from, to } = this.#tail;
    try {
      if (dir === undefined) throw new Error('SNAPSHOT_SPOOL_DIR is not set');
      if (this.#file === undefined) {
        this.#file = await SpoolFile.create(dir, to - from + remaining(), this.#blockSize);
        log.info('The upload is slower than etcd: the stream is spilled to disk.', { dir });
      }
      await this.#file.write(bytes.subarray(from, to));
      this.#spilledBytes += to - from;
      return true;
    } catch (error) {
      this.#mustWait = true;
      log.warn(`The upload is slower than etcd, and etcd must wait for it: ${messageOf(error)}.`, {
        ...(dir === undefined ? {} : { dir }),
        hint: 'A long wait makes the database file of that member grow: give SNAPSHOT_SPOOL_DIR room for a whole snapshot.',
      });
      return false;
    }
  }

  /** Both sides wait for any change and look again. */
  #wake(): void {
    this.#change.resolve();
    this.#change = Promise.withResolvers<void>();
  }
}

function emptyTail(size: number): Tail {
  return { bytes: Buffer.allocUnsafe(size), from: 0, to: 0 };
}

import { messageOf } from '../errors.ts';
import type { Log } from '../log.ts';
import {
  DEFAULT_RESERVE,
  type Reserve,
  type SealedRecord,
  SpoolError,
  SpoolFile,
  WriteRejected,
} from './spool-file.ts';

/** Large enough that a disk writes at full speed, small beside the memory that a run takes. */
const BLOCK_SIZE = 1024 * 1024;

/** Blocks on their way to the disk at a time: the stream goes on while they are written. */
const WRITES_AHEAD = 4;

export interface SpoolOptions {
  /** Where to spill; undefined = memory only. */
  readonly dir: string | undefined;
  /** What stays free on its file system; undefined = the default. */
  readonly reserve?: Reserve | undefined;
  /** Bytes that wait in memory before any are spilled. The queue takes these and up to six blocks more. */
  readonly memoryBytes: number;
  readonly log: Log;
  /** Bytes that are still to be pushed at the most. Asked once, before the file is created. */
  readonly remaining: () => number;
  /** Bytes that are spilled together. */
  readonly blockSize?: number;
}

/** A run of bytes that stay together: pieces in memory, or a record on disk. */
interface Block {
  pieces: Buffer[];
  /** Of all pieces. */
  bytes: number;
  place: 'memory' | 'on its way' | SealedRecord;
}

/**
 * What stands between a stream that must be drained fast and an upload that may be slow. What does not fit into memory goes
 * to an encrypted file; what cannot go there waits in `push`. Bytes come out in the order in which they went in, in pieces
 * of other sizes.
 *
 * For one producer, that awaits each `push`, and one consumer. Whoever made the queue closes it. Should both sides fail, the
 * consumer's error is the one to report: it is either its own or the producer's.
 */
export class SpoolQueue implements AsyncIterable<Buffer> {
  readonly #options: SpoolOptions;
  readonly #blockSize: number;
  /** From old to new, each in memory or on disk; only the last one grows. */
  readonly #blocks: Block[] = [];
  /** Bytes of the blocks that are in memory and not on their way to the disk. */
  #held = 0;
  #file: Promise<SpoolFile> | undefined;
  readonly #spills = new Set<Promise<void>>();
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
  }

  /** Bytes that went through the file; 0 = there was none. */
  get spilledBytes(): number {
    return this.#spilledBytes;
  }

  /**
   * Takes a piece and all the memory that it lies in, where nothing may be that somebody still wants. Waits for the disk where
   * it is slower than the stream, and for the consumer only when neither memory nor disk have room.
   * @throws Error when the queue was closed, as it is when the consumer leaves
   */
  async push(piece: Buffer): Promise<void> {
    if (this.#ended) throw new Error('the queue was ended');
    for (let taken = 0; taken < piece.length;) {
      await this.#makeRoom();
      if (this.#closed) throw new Error('nobody reads the queue any more');
      const block = this.#openBlock() ?? this.#beginBlock();
      const room = this.#blockSize - block.bytes;
      // A block gives its memory away when it is spilled, so no two blocks may have a piece in common.
      const part = piece.length > room || taken > 0 ? Buffer.from(piece.subarray(taken, taken + room)) : piece;
      block.pieces.push(part);
      block.bytes += part.length;
      this.#held += part.length;
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
      for (let pieces = await this.#take(); pieces !== undefined; pieces = await this.#take()) {
        for (const piece of pieces) {
          this.#throwIfOver();
          yield piece;
        }
      }
    } finally {
      await this.close();
    }
  }

  /** Frees memory and file, in any state; who waits in `push` or for the next piece gets an error. May be called again. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#blocks.length = 0;
    this.#wake();
    await Promise.all(this.#spills);
    const file = await this.#file?.catch(() => undefined);
    await file?.close();
  }

  /** What is there of the oldest block, or undefined at the end. */
  async #take(): Promise<readonly Buffer[] | undefined> {
    for (;;) {
      this.#throwIfOver();
      const [oldest] = this.#blocks;
      if (oldest === undefined && this.#ended) return undefined;
      if (oldest === undefined || oldest.place === 'on its way') await this.#change.promise;
      else {
        this.#blocks.shift();
        if (oldest.place !== 'memory') return [await this.#takeRecord(oldest.place)];
        this.#held -= oldest.bytes;
        this.#wake();
        return oldest.pieces;
      }
    }
  }

  #throwIfOver(): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#closed) throw new Error('the queue was closed before its end');
  }

  async #takeRecord(record: SealedRecord): Promise<Buffer> {
    const file = await this.#file;
    if (file === undefined) throw new Error('a record without a file');
    const bytes = await file.read(record);
    // A disk in trouble gets its room back as soon as possible: etcd may live on it.
    if (this.#mustWait && this.#blocks.every(({ place }) => place === 'memory')) await file.close();
    return bytes;
  }

  /** The last block while it takes more. */
  #openBlock(): Block | undefined {
    const last = this.#blocks.at(-1);
    return last?.place === 'memory' && last.bytes < this.#blockSize ? last : undefined;
  }

  #beginBlock(): Block {
    const block: Block = { pieces: [], bytes: 0, place: 'memory' };
    this.#blocks.push(block);
    return block;
  }

  /** Waits until the last block takes more or another one may be begun; sends to the disk what is too much for the memory. */
  async #makeRoom(): Promise<void> {
    while (!this.#closed && this.#openBlock() === undefined) {
      const last = this.#blocks.at(-1);
      const isTooMuch = last?.place === 'memory' && this.#held > this.#options.memoryBytes;
      if (isTooMuch && !this.#mustWait) this.#spill(last);
      else if (isTooMuch || this.#spills.size >= WRITES_AHEAD) await this.#change.promise;
      else return;
    }
  }

  /** Sends a block to the disk, without waiting for it. */
  #spill(block: Block): void {
    block.place = 'on its way';
    this.#held -= block.bytes;
    const spill = this.#write(block).finally(() => {
      this.#spills.delete(spill);
      this.#wake();
    });
    this.#spills.add(spill);
  }

  /** Never rejects: a disk in trouble is not used again, and the block stays in memory. */
  async #write(block: Block): Promise<void> {
    const { dir, remaining } = this.#options;
    try {
      if (dir === undefined) throw new Error('SNAPSHOT_SPOOL_DIR is not set');
      this.#file ??= this.#createFile(dir, block.bytes + remaining());
      block.place = await (await this.#file).write(block.pieces);
      block.pieces = [];
      this.#spilledBytes += block.bytes;
    } catch (error) {
      if (error instanceof SpoolError) this.fail(error);
      if (error instanceof WriteRejected) block.pieces = error.pieces;
      block.place = 'memory';
      this.#held += block.bytes;
      this.#giveUpDisk(error);
    }
  }

  async #createFile(dir: string, bytes: number): Promise<SpoolFile> {
    const { reserve = DEFAULT_RESERVE } = this.#options;
    const file = await SpoolFile.create({ dir, reserve, bytes, maxRecord: this.#blockSize });
    this.#options.log.info('The upload is slower than etcd: the stream is spilled to disk.', { dir });
    return file;
  }

  #giveUpDisk(error: unknown): void {
    if (this.#mustWait) return;
    this.#mustWait = true;
    const { dir, log } = this.#options;
    log.warn(`The upload is slower than etcd, and etcd must wait for it: ${messageOf(error)}.`, {
      ...(dir === undefined ? {} : { dir }),
      hint: 'A long wait makes the database file of that member grow: give SNAPSHOT_SPOOL_DIR room for a whole snapshot.',
    });
  }

  /** Both sides wait for any change and look again. */
  #wake(): void {
    this.#change.resolve();
    this.#change = Promise.withResolvers<void>();
  }
}

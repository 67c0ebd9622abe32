import { messageOf } from '../errors.ts';
import type { Log } from '../log.ts';
import { DEFAULT_RESERVE, type Reserve, SpoolFile, type SpoolRecord } from './spool-file.ts';

/** Large enough for the full speed of a disk, small compared with the memory of a run. */
const BLOCK_SIZE = 1024 * 1024;

/** Blocks that are written to the disk at the same time, while the stream goes on. */
const PARALLEL_WRITES = 4;

export interface SpoolOptions {
  /** Directory of the spool file; undefined = memory only. */
  readonly dir: string | undefined;
  /** What stays free on its file system; undefined = the default. */
  readonly reserve?: Reserve | undefined;
  /** Bytes that wait in memory before any are spilled. The queue holds up to six blocks more. */
  readonly memoryBytes: number;
  readonly log: Log;
  /** Bytes still to be pushed at most. Called once, before the file is created. */
  readonly remaining: () => number;
  /** Bytes that are spilled together. */
  readonly blockSize?: number;
}

/** Consecutive bytes: pieces in memory, or a record on disk. */
interface Block {
  pieces: Buffer[];
  /** Of all pieces. */
  bytes: number;
  place: 'memory' | 'being written' | SpoolRecord;
}

/**
 * Between a stream that must be drained quickly and an upload that can be slow. What does not fit into memory goes to an
 * encrypted file; without a file `push` waits. Bytes come out in the order in which they were pushed, in pieces of other sizes.
 *
 * For one producer, which awaits each `push`, and one consumer. If both fail, report the consumer's error: it is its own or the
 * producer's.
 */
export class SpoolQueue implements AsyncIterable<Buffer> {
  readonly #options: SpoolOptions;
  readonly #blockSize: number;
  /** From old to new, each in memory or on disk; only the last one grows. */
  readonly #blocks: Block[] = [];
  /** Bytes of the blocks in memory, without those being written. */
  #held = 0;
  #file: Promise<SpoolFile> | undefined;
  readonly #writes = new Set<Promise<void>>();
  #diskFailed = false;
  #spilledBytes = 0;
  #ended = false;
  #closed = false;
  #failure: unknown;
  #change = Promise.withResolvers<void>();

  constructor(options: SpoolOptions) {
    this.#options = options;
    this.#blockSize = options.blockSize ?? BLOCK_SIZE;
  }

  /** Bytes written to the file; 0 = there was none. */
  get spilledBytes(): number {
    return this.#spilledBytes;
  }

  /**
   * Keeps a piece, which must not change any more. Waits for the disk if it is slower than the stream, and for the consumer
   * only if there is room neither in memory nor on disk.
   * @throws Error when the queue was closed, as it is when the consumer leaves
   */
  async push(piece: Buffer): Promise<void> {
    if (this.#ended) throw new Error('the queue has ended');
    for (let taken = 0; taken < piece.length;) {
      const block = await this.#blockWithRoom();
      const part = piece.subarray(taken, taken + this.#blockSize - block.bytes);
      block.pieces.push(part);
      block.bytes += part.length;
      this.#held += part.length;
      taken += part.length;
      this.#wake();
    }
  }

  /** After the last `push`: the iteration ends when all bytes are taken. */
  end(): void {
    this.#ended = true;
    this.#wake();
  }

  /** The producer failed: the iteration throws this immediately, because the bytes still in the queue are useless. */
  fail(error: unknown): void {
    this.#failure ??= error;
    this.#wake();
  }

  /**
   * The bytes in order. Leaving the loop, for any reason, closes the queue. Normal end: all bytes up to `end()` were taken.
   * @throws SpoolError when the file does not return what was written, the error given to `fail`, Error when the queue was
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

  /** Frees memory and file in any state; a waiting `push` or iteration gets an error. Can be called again. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#blocks.length = 0;
    this.#wake();
    await Promise.all(this.#writes);
    const file = await this.#file?.catch(() => undefined);
    await file?.close();
  }

  /** The pieces of the oldest block, undefined at the end. */
  async #take(): Promise<readonly Buffer[] | undefined> {
    for (;;) {
      this.#throwIfOver();
      const [oldest] = this.#blocks;
      if (oldest === undefined && this.#ended) return undefined;
      if (oldest === undefined || oldest.place === 'being written') await this.#change.promise;
      else {
        this.#blocks.shift();
        if (oldest.place !== 'memory') return [await this.#readRecord(oldest.place)];
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

  async #readRecord(record: SpoolRecord): Promise<Buffer> {
    const file = (await this.#file)!;
    const bytes = await file.read(record);
    // A full disk gets its room back as soon as possible: etcd can be on it.
    if (this.#diskFailed && this.#blocks.every(({ place }) => place === 'memory')) await file.close();
    return bytes;
  }

  /** Waits until the last block has room or another one can begin; spills when the memory is full. */
  async #blockWithRoom(): Promise<Block> {
    for (;;) {
      if (this.#closed) throw new Error('the queue has no reader any more');
      const last = this.#blocks.at(-1);
      const isInMemory = last?.place === 'memory';
      if (isInMemory && last.bytes < this.#blockSize) return last;
      const isFull = isInMemory && this.#held > this.#options.memoryBytes;
      if (isFull && !this.#diskFailed) this.#spill(last);
      else if (isFull || this.#writes.size >= PARALLEL_WRITES) await this.#change.promise;
      else {
        const block: Block = { pieces: [], bytes: 0, place: 'memory' };
        this.#blocks.push(block);
        return block;
      }
    }
  }

  /** Begins to write a block to the disk. */
  #spill(block: Block): void {
    block.place = 'being written';
    this.#held -= block.bytes;
    const write = this.#write(block).finally(() => {
      this.#writes.delete(write);
      this.#wake();
    });
    this.#writes.add(write);
  }

  /** Never rejects: after an error the disk is not used again, and the block stays in memory. */
  async #write(block: Block): Promise<void> {
    const { dir, remaining } = this.#options;
    try {
      if (dir === undefined) throw new Error('SNAPSHOT_SPOOL_DIR is not set');
      this.#file ??= this.#createFile(dir, block.bytes + remaining());
      block.place = await (await this.#file).write(block.pieces);
      block.pieces = [];
      this.#spilledBytes += block.bytes;
    } catch (error) {
      block.place = 'memory';
      this.#held += block.bytes;
      this.#reportDiskFailure(error);
    }
  }

  async #createFile(dir: string, bytes: number): Promise<SpoolFile> {
    const { reserve = DEFAULT_RESERVE, log } = this.#options;
    const file = await SpoolFile.create({ dir, reserve, bytes, maxRecord: this.#blockSize });
    log.info('upload is slower than etcd, spilling to disk', { dir });
    return file;
  }

  #reportDiskFailure(error: unknown): void {
    if (this.#diskFailed) return;
    this.#diskFailed = true;
    const { dir, log } = this.#options;
    log.warn(`upload is slower than etcd, and etcd has to wait: ${messageOf(error)}`, {
      ...(dir === undefined ? {} : { dir }),
      hint: 'Set SNAPSHOT_SPOOL_DIR to a directory with space for a whole snapshot: the database file of that member grows during a long wait.',
    });
  }

  /** Both sides wait for any change and check again. */
  #wake(): void {
    this.#change.resolve();
    this.#change = Promise.withResolvers<void>();
  }
}

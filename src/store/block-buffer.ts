/** Above 4 MiB accounts take their fast path, larger ones only take more memory; 50,000 of them are 244 GiB. */
const BLOCK_SIZE = 5 * 1024 * 1024;

/** One that is filled and two that are sent: the limit of the memory that an upload takes. */
const MAX_BLOCKS = 3;

/** Collects bytes in blocks, whose memory is used again once they are sent. */
export class BlockBuffer {
  readonly #idle: Buffer[] = [];
  #allocated = 1;
  #block: Buffer = Buffer.allocUnsafe(BLOCK_SIZE);
  #filled = 0;
  #released = Promise.withResolvers<void>();

  /** What the current block holds. */
  get bytes(): Buffer {
    return this.#block.subarray(0, this.#filled);
  }

  get isFull(): boolean {
    return this.#filled === BLOCK_SIZE;
  }

  /** Copies as much as the current block has room for. @returns bytes copied */
  append(piece: Uint8Array): number {
    const part = piece.subarray(0, BLOCK_SIZE - this.#filled);
    this.#block.set(part, this.#filled);
    this.#filled += part.length;
    return part.length;
  }

  /** Begins a new block; waits until one is released if all are in use. */
  async startBlock(): Promise<void> {
    while (this.#idle.length === 0 && this.#allocated === MAX_BLOCKS) await this.#released.promise;
    if (this.#idle.length === 0) this.#allocated++;
    this.#block = this.#idle.pop() ?? Buffer.allocUnsafe(BLOCK_SIZE);
    this.#filled = 0;
  }

  /** Takes back the memory of a full block that is no longer needed. */
  release(block: Buffer): void {
    this.#idle.push(block);
    this.#released.resolve();
    this.#released = Promise.withResolvers();
  }

  /** Frees all memory. */
  clear(): void {
    this.#idle.length = 0;
    this.#block = Buffer.alloc(0);
  }
}

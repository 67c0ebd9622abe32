/**
 * Memory of the verifier: typed arrays that grow in chunks, each charged to one budget before it is allocated. Chunks are
 * never copied when a store grows: there is no peak of twice the size.
 */

/** Rows of a table are allocated in chunks of this many. */
const CHUNK_ROWS = 1024;
const ROW_BITS = 10;

/** Bytes of one chunk of keys: room for the two longest keys that bbolt allows. */
const CHUNK_BYTES = 65_536;

/** A hard limit of memory in bytes. */
export class Budget {
  readonly limit: number;
  #used = 0;
  #peak = 0;
  #reclaim = (): boolean => false;

  constructor(limit: number) {
    this.limit = limit;
  }

  get peak(): number {
    return this.#peak;
  }

  /** @param reclaim gives back what is needed least, or returns false when nothing is left to give back */
  onFull(reclaim: () => boolean): void {
    this.#reclaim = reclaim;
  }

  /** Charges `bytes`, or returns false and charges nothing when they are not available. */
  take(bytes: number): boolean {
    while (this.#used + bytes > this.limit) if (!this.#reclaim()) return false;
    this.#used += bytes;
    if (this.#used > this.#peak) this.#peak = this.#used;
    return true;
  }

  give(bytes: number): void {
    this.#used -= bytes;
  }
}

/** A growing list of rows of `words` unsigned 32-bit numbers. */
export class Table {
  readonly #budget: Budget;
  readonly #words: number;
  #chunks: Uint32Array[] = [];
  #length = 0;
  #isClosed = false;

  constructor(budget: Budget, words: number) {
    this.#budget = budget;
    this.#words = words;
  }

  /** Number of rows. */
  get length(): number {
    return this.#length;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Appends the first `count` rows of `rows`; returns the index of the first one, or -1 when the budget is used up. */
  append(rows: Uint32Array, count: number): number {
    if (!this.#reserve(count)) return -1;
    const first = this.#length;
    const words = this.#words;
    for (let done = 0; done < count;) {
      const chunk = this.#chunks[this.#length >>> ROW_BITS]!;
      const at = this.#length & (CHUNK_ROWS - 1);
      const some = Math.min(count - done, CHUNK_ROWS - at);
      // A call of set() costs more than the few words of most rows.
      if (some * words <= 64) {
        for (let i = 0; i < some * words; i++) chunk[at * words + i] = rows[done * words + i]!;
      } else {
        chunk.set(rows.subarray(done * words, (done + some) * words), at * words);
      }
      done += some;
      this.#length += some;
    }
    return first;
  }

  /** Appends a row of a one-word table; returns false when the budget is used up. */
  push(value: number): boolean {
    if (!this.#reserve(1)) return false;
    this.#chunks[this.#length >>> ROW_BITS]![this.#length & (CHUNK_ROWS - 1)] = value;
    this.#length++;
    return true;
  }

  get(row: number, word = 0): number {
    return this.#chunks[row >>> ROW_BITS]![(row & (CHUNK_ROWS - 1)) * this.#words + word]!;
  }

  set(row: number, word: number, value: number): void {
    this.#chunks[row >>> ROW_BITS]![(row & (CHUNK_ROWS - 1)) * this.#words + word] = value;
  }

  /** Removes all rows and gives their memory back; no more can be added. */
  close(): void {
    this.#isClosed = true;
    this.#budget.give(this.#chunks.length * this.#chunkBytes());
    this.#chunks = [];
    this.#length = 0;
  }

  #reserve(rows: number): boolean {
    while (this.#chunks.length * CHUNK_ROWS < this.#length + rows) {
      if (this.#isClosed || !this.#budget.take(this.#chunkBytes())) return false;
      // The memory can be that of this table, closed to make room for it.
      if (this.#isClosed) this.#budget.give(this.#chunkBytes());
      else this.#chunks.push(new Uint32Array(CHUNK_ROWS * this.#words));
    }
    return !this.#isClosed;
  }

  #chunkBytes(): number {
    return CHUNK_ROWS * this.#words * 4;
  }
}

/** A growing store of keys, each at an offset that fits 32 bits. A pair of keys is in one chunk. */
export class KeyStore {
  readonly #budget: Budget;
  readonly #chunks: Uint8Array[] = [];
  #at = CHUNK_BYTES;

  constructor(budget: Budget) {
    this.#budget = budget;
  }

  /** Room for `length` bytes (at most 64 KiB) in one chunk: its offset, or -1 when the budget is used up. */
  reserve(length: number): number {
    if (this.#at + length > CHUNK_BYTES) {
      if (!this.#budget.take(CHUNK_BYTES)) return -1;
      this.#chunks.push(new Uint8Array(CHUNK_BYTES));
      this.#at = 0;
    }
    const offset = (this.#chunks.length - 1) * CHUNK_BYTES + this.#at;
    this.#at += length;
    return offset;
  }

  /** The chunk with the byte at `offset`, which is at `offset % CHUNK_BYTES` in it. */
  chunk(offset: number): Uint8Array {
    return this.#chunks[Math.floor(offset / CHUNK_BYTES)]!;
  }

  within(offset: number): number {
    return offset % CHUNK_BYTES;
  }
}

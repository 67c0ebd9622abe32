import { crc32c, KeyHash } from './checksums.ts';
import { canHaveEntries, EntryReader } from './leaf-entries.ts';
import { type EntryColumns, SUM_WORDS } from './live-keys.ts';
import {
  BRANCH_FLAG,
  BUCKET_ELEMENT,
  type Bytes,
  compareKeys,
  ELEMENT_SIZE,
  HEADER_SIZE,
  isZero,
  MAX_KEY_SIZE,
} from './page.ts';

/** Which elements of a leaf are buckets. */
export const NO_BUCKETS = 0;
export const ALL_BUCKETS = 1;
const SOME_BUCKETS = 2;

/** Bytes; larger leaves are not kept: what etcd stores under names is small. */
const MAX_RAW = 1024 * 1024;

/**
 * Reads one run of a branch or leaf page, or the image of an inline bucket, as its bytes pass (specification: one streaming
 * pass). Nothing is read before the table of elements was found to be gap-free. A reader is used again for the next run: its
 * results are valid until then.
 */
export class RunReader {
  page = 0;
  overflow = 0;
  isBranch = false;
  count = 0;
  buckets = NO_BUCKETS;
  /** What is wrong with it; empty when it is valid. */
  problem = '';
  /** CRC32C of all keys and values of a leaf, and how many bytes they are. */
  crc = 0;
  dataLength = 0;
  readonly entries: EntryReader;
  /** Of a branch: the hash of its keys, and the page numbers of its children, 0 for an impossible one. */
  readonly keysHash = new KeyHash();
  children = new Uint32Array(0);
  /** Of a leaf whose keys can be names, all but the zero bytes at its end. */
  raw: Buffer | undefined;
  firstKey: Buffer = Buffer.alloc(64);
  firstKeyLength = 0;
  /** The key before the current element, and in the end the last key. */
  lastKey: Buffer = Buffer.alloc(64);
  lastKeyLength = 0;

  #runLength = 0;
  #dataEnd = 0;
  /** Where in the run the next byte is. */
  #at = 0;
  /** Sizes of key and value of each element. */
  #sizes = new Uint32Array(0);
  #element = 0;
  /** Bytes of the current key in `#partialKey`, which wait for the rest, and of the current value still to come. */
  #partialKey: Buffer = Buffer.alloc(64);
  #keyGot = 0;
  #valueLeft = 0;
  #inValue = false;
  /** The piece with the previous key, and where it is there; undefined when the key was saved to `lastKey`. */
  #previous: Buffer | undefined;
  #previousAt = 0;
  /** Up to where in the current piece the CRC has been computed. */
  #crcFrom = 0;

  constructor(columns: EntryColumns) {
    this.entries = new EntryReader(columns);
  }

  /** Nothing more to read: the run ended, or has a problem. */
  get done(): boolean {
    return this.problem !== '' || this.#at === this.#runLength;
  }

  /** Begins with the run at offset `base`; all of its first page is in `source`. `pages` is the high-water mark. */
  beginRun(source: Bytes, base: number, page: number, pageSize: number, pages: number): void {
    const overflow = source.view.getUint32(base + 12, true);
    // bbolt fills several pages with four elements at most: their table is always in the first one.
    this.#begin(source.view, base, page, overflow, pageSize, pages);
    if (this.count === 0) this.problem = 'has no elements';
    // Older bbolt allocates one page more than needed when the elements fill their pages exactly.
    const isExact = overflow + 1 === Math.ceil(this.#dataEnd / pageSize) || overflow * pageSize === this.#dataEnd;
    this.#readFirst(source.bytes, base, pageSize, isExact);
  }

  /** Reads the whole image of an inline bucket in the leaf at `page`; it has no zero bytes at its end. */
  readInline(source: Bytes, page: number): void {
    const { length } = source.bytes;
    this.#begin(source.view, 0, page, 0, length, 0);
    this.#readFirst(source.bytes, 0, length, this.#dataEnd === length);
  }

  /** Reads on in `bytes` from offset `from` up to `to`, the next bytes of the run. */
  feed(bytes: Buffer, from: number, to: number): void {
    const end = Math.min(to, from + (this.#dataEnd - this.#at));
    if (end > from) {
      this.raw?.set(bytes.subarray(from, end), this.#at);
      this.#crcFrom = from;
      this.#elements(bytes, from, end);
      if (!this.isBranch) this.#crcUpTo(bytes, end);
      this.#savePrevious();
    }
    this.#at += to - from;
    if (this.problem === '' && end < to && !isZero(bytes, end, to)) {
      this.problem = 'has non-zero bytes after its last element';
    }
    if (this.problem === '' && this.isBranch && this.done) this.keysHash.end();
  }

  #begin(view: DataView, base: number, page: number, overflow: number, pageSize: number, pages: number): void {
    this.page = page;
    this.overflow = overflow;
    this.isBranch = view.getUint16(base + 8, true) === BRANCH_FLAG;
    this.count = view.getUint16(base + 10, true);
    this.buckets = NO_BUCKETS;
    this.problem = '';
    this.crc = this.dataLength = 0;
    this.firstKeyLength = this.lastKeyLength = 0;
    this.raw = undefined;
    this.entries.begin();
    this.#runLength = (overflow + 1) * pageSize;
    this.#at = this.#dataEnd = HEADER_SIZE + this.count * ELEMENT_SIZE;
    this.#element = this.#keyGot = 0;
    this.#inValue = false;
    this.#previous = undefined;
    if (this.#at > pageSize) this.problem = 'has more elements than fit';
    else this.#readTable(view, base, pages);
  }

  /** The table of elements: each one must begin where the previous one ended. */
  #readTable(view: DataView, base: number, pages: number): void {
    const { count, isBranch } = this;
    if (this.#sizes.length < 2 * count) this.#sizes = new Uint32Array(2 * count);
    if (isBranch && this.children.length < count) this.children = new Uint32Array(count);
    const sizes = this.#sizes;
    let end = this.#at;
    let buckets = 0;
    for (let i = 0; i < count && this.problem === ''; i++) {
      const element = HEADER_SIZE + i * ELEMENT_SIZE;
      // The element of a leaf begins with its flags, that of a branch ends with its child.
      const at = base + element + (isBranch ? 0 : 4);
      const keySize = view.getUint32(at + 4, true);
      const valueSize = isBranch ? 0 : view.getUint32(at + 8, true);
      if (isBranch) {
        const child = view.getUint32(at + 8, true);
        this.children[i] = view.getUint32(at + 12, true) === 0 && child > 1 && child < pages ? child : 0;
      } else {
        const flags = view.getUint32(at - 4, true);
        if (flags > BUCKET_ELEMENT) this.problem = 'has an element with unknown flags';
        buckets += flags;
      }
      if (element + view.getUint32(at, true) !== end) this.problem = 'has gaps or overlaps between its keys and values';
      if (keySize === 0 || keySize > MAX_KEY_SIZE) this.problem = 'has a key of an invalid size';
      sizes[2 * i] = keySize;
      sizes[2 * i + 1] = valueSize;
      end += keySize + valueSize;
      if (end > this.#runLength || end >= 2 ** 32) this.problem = 'has elements that reach past its end';
    }
    this.#dataEnd = end;
    this.dataLength = end - this.#at;
    this.buckets = buckets === 0 ? NO_BUCKETS : buckets === count ? ALL_BUCKETS : SOME_BUCKETS;
  }

  /** Reads the first `length` bytes of a run whose table was read; `isExact`: its length is the one that its elements need. */
  #readFirst(bytes: Buffer, base: number, length: number, isExact: boolean): void {
    if (this.problem === '' && !isExact) this.problem = 'is longer than its elements need';
    if (this.problem !== '') return;
    if (this.isBranch) this.keysHash.begin();
    else if (this.#dataEnd <= MAX_RAW && (this.buckets !== NO_BUCKETS || !canHaveEntries(this.#sizes[0]))) {
      this.raw = Buffer.allocUnsafeSlow(this.#dataEnd);
      bytes.copy(this.raw, 0, base, base + this.#at);
    }
    this.feed(bytes, base + this.#at, base + length);
  }

  #elements(bytes: Buffer, from: number, to: number): void {
    for (let at = from; this.#element < this.count;) {
      const keySize = this.#sizes[2 * this.#element]!;
      const valueSize = this.#sizes[2 * this.#element + 1]!;
      if (!this.#inValue) {
        if (this.#keyGot === 0 && at + keySize <= to) {
          this.#key(bytes, at, keySize);
          at += keySize;
        } else {
          const end = Math.min(to, at + keySize - this.#keyGot);
          this.#partialKey = withRoom(this.#partialKey, keySize, this.#keyGot);
          this.#keyGot += bytes.copy(this.#partialKey, this.#keyGot, at, end);
          at = end;
          if (this.#keyGot < keySize) return;
          this.#key(this.#partialKey, 0, keySize);
          this.#savePrevious();
          this.#keyGot = 0;
        }
        if (this.problem !== '') return;
        this.#inValue = true;
        this.#valueLeft = valueSize;
      }
      const end = Math.min(to, at + this.#valueLeft);
      this.entries.value(bytes, at, end);
      this.#valueLeft -= end - at;
      at = end;
      if (this.#valueLeft > 0) return;
      if (this.entries.end(this.#element, valueSize)) {
        this.#crcUpTo(bytes, at);
        this.entries.sums[SUM_WORDS * this.#element] = this.crc;
      }
      this.#inValue = false;
      this.#element++;
    }
  }

  #key(bytes: Buffer, at: number, size: number): void {
    if (this.#element === 0) {
      this.firstKey = withRoom(this.firstKey, size, 0);
      bytes.copy(this.firstKey, 0, at, at + size);
      this.firstKeyLength = size;
    } else {
      const previous = this.#previous ?? this.lastKey;
      const order = compareKeys(previous, this.#previousAt, this.lastKeyLength, bytes, at, size);
      if (order >= 0) this.problem = 'has keys that are not in ascending order';
    }
    this.#previous = bytes;
    this.#previousAt = at;
    this.lastKeyLength = size;
    if (this.isBranch) this.keysHash.updateKey(bytes, at, size);
    else if (this.buckets === NO_BUCKETS) this.entries.key(bytes, at, size, this.#element, this.count);
  }

  #savePrevious(): void {
    if (this.#previous === undefined) return;
    this.lastKey = withRoom(this.lastKey, this.lastKeyLength, 0);
    this.#previous.copy(this.lastKey, 0, this.#previousAt, this.#previousAt + this.lastKeyLength);
    this.#previous = undefined;
    this.#previousAt = 0;
  }

  #crcUpTo(bytes: Buffer, at: number): void {
    if (at > this.#crcFrom) this.crc = crc32c(bytes.subarray(this.#crcFrom, at), this.crc);
    this.#crcFrom = at;
  }
}

/** `buffer` or a larger one with room for `size` bytes; the first `keep` bytes are kept. */
function withRoom(buffer: Buffer, size: number, keep: number): Buffer {
  if (buffer.length >= size) return buffer;
  const larger = Buffer.alloc(size);
  buffer.copy(larger, 0, 0, keep);
  return larger;
}

import { DATABASE_WITHOUT_CHECKSUM, type FileKind, recognize } from '../file-kind.ts';
import type { Problems } from './verdict.ts';

/**
 * The layout of bbolt's pages (specification: bbolt file). All integers are little-endian. A run is a page together with
 * its overflow pages: one header, one table of elements, then keys and values; positions are relative to the run.
 */

/** Bytes of a page header, and of an element of a branch or leaf page. */
export const HEADER_SIZE = 16;
export const ELEMENT_SIZE = 16;

export const BRANCH_FLAG = 0x01;
export const LEAF_FLAG = 0x02;
export const FREELIST_FLAG = 0x10;

/** The longest key that bbolt accepts, in bytes. */
export const MAX_KEY_SIZE = 32_768;

/** A leaf element whose value is a bucket has this flag; others have none. */
export const BUCKET_ELEMENT = 1;

/** Bytes of a bucket's header, its root page number and its sequence; an inline bucket's page image follows. */
export const BUCKET_HEADER_SIZE = 16;

/** Bytes that pass, and a view of the same bytes. Both are valid during the call only. */
export interface Bytes {
  readonly bytes: Buffer;
  readonly view: DataView;
}

export function bytesOf(piece: Uint8Array): Bytes {
  return {
    bytes: Buffer.from(piece.buffer, piece.byteOffset, piece.length),
    view: new DataView(piece.buffer, piece.byteOffset, piece.length),
  };
}

/** The elements of a valid leaf run; `image` holds at least its header, table, keys and values. */
export function* leafElements(image: Buffer): Generator<{ key: Buffer; value: Buffer }, void> {
  const count = image.readUInt16LE(10);
  for (let i = 0; i < count; i++) {
    const element = HEADER_SIZE + i * ELEMENT_SIZE;
    const key = element + image.readUInt32LE(element + 4);
    const value = key + image.readUInt32LE(element + 8);
    const end = value + image.readUInt32LE(element + 12);
    yield { key: image.subarray(key, value), value: image.subarray(value, end) };
  }
}

/** Order of bbolt's keys: bytewise, unsigned, a prefix first. */
export function compareKeys(
  a: Uint8Array,
  fromA: number,
  lengthA: number,
  b: Uint8Array,
  fromB: number,
  lengthB: number,
): number {
  const common = Math.min(lengthA, lengthB);
  for (let i = 0; i < common; i++) {
    const difference = a[fromA + i]! - b[fromB + i]!;
    if (difference !== 0) return difference;
  }
  return lengthA - lengthB;
}

const ZEROS = Buffer.alloc(65_536);

/** Whether `bytes` are all zero from offset `from` up to `to`. */
export function isZero(bytes: Buffer, from: number, to: number): boolean {
  for (let at = from; at < to; at += ZEROS.length) {
    const end = Math.min(at + ZEROS.length, to);
    if (bytes.compare(ZEROS, 0, end - at, at, end) !== 0) return false;
  }
  return true;
}

/** Bytes of the sha256 that an etcd server appends to the database. */
export const TRAILER_SIZE = 32;

/** A database consists of whole sectors: a file of such a length plus a trailer has one. */
const SECTOR_SIZE = 512;

/** A meta page: a page header of 16 bytes, then the meta of 64 (specification: bbolt file, meta page). */
const META_END = HEADER_SIZE + 64;
const MAGIC = 0xed0cdaed;
const VERSION = 2;
const META_FLAG = 0x04;
/** Those of all operating systems that etcd runs on, and smaller ones. */
const PAGE_SIZES = [1024, 2048, 4096, 8192, 16_384, 32_768, 65_536];

/** This many bytes include both meta pages. */
export const HEADER_BYTES = 2 * 65_536;

/** Page number of the freelist when none is stored, as on every Linux server. */
export const NO_FREELIST = 0xffff_ffff_ffff_ffffn;

export interface Meta {
  /** As it says; that of the other meta page can differ in a corrupt file. */
  readonly pageSize: number;
  /** Page number of the root bucket's root page. */
  readonly root: bigint;
  /** Page number of the stored freelist, or NO_FREELIST. */
  readonly freelist: bigint;
  /** High-water mark: the first page number never allocated, which is the number of pages of the database. */
  readonly highWaterMark: bigint;
  readonly txid: bigint;
}

export function hasTrailer(size: number): boolean {
  return size % SECTOR_SIZE === TRAILER_SIZE;
}

/** Both meta pages, which say how to read the rest. The page size is known from page 0, or from page 1 if page 0 is corrupt. */
export class Header {
  /** The meta that bbolt uses: the newer one of those that are intact; undefined when the file is not a bbolt database. */
  readonly meta: Meta | undefined;
  /** Bytes; 0 when no meta page is intact. */
  readonly pageSize: number;
  readonly #head: Buffer;
  readonly #metas: (Meta | undefined)[] = [];
  readonly #problems: (string | undefined)[] = [];
  readonly #lacksChecksum: boolean = false;

  /** @param head the first HEADER_BYTES of a file, or all of a shorter one */
  constructor(head: Buffer) {
    this.#head = head;
    const first = readMeta(head);
    // As bbolt does if meta page 0 is corrupt: page 1 is searched for behind a page of each size.
    const size = PAGE_SIZES.find((at) => (first ?? readMeta(head.subarray(at)))?.pageSize === at) ?? 0;
    this.pageSize = size;
    if (size === 0 || head.length < 2 * size) return;
    for (const id of [0, 1]) {
      const page = head.subarray(id * size, (id + 1) * size);
      this.#metas[id] = readMeta(page);
      this.#problems[id] = metaProblem(page, id);
      this.#lacksChecksum ||= lacksChecksum(page);
    }
    const [meta0, meta1] = this.#metas;
    this.meta = meta0 === undefined || (meta1 !== undefined && meta1.txid > meta0.txid) ? meta1 : meta0;
  }

  /**
   * Judges the length of a whole file and its meta pages, as an etcd server writes them into a snapshot: both from one
   * transaction, page 1 with the id of the previous one.
   * @returns what the file seems to be instead of a snapshot
   */
  judge(size: number, problems: Problems): FileKind | undefined {
    const { meta } = this;
    if (meta === undefined) return this.#judgeNoDatabase(size, problems);
    const [meta0, meta1] = this.#metas;
    const isSnapshot = meta0 !== undefined && meta1 !== undefined && areOfOneTransaction(meta0, meta1);
    const databaseSize = this.#sizeOf(meta);
    const hasNoTrailer = size % SECTOR_SIZE === 0 && size >= databaseSize;
    if (hasNoTrailer) {
      const name = isSnapshot ? 'a snapshot without its sha256' : "a copy of a member's database";
      problems.add('trailer', `there is no sha256 at its end: it seems to be ${name}`);
    } else {
      this.#problems.forEach((problem, id) => problem !== undefined && problems.add('meta', problem, id));
      const expected = databaseSize + BigInt(TRAILER_SIZE);
      if (expected > size) {
        problems.add('length', `it ends after ${size} of ${expected} bytes, like an unfinished download or save`);
      } else if (expected < size) {
        problems.add('length', `it has ${size} bytes instead of the ${expected} of its meta pages`);
      }
      const isIntact = this.#problems.every((problem) => problem === undefined);
      if (isIntact && !isSnapshot) problems.add('meta', 'the two meta pages do not belong to the same transaction', 1);
    }
    judgePointers(meta, problems);
    return hasNoTrailer ? DATABASE_WITHOUT_CHECKSUM : undefined;
  }

  /**
   * The same for a file that can be a copy of a member's database: it can be longer than its last page, its meta pages are of
   * two transactions, and one of them can be corrupt.
   */
  judgeDatabase(size: number, problems: Problems): FileKind | undefined {
    const { meta } = this;
    if (meta === undefined) return this.#judgeNoDatabase(size, problems);
    const length = hasTrailer(size) ? size - TRAILER_SIZE : size;
    const databaseSize = this.#sizeOf(meta);
    if (length < databaseSize) problems.add('length', `it ends after ${length} of ${databaseSize} bytes`);
    const id = this.#metas.indexOf(meta);
    const problem = this.#problems[id];
    if (problem !== undefined) problems.add('meta', problem, id);
    if (this.#lacksChecksum) problems.add('meta', 'a meta page has no checksum');
    judgePointers(meta, problems);
    return undefined;
  }

  /** Bytes up to the high-water mark. */
  #sizeOf({ highWaterMark }: Meta): bigint {
    return highWaterMark * BigInt(this.pageSize);
  }

  #judgeNoDatabase(size: number, problems: Problems): FileKind | undefined {
    const kind = recognize(this.#head);
    if (kind !== undefined) problems.add('format', `it is ${kind.name}`);
    else if (this.pageSize > 0 || size < 2 * PAGE_SIZES[0]!)
      problems.add('length', `${size} bytes are too few for a database`);
    else problems.add('meta', 'there is no intact meta page', 0);
    return kind;
  }
}

/** The pages that the meta names must be in the database. */
function judgePointers({ root, freelist, highWaterMark }: Meta, problems: Problems): void {
  if (root < 2n || root >= highWaterMark) problems.add('meta', `its meta page points to an invalid root page ${root}`);
  if (freelist !== NO_FREELIST && (freelist < 2n || freelist >= highWaterMark)) {
    problems.add('meta', `its meta page points to an invalid freelist page ${freelist}`);
  }
}

/** The meta page that begins with `page`; undefined when bbolt would not use it. */
function readMeta(page: Buffer): Meta | undefined {
  const meta = page.subarray(HEADER_SIZE, META_END);
  if (
    meta.length < META_END - HEADER_SIZE ||
    !isMeta(meta) ||
    meta.readBigUInt64LE(56) !== fnv64a(meta.subarray(0, 56))
  )
    return undefined;
  return {
    pageSize: meta.readUInt32LE(8),
    root: meta.readBigUInt64LE(16),
    freelist: meta.readBigUInt64LE(32),
    highWaterMark: meta.readBigUInt64LE(40),
    txid: meta.readBigUInt64LE(48),
  };
}

/** What is wrong with the whole meta page `id` beyond what bbolt checks. */
function metaProblem(page: Buffer, id: number): string | undefined {
  const meta = page.subarray(HEADER_SIZE, META_END);
  if (readMeta(page) === undefined) return `meta page ${id} has a wrong magic number, format version or checksum`;
  const isHeader = page.readBigUInt64LE(0) === BigInt(id) && page.readUInt16LE(8) === META_FLAG;
  if (!isHeader || page.readUInt16LE(10) !== 0 || page.readUInt32LE(12) !== 0)
    return `meta page ${id} has a wrong header`;
  if (meta.readUInt32LE(8) !== page.length) return `meta page ${id} has a different page size`;
  if (meta.readUInt32LE(12) !== 0 || meta.readBigUInt64LE(24) !== 0n) return `meta page ${id} has unknown flags`;
  if (page.subarray(META_END).some((byte) => byte !== 0)) return `meta page ${id} has non-zero bytes after its meta`;
  return undefined;
}

/** bbolt before 1.3.7 uses a meta without a checksum and later versions do not: the tools read different databases. */
function lacksChecksum(page: Buffer): boolean {
  const meta = page.subarray(HEADER_SIZE, META_END);
  return isMeta(meta) && meta.readBigUInt64LE(56) === 0n;
}

function areOfOneTransaction(meta0: Meta, meta1: Meta): boolean {
  return (
    meta1.txid === BigInt.asUintN(64, meta0.txid - 1n) &&
    meta1.root === meta0.root &&
    meta1.freelist === meta0.freelist &&
    meta1.highWaterMark === meta0.highWaterMark
  );
}

function isMeta(meta: Buffer): boolean {
  return meta.readUInt32LE(0) === MAGIC && meta.readUInt32LE(4) === VERSION;
}

function fnv64a(bytes: Uint8Array): bigint {
  let hash = 0xcbf29ce484222325n;
  for (const byte of bytes) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  return hash;
}

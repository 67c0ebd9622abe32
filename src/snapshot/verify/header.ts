import { DATABASE_WITHOUT_CHECKSUM, type FileKind, recognize, RECOGNIZED_BYTES } from '../file-kind.ts';
import type { Problems } from './verdict.ts';

/** Bytes of the sha256 that an etcd server appends to the database. */
export const TRAILER_SIZE = 32;

/** A database consists of whole sectors: a file of such a length plus a trailer has one. */
const SECTOR_SIZE = 512;

/** A meta page: a page header of 16 bytes, then the meta of 64 (specification: bbolt file, meta page). */
const META_START = 16;
const META_END = META_START + 64;
const MAGIC = 0xed0cdaed;
const VERSION = 2;
const META_FLAG = 0x04;
const MIN_PAGE_SIZE = 1024;
const MAX_PAGE_SIZE = 16 * 1024 * 1024;
/** The largest page of an operating system that etcd runs on. */
const MAX_SYSTEM_PAGE_SIZE = 65_536;

/** This many bytes include meta page 1 for the page size of any operating system. */
const SEARCHED_BYTES = MAX_SYSTEM_PAGE_SIZE + META_END;

/** Page number of the freelist when none is stored, as on every Linux server. */
export const NO_FREELIST = 0xffff_ffff_ffff_ffffn;

export interface Meta {
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

/**
 * The start of a file up to the end of both meta pages, which say how to read the rest. The page size is known from page 0, or
 * from page 1 if page 0 is corrupt.
 */
export class Header {
  #bytes: Buffer = Buffer.alloc(RECOGNIZED_BYTES);
  #filled = 0;
  #isComplete = false;
  #pageSize: number | 'impossible' | undefined;
  #meta: Meta | undefined;
  readonly #metas: (Meta | undefined)[] = [];
  readonly #problems: (string | undefined)[] = [];
  #lacksChecksum = false;

  /** No more bytes are needed: both meta pages are there, or the file is not a bbolt database. */
  get isComplete(): boolean {
    return this.#isComplete;
  }

  /** Bytes; undefined when the file is not a bbolt database. A corrupt meta can name another one. */
  get pageSize(): number | undefined {
    return typeof this.#pageSize === 'number' && this.#meta !== undefined ? this.#pageSize : undefined;
  }

  /** The meta that bbolt uses: the newer one of those that are intact. */
  get meta(): Meta | undefined {
    return this.#meta;
  }

  /** Takes the next bytes of the file, as many as are needed, and returns their number. */
  take(bytes: Buffer): number {
    let taken = 0;
    while (!this.#isComplete && taken < bytes.length) {
      const copied = bytes.copy(this.#bytes, this.#filled, taken);
      this.#filled += copied;
      taken += copied;
      if (this.#filled === this.#bytes.length) this.#continue();
    }
    return taken;
  }

  /** The file has no more bytes. */
  end(): void {
    this.#pageSize ??= findPageSize(this.#bytes.subarray(0, this.#filled));
    this.#complete();
  }

  /** Returns what was taken of the pages behind the meta pages. */
  takeRest(): Buffer {
    const pages = this.#bytes.subarray(0, this.#filled);
    // What is kept is enough to recognize the file.
    this.#bytes = Buffer.from(pages.subarray(0, RECOGNIZED_BYTES));
    this.#filled = this.#bytes.length;
    return this.pageSize === undefined ? Buffer.alloc(0) : pages.subarray(2 * this.pageSize);
  }

  /**
   * Judges the length of a whole file and its meta pages, as an etcd server writes them into a snapshot: both from one
   * transaction, page 1 with the id of the previous one.
   * @returns what the file seems to be instead of a snapshot
   */
  judge(size: number, problems: Problems): FileKind | undefined {
    const [meta0, meta1] = this.#metas;
    const meta = this.#meta;
    if (meta === undefined) return this.#judgeNoDatabase(size, problems);
    const isSnapshot = meta0 !== undefined && meta1 !== undefined && areOfOneTransaction(meta0, meta1);
    const databaseSize = sizeOf(meta);
    const hasNoTrailer = size % SECTOR_SIZE === 0 && size >= databaseSize;
    if (hasNoTrailer) {
      const name = isSnapshot ? 'a snapshot without its sha256' : "a copy of a member's database";
      problems.add('trailer', `there is no sha256 at its end: it seems to be ${name}`);
    } else {
      this.#problems.forEach((problem, id) => {
        if (problem !== undefined) problems.add('meta', problem, id);
      });
      const expected = databaseSize + BigInt(TRAILER_SIZE);
      if (expected > BigInt(size)) {
        problems.add('length', `it ends after ${size} of ${expected} bytes, like an unfinished download or save`);
      }
      if (expected < BigInt(size)) {
        problems.add('length', `it has ${size} bytes instead of the ${expected} of its meta pages`);
      }
      const isIntact = this.#problems.every((problem) => problem === undefined);
      if (isIntact && !isSnapshot) problems.add('meta', 'the two meta pages are not of one transaction', 1);
    }
    judgePointers(meta, problems);
    return hasNoTrailer ? DATABASE_WITHOUT_CHECKSUM : undefined;
  }

  /**
   * The same for a file that can be a copy of a member's database: it can be longer than its last page, its meta pages are of
   * two transactions, and one of them can be corrupt.
   */
  judgeDatabase(size: number, problems: Problems): FileKind | undefined {
    const meta = this.#meta;
    if (meta === undefined) return this.#judgeNoDatabase(size, problems);
    const length = hasTrailer(size) ? size - TRAILER_SIZE : size;
    if (length < sizeOf(meta)) problems.add('length', `it ends after ${length} of ${sizeOf(meta)} bytes`);
    const id = this.#metas.indexOf(meta);
    const problem = this.#problems[id];
    if (problem !== undefined) problems.add('meta', problem, id);
    if (this.#lacksChecksum) problems.add('meta', 'a meta page has no checksum');
    judgePointers(meta, problems);
    return undefined;
  }

  /** The buffer is full: it grows until both meta pages fit. */
  #continue(): void {
    this.#pageSize ??= findPageSize(this.#bytes);
    const wanted = typeof this.#pageSize === 'number' ? 2 * this.#pageSize : SEARCHED_BYTES;
    if (this.#pageSize === 'impossible' || this.#filled >= wanted) return this.#complete();
    this.#bytes = Buffer.concat([this.#bytes], wanted);
  }

  #complete(): void {
    this.#isComplete = true;
    const size = this.#pageSize;
    if (typeof size !== 'number' || this.#filled < 2 * size) return;
    for (const id of [0, 1] as const) {
      const page = this.#bytes.subarray(id * size, (id + 1) * size);
      this.#metas[id] = readMeta(page);
      this.#problems[id] = metaProblem(page, id);
      this.#lacksChecksum ||= lacksChecksum(page);
    }
    const [meta0, meta1] = this.#metas;
    this.#meta = meta0 === undefined || (meta1 !== undefined && meta1.txid > meta0.txid) ? meta1 : meta0;
  }

  #judgeNoDatabase(size: number, problems: Problems): FileKind | undefined {
    const head = this.#bytes.subarray(0, this.#filled);
    const kind = recognize(head);
    if (kind !== undefined) problems.add('format', `it is ${kind.name}`);
    else if (this.#filled < META_END || typeof this.#pageSize === 'number') {
      problems.add('length', `${size} bytes are too few for a database`);
    } else problems.add('meta', metaProblem(head, 0) ?? 'there is no intact meta page', 0);
    return kind;
  }
}

/** Bytes up to the high-water mark. */
function sizeOf({ highWaterMark, pageSize }: Meta): bigint {
  return highWaterMark * BigInt(pageSize);
}

/** The pages that the meta names must be in the database. */
function judgePointers({ root, freelist, highWaterMark }: Meta, problems: Problems): void {
  if (root < 2n || root >= highWaterMark) problems.add('meta', `its meta page names an impossible root page ${root}`);
  if (freelist !== NO_FREELIST && (freelist < 2n || freelist >= highWaterMark)) {
    problems.add('meta', `its meta page names an impossible freelist page ${freelist}`);
  }
}

/** A meta page at `page`, of at least META_END bytes; undefined when bbolt would not use it. */
function readMeta(page: Buffer): Meta | undefined {
  const meta = page.subarray(META_START, META_END);
  if (!isMeta(meta) || !hasChecksum(meta)) return undefined;
  return {
    pageSize: meta.readUInt32LE(8),
    root: meta.readBigUInt64LE(16),
    freelist: meta.readBigUInt64LE(32),
    highWaterMark: meta.readBigUInt64LE(40),
    txid: meta.readBigUInt64LE(48),
  };
}

/** The page size in bytes according to the first bytes of a file; undefined when no meta page is intact. */
function findPageSize(head: Buffer): number | 'impossible' | undefined {
  if (head.length < META_END) return undefined;
  const first = readMeta(head);
  if (first !== undefined) return isPageSize(first.pageSize) ? first.pageSize : 'impossible';
  // As bbolt does if meta page 0 is corrupt: page 1 is searched for behind a page of each size.
  for (let size = MIN_PAGE_SIZE; size + META_END <= head.length && size <= MAX_SYSTEM_PAGE_SIZE; size *= 2) {
    if (readMeta(head.subarray(size))?.pageSize === size) return size;
  }
  return undefined;
}

/** What is wrong with the whole meta page `id` beyond what bbolt checks. */
function metaProblem(page: Buffer, id: 0 | 1): string | undefined {
  const meta = page.subarray(META_START, META_END);
  if (id === 0 && !isPageSize(meta.readUInt32LE(8))) return 'meta page 0 names an impossible page size';
  if (page.readBigUInt64LE(0) !== BigInt(id)) return `meta page ${id} has another page number`;
  if (page.readUInt16LE(8) !== META_FLAG) return `page ${id} is not flagged as a meta page`;
  if (page.readUInt16LE(10) !== 0 || page.readUInt32LE(12) !== 0) return `meta page ${id} has a count or overflow`;
  if (meta.readUInt32LE(0) !== MAGIC) return `meta page ${id} has no bbolt magic number`;
  if (meta.readUInt32LE(4) !== VERSION) return `meta page ${id} has an unknown format version`;
  if (!hasChecksum(meta)) return `meta page ${id} has a wrong checksum`;
  if (meta.readUInt32LE(8) !== page.length) return `meta page ${id} names another page size`;
  if (meta.readUInt32LE(12) !== 0 || meta.readBigUInt64LE(24) !== 0n) return `meta page ${id} has unknown flags`;
  if (page.subarray(META_END).some((byte) => byte !== 0)) return `meta page ${id} has non-zero bytes after its meta`;
  return undefined;
}

/** bbolt before 1.3.7 uses a meta without a checksum and later versions do not: the tools read different databases. */
function lacksChecksum(page: Buffer): boolean {
  const meta = page.subarray(META_START, META_END);
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

function isPageSize(size: number): boolean {
  return (size & (size - 1)) === 0 && size >= MIN_PAGE_SIZE && size <= MAX_PAGE_SIZE;
}

function isMeta(meta: Buffer): boolean {
  return meta.readUInt32LE(0) === MAGIC && meta.readUInt32LE(4) === VERSION;
}

function hasChecksum(meta: Buffer): boolean {
  return meta.readBigUInt64LE(56) === fnv64a(meta.subarray(0, 56));
}

function fnv64a(bytes: Uint8Array): bigint {
  let hash = 0xcbf29ce484222325n;
  for (const byte of bytes) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  return hash;
}

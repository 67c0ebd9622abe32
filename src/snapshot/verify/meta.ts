/**
 * The two meta pages at the start of a bbolt file (specification: bbolt file, meta page). Both are there always; each
 * transaction writes the one that is older. All integers are little-endian.
 */

/** Bytes of a meta page that are used: its header and its meta. */
export const META_END = 16 + 64;

/** Where a meta page names the page size. */
const PAGE_SIZE_OFFSET = 16 + 8;

const MAGIC = 0xed0cdaed;
const VERSION = 2;
const META_FLAG = 0x04;
const MIN_PAGE_SIZE = 1024;
const MAX_PAGE_SIZE = 16 * 1024 * 1024;
/** The largest page of an operating system that etcd runs on. */
const MAX_SYSTEM_PAGE_SIZE = 65_536;

/** So many bytes hold a meta page 1, whatever page size an operating system has. */
export const SEARCHED_BYTES = MAX_SYSTEM_PAGE_SIZE + META_END;

/** freelist page number when no freelist is stored, as on every Linux server. */
export const NO_FREELIST = 0xffff_ffff_ffff_ffffn;

export interface Meta {
  readonly pageSize: number;
  /** Page number of the root bucket's root page. */
  readonly root: bigint;
  /** Page number of the stored freelist, or NO_FREELIST. */
  readonly freelist: bigint;
  /** High-water mark: the first page number never allocated, so the database has this many pages. */
  readonly highWaterMark: bigint;
  readonly txid: bigint;
}

/** A meta page at `page`, of at least META_END bytes, as bbolt reads it: undefined when it would not use it. */
export function intactMeta(page: Buffer): Meta | undefined {
  const meta = page.subarray(16, META_END);
  const isIntact = meta.readUInt32LE(0) === MAGIC && meta.readUInt32LE(4) === VERSION && hasChecksum(meta);
  if (!isIntact) return undefined;
  return {
    pageSize: meta.readUInt32LE(8),
    root: meta.readBigUInt64LE(16),
    freelist: meta.readBigUInt64LE(32),
    highWaterMark: meta.readBigUInt64LE(40),
    txid: meta.readBigUInt64LE(48),
  };
}

/** What the first bytes of a file say about its page size, in bytes; a sentence when no reader would accept it. */
export function findPageSize(head: Buffer): number | string | undefined {
  if (head.length < META_END) return undefined;
  const first = intactMeta(head);
  if (first !== undefined) return isPageSize(first.pageSize) ? first.pageSize : IMPOSSIBLE_PAGE_SIZE;
  // As bbolt does: where meta page 0 is damaged, page 1 is looked for behind a page of each size.
  for (let size = MIN_PAGE_SIZE; size + META_END <= head.length && size <= MAX_SYSTEM_PAGE_SIZE; size *= 2) {
    if (intactMeta(head.subarray(size))?.pageSize === size) return size;
  }
  return undefined;
}

const IMPOSSIBLE_PAGE_SIZE = 'meta page 0 names an impossible page size';

/** What is wrong with the whole meta page `id` (0 or 1) beyond what bbolt asks of it, in a sentence. */
export function metaProblem(page: Buffer, id: 0 | 1): string | undefined {
  const meta = page.subarray(16, META_END);
  if (id === 0 && !isPageSize(page.readUInt32LE(PAGE_SIZE_OFFSET))) return IMPOSSIBLE_PAGE_SIZE;
  if (page.readBigUInt64LE(0) !== BigInt(id)) return `meta page ${id} carries another page number`;
  if (page.readUInt16LE(8) !== META_FLAG) return `page ${id} is not flagged as a meta page`;
  if (page.readUInt16LE(10) !== 0 || page.readUInt32LE(12) !== 0) return `meta page ${id} has a count or overflow`;
  if (meta.readUInt32LE(0) !== MAGIC) return `meta page ${id} has no bbolt magic number`;
  if (meta.readUInt32LE(4) !== VERSION) return `meta page ${id} has an unknown format version`;
  if (!hasChecksum(meta)) return `meta page ${id} has a wrong checksum`;
  if (meta.readUInt32LE(8) !== page.length) return `meta page ${id} names another page size`;
  if (meta.readUInt32LE(12) !== 0 || meta.readBigUInt64LE(24) !== 0n) return `meta page ${id} has unknown flags`;
  if (page.subarray(META_END).some((byte) => byte !== 0)) return `meta page ${id} is not zero behind its meta`;
  return undefined;
}

/** A meta without a checksum, which bbolt before 1.3.7 uses and later ones do not: the tools read different databases. */
export function lacksChecksum(page: Buffer): boolean {
  const meta = page.subarray(16, META_END);
  return meta.readUInt32LE(0) === MAGIC && meta.readUInt32LE(4) === VERSION && meta.readBigUInt64LE(56) === 0n;
}

/** The server writes both metas from one transaction: page 0 with its id, page 1 with the one before, all else equal. */
export function metasAgree(meta0: Meta, meta1: Meta): boolean {
  return (
    meta1.txid === BigInt.asUintN(64, meta0.txid - 1n) &&
    meta1.root === meta0.root &&
    meta1.freelist === meta0.freelist &&
    meta1.highWaterMark === meta0.highWaterMark
  );
}

function isPageSize(size: number): boolean {
  const isPowerOfTwo = size !== 0 && (size & (size - 1)) === 0;
  return isPowerOfTwo && size >= MIN_PAGE_SIZE && size <= MAX_PAGE_SIZE;
}

function hasChecksum(meta: Buffer): boolean {
  return meta.readBigUInt64LE(56) === fnv64a(meta.subarray(0, 56));
}

function fnv64a(bytes: Uint8Array): bigint {
  let hash = 0xcbf29ce484222325n;
  for (const byte of bytes) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  return hash;
}

/**
 * The two meta pages at the start of a bbolt file, as an etcd server writes them into a snapshot
 * (specification: bbolt file, meta page). All integers are little-endian.
 */

/** Bytes that hold both meta pages' structures whatever the page size is, once `pageSize` is known. */
export const META_END = 16 + 64;

/** Where meta page 0 names its page size. */
const PAGE_SIZE_OFFSET = 16 + 8;

const MAGIC = 0xed0cdaed;
const VERSION = 2;
const META_FLAG = 0x04;
const MIN_PAGE_SIZE = 1024;
const MAX_PAGE_SIZE = 16 * 1024 * 1024;

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

/** Page size that meta page 0 claims, or undefined when no bbolt reader would accept it. */
export function claimedPageSize(head: Buffer): number | undefined {
  const size = head.readUInt32LE(PAGE_SIZE_OFFSET);
  const powerOfTwo = size !== 0 && (size & (size - 1)) === 0;
  return powerOfTwo && size >= MIN_PAGE_SIZE && size <= MAX_PAGE_SIZE ? size : undefined;
}

/** Reads meta page `id` (0 or 1) from its whole page; returns the meta or a sentence saying what is wrong with it. */
export function readMeta(page: Buffer, id: 0 | 1): Meta | string {
  if (page.readBigUInt64LE(0) !== BigInt(id)) return `meta page ${id} carries another page number`;
  if (page.readUInt16LE(8) !== META_FLAG) return `page ${id} is not flagged as a meta page`;
  if (page.readUInt16LE(10) !== 0 || page.readUInt32LE(12) !== 0) return `meta page ${id} has a count or overflow`;
  const meta = page.subarray(16, META_END);
  if (meta.readUInt32LE(0) !== MAGIC) return `meta page ${id} has no bbolt magic number`;
  if (meta.readUInt32LE(4) !== VERSION) return `meta page ${id} has an unknown format version`;
  if (meta.readBigUInt64LE(56) !== fnv64a(meta.subarray(0, 56))) return `meta page ${id} has a wrong checksum`;
  if (meta.readUInt32LE(8) !== page.length) return `meta page ${id} names another page size`;
  if (meta.readUInt32LE(12) !== 0 || meta.readBigUInt64LE(24) !== 0n) return `meta page ${id} has unknown flags`;
  if (page.subarray(META_END).some((byte) => byte !== 0)) return `meta page ${id} is not zero behind its meta`;
  return {
    pageSize: page.length,
    root: meta.readBigUInt64LE(16),
    freelist: meta.readBigUInt64LE(32),
    highWaterMark: meta.readBigUInt64LE(40),
    txid: meta.readBigUInt64LE(48),
  };
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

function fnv64a(bytes: Uint8Array): bigint {
  let hash = 0xcbf29ce484222325n;
  for (const byte of bytes) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  return hash;
}

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

import { createGunzip, createZstdDecompress } from 'node:zlib';
import { decompress, DecompressionError } from '../decompress.ts';
import type { Identity } from '../sealed/age-header.ts';
import { recognize, RECOGNIZED_BYTES } from '../snapshot/file-kind.ts';
import { invalidSnapshot, openFile, openFileOrSealed, type SnapshotSource, unreadable } from '../snapshot/source.ts';
import { Header, HEADER_BYTES, TRAILER_SIZE } from '../snapshot/verify/page.ts';
import { humanSize } from '../text.ts';
import { readZip, ZipError } from './zip-archive.ts';

/** Bytes: the largest blob that an upload can store. */
const MAX_SIZE = 244 * 2 ** 30;

const HINT = 'Use another copy of this file.';

/** The bytes of the snapshot's file from its beginning; each call reads again. */
type Read = () => AsyncIterable<Buffer>;

/**
 * Opens a snapshot file: as it is, in a zip archive, compressed with gzip or zstd, or encrypted with age if identities are known.
 * Opening and reading throw VerificationError for a packed file that is damaged, or has more bytes than the database in it.
 * @param loadIdentities called if it is encrypted
 * @throws WorkerError (no such snapshot); UsageError when no identity opens it
 */
export async function openPacked(
  path: string,
  signal: AbortSignal,
  loadIdentities: () => Promise<readonly Identity[] | undefined>,
): Promise<SnapshotSource> {
  const file = await openFile(path, signal);
  const kind = recognize(await beginningOf(file.read(), RECOGNIZED_BYTES));
  if (kind?.encoding === 'age') return openFileOrSealed(path, signal, loadIdentities);
  if (kind?.encoding === 'zstd') return unpacked(file, () => decompress(file.read(), createZstdDecompress));
  if (kind?.packing === 'gzip') return unpacked(file, () => decompress(file.read(), createGunzip));
  if (kind?.packing === 'zip') return unpacked(file, () => readZip(path, (from) => file.read(from)));
  return file;
}

/** The meta pages of a database say how large it is: nothing beyond that is unpacked. */
async function unpacked(file: SnapshotSource, read: Read): Promise<SnapshotSource> {
  const explained: Read = () => explain(file, read());
  const head = await beginningOf(explained(), HEADER_BYTES);
  const { meta, pageSize } = new Header(head);
  if (meta === undefined) return { ...file, size: head.length, read: (from) => beginAt([head], from) };
  const size = Number(meta.highWaterMark) * pageSize + TRAILER_SIZE;
  if (size > MAX_SIZE) throw invalidSnapshot(file, `unpacked, it would have ${humanSize(size)}`, undefined, HINT);
  return { ...file, size, read: (from) => beginAt(limit(file, explained(), size), from) };
}

async function* limit(file: SnapshotSource, pieces: AsyncIterable<Buffer>, size: number): AsyncGenerator<Buffer> {
  let passed = 0;
  for await (const piece of pieces) {
    passed += piece.length;
    if (passed > size) {
      throw invalidSnapshot(file, `unpacked, it has more than the ${size} bytes of its meta pages`, undefined, HINT);
    }
    yield piece;
  }
}

async function* beginAt(pieces: AsyncIterable<Buffer> | readonly Buffer[], from = 0): AsyncGenerator<Buffer> {
  let left = from;
  for await (const piece of pieces) {
    if (left < piece.length) yield piece.subarray(left);
    left = Math.max(0, left - piece.length);
  }
}

async function beginningOf(pieces: AsyncIterable<Buffer>, length: number): Promise<Buffer> {
  let head: Buffer = Buffer.alloc(0);
  for await (const piece of pieces) {
    head = Buffer.concat([head, piece.subarray(0, length - head.length)]);
    if (head.length === length) break;
  }
  return head;
}

async function* explain(file: SnapshotSource, pieces: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  try {
    yield* pieces;
  } catch (error) {
    if (error instanceof ZipError) throw invalidSnapshot(file, error.message, undefined, HINT);
    if (error instanceof DecompressionError) {
      throw invalidSnapshot(file, `it cannot be decompressed: ${error.message}`, undefined, HINT);
    }
    const isOfSystem = error instanceof Error && 'code' in error;
    throw isOfSystem ? unreadable(file.name, error) : error;
  }
}

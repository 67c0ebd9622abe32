import { createHash, type Hash } from 'node:crypto';
import { pipeline } from 'node:stream/promises';
import { createZstdDecompress } from 'node:zlib';
import { VerificationError } from '../errors.ts';
import { printable } from '../text.ts';

/** Bytes that come out at a time. */
const CHUNK_SIZE = 256 * 1024;

const HINT = 'Use another snapshot. To see them, run: etcd-snapshot list';

interface Expected {
  /** Name of the blob or file, for messages. */
  readonly name: string;
  /** Bytes of the snapshot's file, a limit: a few bytes can be unpacked to any number. Undefined to count them. */
  readonly size: number | undefined;
  /** Of the sealed bytes; undefined if it is not known. */
  readonly storedSha256: string | undefined;
}

/**
 * The bytes of a snapshot's file, from the bytes of its sealed blob.
 * @param stored a piece is used until the next one is taken
 * @throws VerificationError when they are not what was sealed; what reading `stored` throws
 */
export async function* unseal(
  stored: AsyncIterable<Uint8Array>,
  { name, size, storedSha256 }: Expected,
): AsyncGenerator<Buffer, void, void> {
  const storedHash = createHash('sha256');
  const zstd = createZstdDecompress({ chunkSize: CHUNK_SIZE });
  const feeding = pipeline(copied(stored, storedHash), zstd);
  // Its error is also that of reading.
  feeding.catch(() => {});
  let unpacked = 0;
  try {
    for await (const piece of zstd as AsyncIterable<Buffer>) {
      unpacked += piece.length;
      if (size !== undefined && unpacked > size) throw invalid(name, `unpacked, it is larger than ${size} bytes`);
      yield piece;
    }
    await feeding;
  } catch (error) {
    throw isOfZstd(error) ? invalid(name, `it cannot be decompressed: ${error.message}`, error) : error;
  } finally {
    zstd.destroy();
    // No request is left.
    await feeding.catch(() => {});
  }
  if (size !== undefined && unpacked < size)
    throw invalid(name, `unpacked, it has ${unpacked} bytes instead of ${size}`);
  if (storedSha256 === undefined || storedHash.digest('hex') === storedSha256) return;
  throw invalid(name, 'the sha256 of its blob does not match its record');
}

/** The decompression keeps a piece for longer than its memory is unchanged. */
async function* copied(stored: AsyncIterable<Uint8Array>, hash: Hash): AsyncGenerator<Buffer, void, void> {
  for await (const piece of stored) {
    hash.update(piece);
    yield Buffer.from(piece);
  }
}

function isOfZstd(error: unknown): error is Error {
  return error instanceof Error && 'code' in error && /^(ZSTD|Z)_/.test(String(error.code));
}

function invalid(name: string, problem: string, cause?: unknown): VerificationError {
  return new VerificationError(`${printable(name)} is not a valid snapshot: ${problem}.`, HINT, cause);
}

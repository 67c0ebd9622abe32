import { pipeline } from 'node:stream/promises';
import type { createGunzip, createInflateRaw, createZstdDecompress } from 'node:zlib';

/** Bytes that come out of the decompression at a time. */
const CHUNK_SIZE = 256 * 1024;

/** Its message follows "it cannot be decompressed:". */
export class DecompressionError extends Error {}

type Decompression = typeof createGunzip | typeof createInflateRaw | typeof createZstdDecompress;

/**
 * Decompresses a stream that ends with its input. A few bytes can be decompressed to any number: the caller counts them.
 * @throws DecompressionError; what reading `compressed` throws
 */
export async function* decompress(
  compressed: AsyncIterable<Uint8Array>,
  create: Decompression,
): AsyncGenerator<Buffer, void, void> {
  const stream = create({ chunkSize: CHUNK_SIZE });
  let taken = 0;
  const copied = async function* (): AsyncGenerator<Buffer, void, void> {
    for await (const piece of compressed) {
      taken += piece.length;
      // It is kept for longer than its memory is unchanged.
      yield Buffer.from(piece);
    }
  };
  const feeding = pipeline(copied(), stream);
  // Its error is also that of reading.
  feeding.catch(() => {});
  try {
    for await (const piece of stream as AsyncIterable<Buffer>) yield piece;
    // Node ends the stream with the compressed data, and ignores what follows.
    if (stream.bytesWritten < taken) throw new DecompressionError('more bytes follow its end');
    await feeding;
  } catch (error) {
    throw isOfZlib(error) ? new DecompressionError(error.message, { cause: error }) : error;
  } finally {
    stream.destroy();
    // No request is left.
    await feeding.catch(() => {});
  }
}

function isOfZlib(error: unknown): error is Error {
  return error instanceof Error && 'code' in error && /^(ZSTD|Z)_/.test(String(error.code));
}

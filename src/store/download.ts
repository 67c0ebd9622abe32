import type { Readable } from 'node:stream';
import type { BlobClient, BlobDownloadResponseParsed } from '@azure/storage-blob';
import { StorageError } from '../errors.ts';
import { isGone } from './gone.ts';
import type { Requests } from './requests.ts';

/** Bytes asked for at once. Two ranges are the bound of the memory that a download takes. */
const RANGE_SIZE = 8 * 1024 * 1024;

/** Which state of a blob is read, and from which byte on. */
export interface Extent {
  readonly etag: string;
  /** Bytes of the whole blob. */
  readonly size: number;
  readonly from: number;
}

/**
 * The bytes of a blob in ranges, one asked for ahead. A range that breaks goes on behind the last byte that came, for the SDK
 * does not resume; patience is counted from that byte on, so a line that is cut often only takes longer. A piece is valid
 * until the next is taken.
 * @throws StorageError, also when the blob was changed or deleted meanwhile, or other bytes come than were asked for
 */
export async function* download(
  blob: BlobClient,
  { etag, size, from }: Extent,
  requests: Requests,
  runSignal: AbortSignal,
): AsyncGenerator<Buffer, void, void> {
  const stop = new AbortController();
  const signal = AbortSignal.any([runSignal, stop.signal]);
  const begin = (offset: number, buffer: Buffer): Promise<Buffer> => {
    const bytes = buffer.subarray(0, Math.min(RANGE_SIZE, size - offset));
    const range = readRange(blob, { etag, size, from: offset }, bytes, requests, signal);
    // The range asked for ahead may fail while nobody waits for it yet.
    range.catch(() => {});
    return range;
  };
  if (from >= size) return;
  const bufferSize = Math.min(RANGE_SIZE, size - from);
  let [current, spare] = [Buffer.allocUnsafe(bufferSize), Buffer.allocUnsafe(bufferSize)];
  try {
    let ahead = begin(from, current);
    for (let next = from + RANGE_SIZE; ; next += RANGE_SIZE) {
      const piece = await ahead;
      const last = next >= size;
      if (!last) ahead = begin(next, spare);
      yield piece;
      if (last) return;
      [current, spare] = [spare, current];
    }
  } finally {
    stop.abort(new Error('the reader left'));
  }
}

/** Fills the buffer with the bytes at `from`, in as many requests as that takes. */
async function readRange(
  blob: BlobClient,
  { etag, size, from }: Extent,
  bytes: Buffer,
  requests: Requests,
  signal: AbortSignal,
): Promise<Buffer> {
  let filled = 0;
  const fill = async (abortSignal: AbortSignal, progressed: () => void): Promise<void> => {
    while (filled < bytes.length) {
      const [offset, count] = [from + filled, bytes.length - filled];
      const options = { conditions: { ifMatch: etag }, maxRetryRequests: 0, abortSignal };
      const answer = await blob.download(offset, count, options);
      const body = answer.readableStreamBody as Readable;
      try {
        demandAskedFor(answer, { etag, size, from: offset }, count);
        for await (const chunk of body as AsyncIterable<Buffer>) {
          bytes.set(chunk, filled);
          filled += chunk.length;
          progressed();
        }
      } finally {
        body.destroy();
      }
    }
  };
  try {
    await requests.send(`reading byte ${from} on of ${blob.name}`, fill, { signal });
    return bytes;
  } catch (error) {
    if (!(await isGone(blob, error, requests, signal))) throw error;
    throw new StorageError(
      'BlobNotFound',
      `${blob.name} was deleted by somebody else while it was read.`,
      '`etcd-snapshot list` shows what there is.',
      error,
    );
  }
}

/** An answer may end early, but it must be a part of the blob that begins where it was asked to. */
function demandAskedFor(
  { contentRange = 'no range', contentLength = 0 }: BlobDownloadResponseParsed,
  { size, from }: Extent,
  count: number,
): void {
  const [, first, last, total] = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(contentRange) ?? [];
  const isPart = Number(first) === from && Number(last) === from + contentLength - 1;
  if (isPart && contentLength <= count && Number(total) === size) return;
  throw new StorageError(
    'UnexpectedRange',
    `Azure answered with ${contentRange} when asked for ${count} bytes from ${from} on of ${size}.`,
    'Look for a proxy or cache that changes answers.',
  );
}

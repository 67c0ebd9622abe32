import type { Readable } from 'node:stream';
import { finished } from 'node:stream/promises';
import type { BlobClient, BlobDownloadResponseParsed } from '@azure/storage-blob';
import { StorageError } from '../errors.ts';
import { collectYoung } from '../memory.ts';
import { isGone } from './errors.ts';
import type { Requests } from './requests.ts';

/**
 * Bytes asked for at once, and how many such ranges are under way or with the reader: the bound of the memory that a download
 * takes. One request at a time leaves the line idle while it is answered, and Azure gives one connection no more than a share.
 */
const RANGE_SIZE = 2 * 1024 * 1024;
const RANGES = 4;

/** Which state of a blob is read, and from which byte on. */
interface Extent {
  readonly etag: string;
  /** Bytes of the whole blob. */
  readonly size: number;
  readonly from: number;
}

/**
 * The bytes of a blob in order, from ranges that are asked for in parallel. A range that breaks goes on behind the last byte
 * that came, for the SDK does not resume; deadline is counted from that byte on, so a line that is cut often only takes longer.
 * A piece is valid until the next is taken. However the reading ends, no request is left under way.
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
  const begin = (offset: number, memory: Buffer): Promise<Buffer> => {
    const range = readRange(blob, { etag, size, from: offset }, memory.subarray(0, size - offset), requests, signal);
    // It may fail while nobody waits for it yet.
    range.catch(() => {});
    return range;
  };
  const underWay: Promise<Buffer>[] = [];
  const ahead = from + RANGES * RANGE_SIZE;
  try {
    for (let at = from; at < Math.min(ahead, size); at += RANGE_SIZE) {
      underWay.push(begin(at, Buffer.allocUnsafe(Math.min(RANGE_SIZE, size - at))));
    }
    for (let at = ahead; ; at += RANGE_SIZE) {
      const piece = await underWay.shift();
      if (piece === undefined) return;
      collectYoung();
      yield piece;
      if (at < size) underWay.push(begin(at, piece));
    }
  } finally {
    stop.abort(new Error('the reader left'));
    await Promise.allSettled(underWay);
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
        assertAskedFor(answer, { etag, size, from: offset }, count);
        body.on('data', (chunk: Buffer) => {
          bytes.set(chunk, filled);
          filled += chunk.length;
          progressed();
        });
        await finished(body);
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

/** An answer may end early, but it must be a part of the blob that begins where it was asked to: with nothing nobody gets on. */
function assertAskedFor(
  { contentRange = 'no range', contentLength = 0 }: BlobDownloadResponseParsed,
  { size, from }: Extent,
  count: number,
): void {
  const [, first, last, total] = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(contentRange) ?? [];
  const isPart = Number(first) === from && Number(last) === from + contentLength - 1;
  if (isPart && contentLength > 0 && contentLength <= count && Number(total) === size) return;
  throw new StorageError(
    'UnexpectedRange',
    `Azure answered with ${contentRange} when asked for ${count} bytes from ${from} on of ${size}.`,
    'Look for a proxy or cache that changes answers.',
  );
}

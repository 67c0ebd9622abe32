import type { Readable } from 'node:stream';
import { finished } from 'node:stream/promises';
import type { BlobClient, BlobDownloadResponseParsed } from '@azure/storage-blob';
import { StorageError } from '../errors.ts';
import { isGone, type Requests } from './requests.ts';

/**
 * Bytes of one request, and how many such ranges are requested or with the reader: the limit of the memory that a download
 * takes. With one request at a time the line is idle while Azure answers, and Azure gives one connection only a share.
 */
const RANGE_SIZE = 2 * 1024 * 1024;
const RANGES = 4;

/** The state of a blob that is read, and the first byte. */
interface Extent {
  readonly etag: string;
  /** Bytes of the whole blob. */
  readonly size: number;
  readonly from: number;
}

/**
 * The bytes of a blob in order, from ranges that are requested in parallel. A range that breaks off continues after the last
 * byte that arrived, because the SDK does not resume; deadlines count from that byte, so a line that breaks often only takes
 * longer. A piece is valid until the next one is taken. No request is left when the reading ends, in whatever way.
 * @throws StorageError, also when the blob was changed or deleted, or other bytes come than were requested
 */
export async function* download(
  blob: BlobClient,
  { etag, size, from }: Extent,
  requests: Requests,
  runSignal: AbortSignal,
): AsyncGenerator<Buffer, void, void> {
  const stop = new AbortController();
  const signal = AbortSignal.any([runSignal, stop.signal]);
  const request = (offset: number, memory: Buffer): Promise<Buffer> => {
    const range = readRange(blob, { etag, size, from: offset }, memory.subarray(0, size - offset), requests, signal);
    // It may fail before it is awaited.
    range.catch(() => {});
    return range;
  };
  const pending: Promise<Buffer>[] = [];
  const ahead = from + RANGES * RANGE_SIZE;
  try {
    for (let at = from; at < Math.min(ahead, size); at += RANGE_SIZE) {
      pending.push(request(at, Buffer.allocUnsafe(Math.min(RANGE_SIZE, size - at))));
    }
    for (let at = ahead; ; at += RANGE_SIZE) {
      const piece = await pending.shift();
      if (piece === undefined) return;
      yield piece;
      if (at < size) pending.push(request(at, piece));
    }
  } finally {
    stop.abort(new Error('the reader left'));
    await Promise.allSettled(pending);
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
        assertRange(answer, { etag, size, from: offset }, count);
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
    await requests.send(`reading ${blob.name} from byte ${from}`, fill, { signal });
    return bytes;
  } catch (error) {
    if (!(await isGone(blob, error, requests, signal))) throw error;
    throw new StorageError(
      'BlobNotFound',
      `${blob.name} was deleted while it was read.`,
      'Run `etcd-snapshot list` to see the snapshots that are left.',
      error,
    );
  }
}

/** An answer may end early, but it must begin where it was requested, and must not be empty, or the download would never end. */
function assertRange(
  { contentRange = 'no range', contentLength = 0 }: BlobDownloadResponseParsed,
  { size, from }: Extent,
  count: number,
): void {
  const [, first, last, total] = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(contentRange) ?? [];
  const isPart = Number(first) === from && Number(last) === from + contentLength - 1;
  if (isPart && contentLength > 0 && contentLength <= count && Number(total) === size) return;
  throw new StorageError(
    'UnexpectedRange',
    `Azure answered with ${contentRange} to a request for ${count} bytes at offset ${from} (size ${size}).`,
    'Check for a proxy or cache that changes answers.',
  );
}

import type { BlobItem, ContainerClient } from '@azure/storage-blob';
import * as v from 'valibot';
import { StorageError } from '../errors.ts';
import type { Requests } from './requests.ts';

/** Blobs per page. With the maximum of 5,000, parsing the answer alone takes hundreds of megabytes. */
export const PAGE_SIZE = 500;

/** A page may be empty and another one follow, but no container has that many. */
const MAX_PAGES = 20_000;

/** Bytes of names and records in memory: those of fifty thousand snapshots, or of a quarter of a million other blobs. */
const MAX_KEPT = 64 * 2 ** 20;
const BLOB_OVERHEAD = 200;

/** Limits what a listing keeps in memory. */
export class ListingLimit {
  readonly #prefix: string;
  #blobs = 0;
  #bytes = 0;

  constructor(prefix: string) {
    this.#prefix = prefix;
  }

  /** @param metadata what is kept of it @throws StorageError when it is too much */
  add(name: string, metadata?: object): void {
    this.#blobs += 1;
    this.#bytes += BLOB_OVERHEAD + name.length + (metadata === undefined ? 0 : JSON.stringify(metadata).length);
    if (this.#bytes <= MAX_KEPT) return;
    throw new StorageError(
      'TooManyBlobs',
      `There are more than ${this.#blobs} blobs under the prefix "${this.#prefix}", too many for the memory of this program.`,
      'Use a separate container, or another SNAPSHOT_BLOB_PREFIX, for the snapshots.',
    );
  }
}

interface Page {
  readonly items: readonly BlobItem[];
  /** When the service answered, by its own clock; undefined if the answer has no date. */
  readonly time: Date | undefined;
}

/** The blobs under a prefix with their metadata, in pages. @throws StorageError, also for a list that has no end */
export async function* pagesOf(
  container: ContainerClient,
  prefix: string,
  doing: string,
  requests: Requests,
): AsyncGenerator<Page, void, void> {
  const markers = new Set<string>();
  for (let marker = ''; ;) {
    const page = await requests.send(doing, async (abortSignal) => {
      const pages = container
        .listBlobsFlat({ prefix, includeMetadata: true, abortSignal })
        .byPage({ maxPageSize: PAGE_SIZE, ...(marker === '' ? {} : { continuationToken: marker }) });
      return (await pages.next()).value;
    });
    const items = page?.segment.blobItems ?? [];
    if (items.length > PAGE_SIZE) throw invalidAnswer(`it has ${items.length} blobs instead of at most ${PAGE_SIZE}`);
    yield { items, time: validDate(page?.date) };
    marker = page?.continuationToken ?? '';
    if (marker === '') return;
    if (markers.has(marker)) throw invalidAnswer('the list of blobs has no end: its marker repeats');
    if (markers.size === MAX_PAGES) throw invalidAnswer(`the list of blobs has more than ${MAX_PAGES} pages`);
    markers.add(marker);
  }
}

function validDate(date: unknown): Date | undefined {
  return v.is(ValidDate, date) ? date : undefined;
}

const ValidDate = v.pipe(
  v.date(),
  v.check((date) => !Number.isNaN(date.getTime())),
);
const Blob = v.pipe(
  v.object({
    name: v.pipe(v.string(), v.minLength(1), v.maxLength(1024)),
    contentLength: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
    etag: v.pipe(v.string(), v.minLength(1), v.maxLength(256)),
    createdOn: v.optional(ValidDate),
    lastModified: v.optional(ValidDate),
  }),
  v.check(({ createdOn, lastModified }) => createdOn !== undefined || lastModified !== undefined),
);

interface BlobState {
  readonly name: string;
  readonly etag: string;
  /** Bytes. */
  readonly size: number;
  /** By the clock of the service. */
  readonly storedAt: Date;
}

/** What every blob has, from an answer of the service. @throws StorageError when the answer lacks it */
export function blobState(name: unknown, properties: object): BlobState {
  const blob = v.safeParse(Blob, { ...properties, name });
  if (!blob.success) throw invalidAnswer('it describes a blob without name, length, etag or date');
  const { contentLength: size, etag, createdOn, lastModified } = blob.output;
  return { name: blob.output.name, etag, size, storedAt: createdOn ?? lastModified ?? new Date(0) };
}

/** Metadata can be anything. */
export function fieldsOf(metadata: unknown): Readonly<Record<string, unknown>> {
  return typeof metadata === 'object' && metadata !== null ? { ...metadata } : {};
}

function invalidAnswer(why: string): StorageError {
  return new StorageError(
    'InvalidResponse',
    `Invalid answer from Azure: ${why}.`,
    'Check that SNAPSHOT_AZURE_BLOB_ENDPOINT is Azure Blob Storage, and that no proxy changes its answers.',
  );
}

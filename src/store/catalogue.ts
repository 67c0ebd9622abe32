import type { BlobItem, ContainerClient } from '@azure/storage-blob';
import * as v from 'valibot';
import { StorageError } from '../errors.ts';
import type { Signatures } from '../sealed/signature.ts';
import type { CataloguedBlob } from '../snapshot/inventory.ts';
import { parseMetadata } from '../snapshot/record.ts';
import { claimedSignature } from '../snapshot/signature-state.ts';
import { isBundleName, takenAtOf } from '../snapshot/snapshot-name.ts';
import type { Requests } from './requests.ts';

/** Bytes of metadata that the service accepts for one blob, names included, without those of a signature. */
const MAX_METADATA = 8 * 1024 - 128;

/** Characters of a single value, except for lists. */
const MAX_VALUE = 512;
const LISTS = new Set(['members', 'bundlekeys']);

/**
 * A record as headers can carry it. It holds texts of the snapshot and its source, so each value becomes printable ASCII of
 * limited length; if everything does not fit, what is known of a bundle's keys is omitted, and then the list of members is empty, as
 * if they were unknown.
 */
export function storable(metadata: Readonly<Record<string, string>>): Record<string, string> {
  const clean = Object.entries(metadata).map(([name, value]): [string, string] => {
    const ascii = value.replace(/[^\x20-\x7e]/g, '?').trim();
    return [name, LISTS.has(name) ? ascii : ascii.slice(0, MAX_VALUE)];
  });
  if (fits(clean)) return Object.fromEntries(clean);
  const withoutKeys = clean.filter(([name]) => name !== 'bundlekeys');
  return { ...Object.fromEntries(withoutKeys), ...(fits(withoutKeys) ? {} : { members: '[]' }) };
}

function fits(metadata: readonly (readonly [string, string])[]): boolean {
  return metadata.flat().join('').length <= MAX_METADATA;
}

/** A blob under the prefix. Without a record it is no snapshot, and is never changed. */
export interface StoredBlob extends CataloguedBlob {
  /** From the record, or else from a name of our pattern. */
  readonly takenAt: Date | undefined;
}

/** Blobs per page. With the maximum of 5,000, parsing the answer alone takes hundreds of megabytes. */
const PAGE_SIZE = 500;

/** A page may be empty and another one follow, but no container has that many. */
const MAX_PAGES = 20_000;

/** Bytes of names and records in memory: those of fifty thousand snapshots, or of a quarter of a million other blobs. */
const MAX_KEPT = 64 * 2 ** 20;
const BLOB_OVERHEAD = 200;

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

/**
 * A blob from an answer of the service.
 * @param signatures verifies records; undefined where no keys are in use
 * @throws StorageError when the answer lacks what every blob has
 */
export function storedBlob(
  prefix: string,
  name: unknown,
  metadata: unknown,
  properties: object,
  signatures?: Signatures,
): StoredBlob {
  const blob = v.safeParse(Blob, { ...properties, name });
  if (!blob.success) throw invalidAnswer('it describes a blob without name, length, etag or date');
  const { contentLength: size, etag, createdOn, lastModified } = blob.output;
  const fields: Readonly<Record<string, unknown>> =
    typeof metadata === 'object' && metadata !== null ? { ...metadata } : {};
  const { record, problem } = parseMetadata(fields);
  const checked = signatures?.check(withoutPrefix(prefix, blob.output.name), fields);
  const uploadId = fields['uploadid'];
  return {
    ...{ name: blob.output.name, size, etag, record, problem },
    storedAt: createdOn ?? lastModified ?? new Date(0),
    takenAt: record?.takenAt ?? takenAtOf(prefix, blob.output.name),
    ...(record !== undefined && (checked ?? { signature: claimedSignature(fields) })),
    ...(isBundleName(blob.output.name) && typeof uploadId === 'string' && { bundleOf: uploadId }),
    ...('leaseStatus' in properties && properties.leaseStatus === 'locked' && { isLeased: true }),
  };
}

/** The name of a blob in the container, as its record is signed with it. */
export function withoutPrefix(prefix: string, name: string): string {
  return name.startsWith(prefix) ? name.slice(prefix.length) : name;
}

/** All blobs under the prefix, page by page, the newest first. @throws StorageError */
export async function listBlobs(
  container: ContainerClient,
  prefix: string,
  requests: Requests,
  signatures?: Signatures,
): Promise<StoredBlob[]> {
  const blobs = new Map<string, StoredBlob>();
  let kept = 0;
  for await (const page of pagesOf(container, prefix, 'listing the container', requests)) {
    for (const { name, metadata, properties } of page) {
      const blob = storedBlob(prefix, name, metadata, properties, signatures);
      kept += BLOB_OVERHEAD + blob.name.length + (blob.record === undefined ? 0 : JSON.stringify(metadata).length);
      blobs.set(blob.name, blob);
    }
    if (kept > MAX_KEPT) {
      throw new StorageError(
        'TooManyBlobs',
        `There are more than ${blobs.size} blobs under the prefix "${prefix}", too many for the memory of this program.`,
        'Use a separate container, or another SNAPSHOT_BLOB_PREFIX, for the snapshots.',
      );
    }
  }
  const time = ({ takenAt, storedAt }: StoredBlob): number => (takenAt ?? storedAt).getTime();
  return [...blobs.values()].toSorted((a, b) => time(b) - time(a));
}

/** The blobs under a prefix with their metadata, in pages. @throws StorageError, also for a list that has no end */
export async function* pagesOf(
  container: ContainerClient,
  prefix: string,
  doing: string,
  requests: Requests,
): AsyncGenerator<readonly BlobItem[], void, void> {
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
    yield items;
    marker = page?.continuationToken ?? '';
    if (marker === '') return;
    if (markers.has(marker)) throw invalidAnswer('the list of blobs has no end: its marker repeats');
    if (markers.size === MAX_PAGES) throw invalidAnswer(`the list of blobs has more than ${MAX_PAGES} pages`);
    markers.add(marker);
  }
}

function invalidAnswer(why: string): StorageError {
  return new StorageError(
    'InvalidResponse',
    `Invalid answer from Azure: ${why}.`,
    'Check that SNAPSHOT_AZURE_BLOB_ENDPOINT is Azure Blob Storage, and that no proxy changes its answers.',
  );
}

import type { ContainerClient } from '@azure/storage-blob';
import { takenAtOf } from '../snapshot/name.ts';
import { fromMetadata, type SnapshotRecord } from '../snapshot/record.ts';
import type { Requests } from './requests.ts';

/** A blob under the prefix. Without a record it is none of this tool's, and is never changed. */
export interface StoredBlob {
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  readonly etag: string;
  readonly storedAt: Date;
  /** From the record, or else from a name of our pattern. */
  readonly takenAt: Date | undefined;
  readonly record: SnapshotRecord | undefined;
}

interface BlobProperties {
  readonly contentLength?: number;
  readonly etag?: string;
  readonly createdOn?: Date;
  readonly lastModified?: Date;
}

/** Blobs that are asked for at once. Of 5,000, which is the most, parsing the answer alone takes hundreds of megabytes. */
const PAGE_SIZE = 500;

/** What the service says of a blob, as a snapshot. */
export function storedBlob(
  prefix: string,
  name: string,
  metadata: Record<string, string> | undefined,
  properties: BlobProperties,
): StoredBlob {
  const record = fromMetadata(metadata);
  return {
    name,
    size: properties.contentLength ?? 0,
    etag: properties.etag ?? '',
    storedAt: properties.createdOn ?? properties.lastModified ?? new Date(0),
    takenAt: record?.takenAt ?? takenAtOf(prefix, name),
    record,
  };
}

/** All blobs under the prefix, page by page, the newest first. @throws StorageError */
export async function listBlobs(container: ContainerClient, prefix: string, requests: Requests): Promise<StoredBlob[]> {
  const blobs: StoredBlob[] = [];
  let continuationToken: string | undefined;
  do {
    const page = await requests.send('listing the container', async (abortSignal) => {
      const pages = container
        .listBlobsFlat({ prefix, includeMetadata: true, abortSignal })
        .byPage({ maxPageSize: PAGE_SIZE, ...(continuationToken === undefined ? {} : { continuationToken }) });
      return (await pages.next()).value;
    });
    for (const { name, metadata, properties } of page?.segment.blobItems ?? []) {
      blobs.push(storedBlob(prefix, name, metadata, properties));
    }
    continuationToken = page?.continuationToken;
  } while (continuationToken !== undefined && continuationToken !== '');
  return blobs.toSorted((a, b) => (b.takenAt ?? b.storedAt).getTime() - (a.takenAt ?? a.storedAt).getTime());
}

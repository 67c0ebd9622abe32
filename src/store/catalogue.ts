import type { ContainerClient } from '@azure/storage-blob';
import type { Signatures } from '../sealed/signature.ts';
import type { CataloguedBlob } from '../snapshot/inventory.ts';
import { parseMetadata } from '../snapshot/record.ts';
import { claimedSignature } from '../snapshot/signature-state.ts';
import { formOf, isBundleName, takenAtOf } from '../snapshot/snapshot-name.ts';
import { eventKindOf, type ListedEvents, type StoredEvent, storedEvent } from './events.ts';
import { blobState, fieldsOf, ListingLimit, pagesOf } from './pages.ts';
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
  /** In the archive tier it cannot be read; `rehydrating` = it is being moved to another one. */
  readonly archive?: 'archived' | 'rehydrating';
}

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
  const state = blobState(name, properties);
  const fields = fieldsOf(metadata);
  const { record, problem } = parseMetadata(fields);
  const checked = signatures?.check(withoutPrefix(prefix, state.name), fields);
  const uploadId = fields['uploadid'];
  return {
    ...{ ...state, record, problem },
    takenAt: record?.takenAt ?? takenAtOf(prefix, state.name),
    ...(record !== undefined && (checked ?? { signature: claimedSignature(fields) })),
    ...(isBundleName(state.name) && typeof uploadId === 'string' && { bundleOf: uploadId }),
    ...('leaseStatus' in properties && properties.leaseStatus === 'locked' && { isLeased: true }),
    ...('accessTier' in properties && properties.accessTier === 'Archive' && { archive: archiveState(properties) }),
  };
}

function archiveState(properties: object): 'archived' | 'rehydrating' {
  const { archiveStatus } = properties as { readonly archiveStatus?: unknown };
  return archiveStatus === undefined ? 'archived' : 'rehydrating';
}

/** The name of a blob in the container, as its record is signed with it. */
export function withoutPrefix(prefix: string, name: string): string {
  return name.startsWith(prefix) ? name.slice(prefix.length) : name;
}

/** What is under a prefix. */
export interface Listing extends ListedEvents {
  /** All but the events, the newest first. */
  readonly blobs: readonly StoredBlob[];
}

/** Everything under the prefix, page by page. @throws StorageError */
export async function listContainer(
  container: ContainerClient,
  prefix: string,
  requests: Requests,
  signatures?: Signatures,
): Promise<Listing> {
  const blobs = new Map<string, StoredBlob>();
  const events: StoredEvent[] = [];
  const limit = new ListingLimit(prefix);
  let began: Date | undefined;
  for await (const { items, time } of pagesOf(container, prefix, 'listing the container', requests)) {
    began ??= time;
    for (const item of items) {
      const kind = eventKindOf(prefix, item.name);
      if (kind !== undefined) {
        limit.add(item.name, item.metadata);
        events.push(storedEvent(kind, prefix, item, signatures));
        continue;
      }
      const blob = storedBlob(prefix, item.name, item.metadata, item.properties, signatures);
      limit.add(blob.name, blob.record && item.metadata);
      blobs.set(blob.name, blob);
    }
  }
  const age = ({ takenAt, storedAt }: StoredBlob): number => (takenAt ?? storedAt).getTime();
  return {
    blobs: [...blobs.values()].toSorted((a, b) => age(b) - age(a) || formOf(b.name) - formOf(a.name)),
    events,
    time: began,
  };
}

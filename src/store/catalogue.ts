import type { BlobItem, ContainerClient } from '@azure/storage-blob';
import type { Signatures } from '../sealed/signature.ts';
import { readCopies, withOriginal } from '../snapshot/copies.ts';
import { readProofs, withProof } from '../snapshot/forms.ts';
import { type CataloguedBlob, type StoredIdentity, takeInventory, withBundles } from '../snapshot/inventory.ts';
import { type MarkRules, readMarks, withMark } from '../snapshot/marks.ts';
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

/** A place whose inventory is made. */
interface InventoryRules extends Omit<MarkRules, 'time'> {
  readonly isSecondPlace: boolean;
}

/** A listing in which only snapshots have a record, each with its bundle, its mark, and whether it was read back. */
export function inventoryOf(listing: Listing, place: InventoryRules, fresh?: StoredIdentity): Listing {
  const { blobs, events, time } = listing;
  const { prefix, areSignaturesRequired, isSecondPlace } = place;
  const rules = { ...place, time };
  const [keptOf, proofs, originalOf] = [
    readMarks(events, rules),
    readProofs(events, rules),
    readCopies(events, prefix, areSignaturesRequired && !isSecondPlace),
  ];
  const stored = withBundles(blobs).map((blob) => withOriginal(blob, originalOf, isSecondPlace));
  const inventory = takeInventory(prefix, stored, fresh, areSignaturesRequired);
  return { ...listing, blobs: inventory.map((blob) => withProof(withMark(blob, keptOf), prefix, proofs)) };
}

/** Everything under the prefix, page by page. @throws StorageError */
export async function listContainer(
  container: ContainerClient,
  prefix: string,
  requests: Requests,
  signatures?: Signatures,
): Promise<Listing> {
  const found = new Collector(prefix, signatures);
  const limit = new ListingLimit(prefix);
  let began: Date | undefined;
  for await (const { items, time } of pagesOf(container, prefix, 'listing the container', requests)) {
    began ??= time;
    for (const item of items) found.add(item, limit);
  }
  return found.listing(began);
}

/** Everything in a container, by the prefix that names of this tool have there; the empty one for other names. @throws StorageError */
export async function listEveryPrefix(
  container: ContainerClient,
  requests: Requests,
  signatures?: Signatures,
): Promise<Map<string, Listing>> {
  const parts = new Map<string, Collector>();
  const limit = new ListingLimit('');
  let began: Date | undefined;
  for await (const { items, time } of pagesOf(container, '', 'listing the container', requests)) {
    began ??= time;
    for (const item of items) {
      const prefix = prefixIn(item.name);
      const part = parts.get(prefix) ?? new Collector(prefix, signatures);
      parts.set(prefix, part.add(item, limit));
    }
  }
  return new Map([...parts].map(([prefix, part]) => [prefix, part.listing(began)]));
}

function prefixIn(name: string): string {
  return /^(.*?)(?:kubernetes-etcd-snapshot_|etcd-snapshot-[a-z]+\/)/s.exec(name)?.[1] ?? '';
}

/** Sorts what a listing returns into events and blobs. */
class Collector {
  readonly #prefix: string;
  readonly #signatures: Signatures | undefined;
  readonly #blobs = new Map<string, StoredBlob>();
  readonly #events: StoredEvent[] = [];

  constructor(prefix: string, signatures: Signatures | undefined) {
    this.#prefix = prefix;
    this.#signatures = signatures;
  }

  /** @throws StorageError */
  add(item: BlobItem, limit: ListingLimit): this {
    const kind = eventKindOf(this.#prefix, item.name);
    if (kind === undefined) {
      const blob = storedBlob(this.#prefix, item.name, item.metadata, item.properties, this.#signatures);
      limit.add(blob.name, blob.record && item.metadata);
      this.#blobs.set(blob.name, blob);
    } else {
      limit.add(item.name, item.metadata);
      this.#events.push(storedEvent(kind, this.#prefix, item, this.#signatures));
    }
    return this;
  }

  listing(time: Date | undefined): Listing {
    const blobs = [...this.#blobs.values()].toSorted(
      (a, b) => timeOf(b) - timeOf(a) || formOf(b.name) - formOf(a.name),
    );
    return { blobs, events: this.#events, time };
  }
}

function timeOf({ takenAt, storedAt }: StoredBlob): number {
  return (takenAt ?? storedAt).getTime();
}

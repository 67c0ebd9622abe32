import type { BlobItem, ContainerClient } from '@azure/storage-blob';
import type { Signatures } from '../sealed/signature.ts';
import type { RecordSignature } from '../snapshot/signature-state.ts';
import { codeOf } from './errors.ts';
import { blobState, fieldsOf, ListingLimit, pagesOf } from './pages.ts';
import type { Requests } from './requests.ts';

/** Where the events of each kind are, under the prefix. */
const FOLDERS = {
  drill: 'etcd-snapshot-drills/',
  mark: 'etcd-snapshot-marks/',
  form: 'etcd-snapshot-forms/',
  copy: 'etcd-snapshot-copies/',
} as const;
export type EventKind = keyof typeof FOLDERS;

/**
 * Something that happened to a snapshot or to the cluster, stored in a small blob next to the snapshots so that everybody sees it.
 * Each event has a blob of its own, because the rights or an immutability policy can forbid overwriting; everything is in its
 * metadata, so that a listing is enough to read all events.
 */
export interface StoredEvent {
  readonly kind: EventKind;
  readonly name: string;
  readonly etag: string;
  /** By the clock of the service. */
  readonly storedAt: Date;
  /** Its metadata, which can be anything. */
  readonly fields: Readonly<Record<string, unknown>>;
  /** Undefined where no keys are in use. */
  readonly signature: RecordSignature | undefined;
}

/** What a listing found. */
export interface ListedEvents {
  readonly events: readonly StoredEvent[];
  /** When the listing began, by the clock of the service; undefined if no answer has a date. */
  readonly time: Date | undefined;
}

/** An event that is to be stored. */
export interface NewEvent {
  readonly kind: EventKind;
  /** Its name in the folder, which no other event has. */
  readonly id: string;
  /** Names in lower case, values in ASCII. */
  readonly fields: Readonly<Record<string, string>>;
  /** The same for people who look at the blob. */
  readonly body: object;
}

/** The prefix of all events of a kind. */
export function eventPrefix(prefix: string, kind: EventKind): string {
  return `${prefix}${FOLDERS[kind]}`;
}

/** The name of the blob of an event. */
export function eventName(prefix: string, { kind, id }: Pick<NewEvent, 'kind' | 'id'>): string {
  return `${eventPrefix(prefix, kind)}${id}.json`;
}

/** Which events the blob of a listed name belongs to; undefined for everything else. */
export function eventKindOf(prefix: string, name: unknown): EventKind | undefined {
  if (typeof name !== 'string') return undefined;
  return (Object.keys(FOLDERS) as EventKind[]).find((kind) => name.startsWith(eventPrefix(prefix, kind)));
}

/** An event from an answer of the service. @throws StorageError when the answer lacks what every blob has */
export function storedEvent(
  kind: EventKind,
  prefix: string,
  { name: listed, metadata, properties }: BlobItem,
  signatures: Signatures | undefined,
): StoredEvent {
  const { name, etag, storedAt } = blobState(listed, properties);
  const fields = fieldsOf(metadata);
  const signature = signatures?.check(name.slice(prefix.length), fields).signature;
  return { kind, name, etag, storedAt, fields, signature };
}

/** All events of one kind, in any order. @throws StorageError */
export async function listEvents(
  container: ContainerClient,
  prefix: string,
  requests: Requests,
  kind: EventKind,
  signatures: Signatures | undefined,
): Promise<ListedEvents> {
  const events: StoredEvent[] = [];
  const limit = new ListingLimit(prefix);
  let began: Date | undefined;
  const folder = eventPrefix(prefix, kind);
  for await (const { items, time } of pagesOf(container, folder, `listing ${folder}`, requests)) {
    began ??= time;
    for (const item of items) {
      const event = storedEvent(kind, prefix, item, signatures);
      limit.add(event.name, event.fields);
      events.push(event);
    }
  }
  return { events, time: began };
}

/** Codes for a blob that is there already: an earlier try arrived, and its answer was lost. */
const IS_THERE = new Set(['BlobAlreadyExists', 'UnauthorizedBlobOverwrite']);

/** Stores the blob of an event. Needs no other right than to create blobs. @throws StorageError */
export async function writeEvent(
  container: ContainerClient,
  requests: Requests,
  name: string,
  body: Buffer,
  fields: NewEvent['fields'],
): Promise<void> {
  const options = {
    metadata: { ...fields },
    blobHTTPHeaders: { blobContentType: 'application/json' },
    conditions: { ifNoneMatch: '*' },
  };
  const blob = container.getBlockBlobClient(name);
  try {
    await requests.send(`storing ${name}`, (abortSignal) =>
      blob.upload(body, body.length, { ...options, abortSignal }),
    );
  } catch (error) {
    if (!IS_THERE.has(codeOf(error))) throw error;
  }
}

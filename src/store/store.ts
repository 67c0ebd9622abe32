import { createHash, randomBytes } from 'node:crypto';
import type { BlobGetPropertiesResponse, ContainerClient } from '@azure/storage-blob';
import { CREDENTIAL_NAMES } from '../config/azure.ts';
import type { StorageConfig } from '../config/config.ts';
import { errorAt, type Place } from '../config/place.ts';
import { StorageError } from '../errors.ts';
import type { Log } from '../log.ts';
import type { Signatures } from '../sealed/signature.ts';
import type { StoredIdentity } from '../snapshot/inventory.ts';
import { copyFields } from '../snapshot/copies.ts';
import { proofFields } from '../snapshot/forms.ts';
import { type KeptOf, type MarkRules, readMarks } from '../snapshot/marks.ts';
import { openContainer } from './azure-credential.ts';
import { inventoryOf, listContainer, type Listing, type StoredBlob, storedBlob, withoutPrefix } from './catalogue.ts';
import { download } from './download.ts';
import { drillEvent, type DrillNote, lastDrillOf } from './drill-notes.ts';
import { codeOf, isMissing, serverTimeOf } from './errors.ts';
import { type EventKind, eventName, type ListedEvents, listEvents, type NewEvent, writeEvent } from './events.ts';
import { setLegalHold } from './legal-hold.ts';
import { abortedAfter, type Deadlines, DEADLINES, isGone, Requests } from './requests.ts';
import type { Checksums, PlaceOptions } from './upload-options.ts';
import { UploadRate } from './upload-rate.ts';
import { StagedUpload } from './upload.ts';

/** Azure's codes for a blob that cannot be deleted now, which is no error: leases and policies of others are respected. */
const OBSTACLES = new Map([
  ['BlobImmutableDueToPolicy', 'protected by an immutability policy'],
  ['BlobImmutableDueToLegalHold', 'protected by a legal hold'],
  ['LeaseIdMissing', 'leased'],
  ['BlobBeingRehydrated', 'being rehydrated'],
  ['ConditionNotMet', 'changed by another process'],
]);

export const RIGHTS = ['list', 'write', 'read', 'delete'] as const;
export type Right = (typeof RIGHTS)[number];

interface RightsProbe {
  /** Azure's error for each right that the identity lacks. */
  readonly refused: Readonly<Partial<Record<Right, StorageError>>>;
  /** Milliseconds by which this host's clock is ahead of Azure's; undefined if no answer had a date. */
  readonly aheadMs: number | undefined;
}

interface DescribedBlob extends StoredBlob {
  /** All of it, with names in lower case. */
  readonly metadata: Readonly<Record<string, string>>;
}

/** Milliseconds for a deletion after an abort of the run: less than SHUTDOWN_GRACE_MS (main.ts). */
const FINISH_MS = 1_000;

/** No blob has it: a request that demands it changes nothing. */
const NO_ETAG = '"0x0"';

/** Azure's codes for a request that was refused because of the blob or the condition, and not for lack of a right. */
const HAS_RIGHT = new Set(['ConditionNotMet', '412', 'BlobImmutableDueToPolicy', 'BlobImmutableDueToLegalHold']);

/** The container that holds a cluster's snapshots, accessed with one credential during one run. */
export class BlobStore {
  readonly #container: ContainerClient;
  readonly #prefix: string;
  readonly #requests: Requests;
  readonly #signal: AbortSignal;
  readonly #signatures: Signatures | undefined;
  readonly #uploads: PlaceOptions;

  private constructor(
    container: ContainerClient,
    { prefix, accessTier, maxUploadRate }: StorageConfig,
    requests: Requests,
    signal: AbortSignal,
    signatures: Signatures | undefined,
  ) {
    this.#container = container;
    this.#prefix = prefix;
    this.#requests = requests;
    this.#signal = signal;
    this.#signatures = signatures;
    const rate = maxUploadRate === undefined ? undefined : new UploadRate(maxUploadRate);
    this.#uploads = { tier: accessTier, rate };
  }

  /** Makes no request yet. @param signatures undefined where no keys are in use @throws UsageError */
  static async open(
    config: StorageConfig,
    signal: AbortSignal,
    log: Log,
    { signatures, deadlines = DEADLINES }: { signatures?: Signatures | undefined; deadlines?: Deadlines } = {},
  ): Promise<BlobStore> {
    const container = await openContainer(config);
    const { place, source } = config;
    const account = container.accountName;
    const endpoint = { place, host: new URL(container.url).host, account, container: config.container, source };
    log.debug(`accessing Azure with the ${CREDENTIAL_NAMES[source]}`, {
      account,
      container: config.container,
      unused: config.unused.map((kind) => CREDENTIAL_NAMES[kind]),
    });
    const requests = new Requests(endpoint, signal, log, deadlines);
    return new BlobStore(container, config, requests, signal, signatures);
  }

  get #place(): Place {
    return this.#requests.endpoint.place;
  }

  /** Prefix of every blob name. */
  get prefix(): string {
    return this.#prefix;
  }

  get containerName(): string {
    return this.#container.containerName;
  }

  /** Whether snapshots that are not signed by a verification key count for nothing. */
  get requiresSignatures(): boolean {
    return this.#signatures?.areRequired === true;
  }

  /**
   * Whether no blob has this name. Asked before the snapshot is taken, so that a wrong account, key or endpoint is found first.
   * An identity that can only write gets no answer, which counts as yes.
   * @throws StorageError
   */
  async isFree(name: string): Promise<boolean> {
    const free = ['ContainerNotFound', 'AuthorizationPermissionMismatch'];
    try {
      await this.#propertiesOf(name, 'checking the name of the new snapshot');
      return false;
    } catch (error) {
      if (isMissing(error) || free.includes(codeOf(error))) return true;
      throw error;
    }
  }

  /**
   * Tries each right on its own and leaves nothing behind, because an immutability policy would keep it. Azure checks rights
   * before blobs: it is enough to read and delete a blob that does not exist, and to write one on a condition that cannot be met.
   * @throws StorageError for everything but a missing right
   */
  async probeRights(): Promise<RightsProbe> {
    const prefix = this.#prefix;
    const blob = this.#container.getBlockBlobClient(`${prefix}etcd-snapshot-doctor-${randomBytes(8).toString('hex')}`);
    const tries: Readonly<Record<Right, (abortSignal: AbortSignal) => Promise<unknown>>> = {
      list: (abortSignal) => this.#container.listBlobsFlat({ prefix, abortSignal }).byPage({ maxPageSize: 1 }).next(),
      read: (abortSignal) => blob.download(0, 1, { abortSignal }),
      delete: (abortSignal) => blob.delete({ abortSignal }),
      write: (abortSignal) => blob.upload('', 0, { conditions: { ifMatch: NO_ETAG }, abortSignal }),
    };
    const refused: Partial<Record<Right, StorageError>> = {};
    let aheadMs: number | undefined;
    for (const right of RIGHTS) {
      try {
        await this.#requests.send(`checking the permission to ${right}`, tries[right]);
      } catch (error) {
        if (!(error instanceof StorageError)) throw error;
        const serverTime = serverTimeOf(error.cause);
        if (serverTime !== undefined) aheadMs = Date.now() - serverTime;
        if (isMissing(error) || HAS_RIGHT.has(error.code)) continue;
        if (!error.isForbidden) throw error;
        refused[right] = error;
      }
    }
    return { refused, aheadMs };
  }

  /** @param uploadId of the snapshot, for its bundle; by default a new one */
  startUpload(
    name: string,
    checksums: Checksums = { isReadBack: false, contentMd5: 'off' },
    uploadId?: string,
  ): StagedUpload {
    const sign = (metadata: Record<string, string>): Record<string, string> =>
      this.#signatures?.sign(withoutPrefix(this.#prefix, name), metadata) ?? metadata;
    const options = { ...checksums, ...this.#uploads, sign };
    return new StagedUpload(this.#container, name, options, this.#requests, this.#signal, uploadId);
  }

  /**
   * The blob of this name, with or without the prefix; undefined if there is none. Unlike in a list, a copy or a truncated blob
   * keeps its record, whatever its signature: its bytes are compared with the record when they are read.
   * @throws StorageError
   */
  async find(name: string): Promise<DescribedBlob | undefined> {
    const full = name.startsWith(this.#prefix) ? name : `${this.#prefix}${name}`;
    try {
      const found = await this.#propertiesOf(full, `looking for ${full}`);
      const { metadata = {} } = found;
      return { ...storedBlob(this.#prefix, full, metadata, found, this.#signatures), metadata };
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw errorAt(this.#place, error);
    }
  }

  /**
   * All blobs under the prefix but the events, the newest first; snapshots have their record.
   * @param fresh the snapshot that this run has just stored
   * @throws StorageError
   */
  async list(fresh?: StoredIdentity): Promise<readonly StoredBlob[]> {
    return (await this.listAll(fresh)).blobs;
  }

  /** The same together with the events. @throws StorageError */
  async listAll(fresh?: StoredIdentity): Promise<Listing> {
    try {
      const listed = await listContainer(this.#container, this.#prefix, this.#requests, this.#signatures);
      const isSecondPlace = this.#place === 'copy';
      return inventoryOf(listed, { ...this.markRules(listed.time), isSecondPlace }, fresh);
    } catch (error) {
      throw errorAt(this.#place, error);
    }
  }

  /** Reads the marks alone. @throws StorageError */
  async readMarks(): Promise<KeptOf> {
    const { events, time } = await this.listEvents('mark');
    return readMarks(events, this.markRules(time));
  }

  /** Which marks count. @param time of the service when they were listed */
  markRules(time: Date | undefined): MarkRules {
    return { prefix: this.#prefix, time, areSignaturesRequired: this.requiresSignatures };
  }

  /** The events of one kind, in any order. @throws StorageError */
  async listEvents(kind: EventKind): Promise<ListedEvents> {
    try {
      return await listEvents(this.#container, this.#prefix, this.#requests, kind, this.#signatures);
    } catch (error) {
      throw errorAt(this.#place, error);
    }
  }

  /** Stores an event, signed where there is a key to sign with. @throws StorageError */
  async addEvent(event: NewEvent): Promise<void> {
    const name = eventName(this.#prefix, event);
    const fields = this.#signatures?.sign(withoutPrefix(this.#prefix, name), event.fields) ?? event.fields;
    return this.storeEvent(name, Buffer.from(`${JSON.stringify(event.body)}\n`), fields);
  }

  /** Stores an event as it is in another place, with the signature that it has there. @throws StorageError */
  async storeEvent(name: string, body: Buffer, fields: NewEvent['fields']): Promise<void> {
    return writeEvent(this.#container, this.#requests, name, body, fields);
  }

  /** Stores that a form of a snapshot was read back. @throws StorageError */
  async noteForm(name: string, storedSha256: string): Promise<void> {
    const fields = proofFields(withoutPrefix(this.#prefix, name), storedSha256);
    return this.addEvent({ kind: 'form', id: randomBytes(16).toString('hex'), fields, body: fields });
  }

  /** Stores that the copy of a snapshot was read back, with its bundle. @throws StorageError */
  async noteCopy(name: string, copy: Omit<Parameters<typeof copyFields>[0], 'snapshot'>): Promise<void> {
    const fields = copyFields({ ...copy, snapshot: withoutPrefix(this.#prefix, name) });
    return this.addEvent({ kind: 'copy', id: randomBytes(16).toString('hex'), fields, body: fields });
  }

  /** Stores that a drill succeeded. @throws StorageError */
  async noteDrill(note: DrillNote): Promise<void> {
    return this.addEvent(drillEvent(note));
  }

  /** The last successful drill, of a snapshot whose name is meant; undefined if there was none. @throws StorageError */
  async lastDrill(isMeant?: (snapshot: string) => boolean): Promise<DrillNote | undefined> {
    return lastDrillOf((await this.listEvents('drill')).events, new Date(), isMeant);
  }

  /**
   * The bytes of a blob, from its beginning or from a later byte on, even if the connection breaks repeatedly. A piece is valid
   * until the next one is taken.
   * @param size of the whole blob, in bytes
   * @throws StorageError, also when the blob has another etag by now
   */
  read(name: string, etag: string, size: number, from = 0): AsyncGenerator<Buffer, void, void> {
    return download(this.#container.getBlobClient(name), { etag, size, from }, this.#requests, this.#signal);
  }

  /** Starts to move a blob from the archive tier to the hot one, which can take hours. @throws StorageError */
  async rehydrate(name: string): Promise<void> {
    const blob = this.#container.getBlobClient(name);
    const options = { rehydratePriority: 'High' } as const;
    try {
      await this.#requests.send(`starting the rehydration of ${name}`, async (abortSignal) =>
        blob.setAccessTier('Hot', { ...options, abortSignal }),
      );
    } catch (error) {
      // Another run has started it.
      if (codeOf(error) !== 'BlobBeingRehydrated') throw error;
    }
  }

  /** The sha256 of a blob's bytes. Throws what reading throws. */
  async sha256Of(name: string, etag: string, size: number): Promise<string> {
    const hash = createHash('sha256');
    for await (const piece of this.read(name, etag, size)) hash.update(piece);
    return hash.digest('hex');
  }

  /**
   * Deletes a blob unless it has another etag by now; one that is already gone is a success.
   * @param options.isFinished whether it is deleted even in a run that is aborted
   * @returns why it stays although the identity has the right to delete; undefined when it is gone
   * @throws StorageError
   */
  async remove(name: string, etag: string, { isFinished = false } = {}): Promise<string | undefined> {
    const blob = this.#container.getBlobClient(name);
    const options = { conditions: { ifMatch: etag }, deleteSnapshots: 'include' } as const;
    const signal = isFinished ? abortedAfter(this.#signal, FINISH_MS) : this.#signal;
    try {
      const remove = (abortSignal: AbortSignal): Promise<unknown> => blob.delete({ ...options, abortSignal });
      await this.#requests.send(`deleting ${name}`, remove, { signal });
      return undefined;
    } catch (error) {
      if (await isGone(blob, error, this.#requests)) return undefined;
      const obstacle = OBSTACLES.get(codeOf(error));
      if (obstacle === undefined) throw error;
      return obstacle;
    }
  }

  /** Sets or removes Azure's legal hold on a blob. @throws StorageError that says which permission or setting is missing */
  async setLegalHold(name: string, isHeld: boolean): Promise<void> {
    return setLegalHold(this.#container.getBlobClient(name), isHeld, this.#requests);
  }

  async #propertiesOf(name: string, doing: string): Promise<BlobGetPropertiesResponse> {
    const blob = this.#container.getBlobClient(name);
    return this.#requests.send(doing, (abortSignal) => blob.getProperties({ abortSignal }));
  }
}

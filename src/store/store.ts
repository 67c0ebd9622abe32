import type { ContainerClient } from '@azure/storage-blob';
import type { StorageConfig } from '../config/config.ts';
import { CREDENTIAL_NAMES } from '../config/credential.ts';
import { StorageError } from '../errors.ts';
import type { Log } from '../log.ts';
import { type StoredIdentity, takeInventory } from '../snapshot/inventory.ts';
import { openContainer } from './azure-credential.ts';
import { listBlobs, type StoredBlob, storedBlob } from './catalogue.ts';
import { download } from './download.ts';
import { type DrillNote, drillNotePrefix, readDrillNote, writeDrillNote } from './drill-notes.ts';
import { codeOf, isGone, isMissing } from './errors.ts';
import { probeRights, type RightsProbe } from './permissions.ts';
import { DEADLINES, Requests } from './requests.ts';
import { StagedUpload } from './upload.ts';

/** Creates the container that was found missing; that another worker was faster is a success. @throws StorageError */
export async function createContainer(container: ContainerClient, requests: Requests): Promise<void> {
  const { place } = requests;
  try {
    await requests.send('creating the container', (abortSignal) => container.create({ abortSignal }));
  } catch (error) {
    if (codeOf(error) === 'ContainerAlreadyExists') return;
    if (!codeOf(error).startsWith('Authorization')) throw error;
    throw new StorageError(
      codeOf(error),
      `Container ${place.container} does not exist in account ${place.account}, and the ${place.credential} may not create it.`,
      'Create the container, or check SNAPSHOT_AZURE_CONTAINER_NAME.',
      error,
    );
  }
}

/** Azure's codes for what keeps a single blob from being deleted and is none of our business: no lease is broken. */
const OBSTACLES: Readonly<Record<string, string>> = {
  BlobImmutableDueToPolicy: 'protected by an immutability policy',
  BlobImmutableDueToLegalHold: 'protected by a legal hold',
  LeaseIdMissing: 'leased by somebody',
  BlobBeingRehydrated: 'being rehydrated',
  ConditionNotMet: 'changed by somebody meanwhile',
};

/** The container that holds a cluster's snapshots, seen through one credential, for the length of one run. */
export class BlobStore {
  readonly #container: ContainerClient;
  readonly #prefix: string;
  readonly #requests: Requests;
  readonly #signal: AbortSignal;

  private constructor(container: ContainerClient, prefix: string, requests: Requests, signal: AbortSignal) {
    this.#container = container;
    this.#prefix = prefix;
    this.#requests = requests;
    this.#signal = signal;
  }

  /** Makes no request yet. @throws UsageError */
  static async open(config: StorageConfig, signal: AbortSignal, log: Log, deadlines = DEADLINES): Promise<BlobStore> {
    const container = await openContainer(config);
    const { source } = config;
    const credential = CREDENTIAL_NAMES[source];
    const { host } = new URL(container.url);
    const place = { host, account: container.accountName, container: config.container, source, credential };
    const unused = config.unused.map((kind) => CREDENTIAL_NAMES[kind]);
    log.info(`Azure is accessed with the ${credential}`, {
      account: place.account,
      container: config.container,
      unused,
    });
    return new BlobStore(container, config.prefix, new Requests(place, signal, log, deadlines), signal);
  }

  /** Put before every name. */
  get prefix(): string {
    return this.#prefix;
  }

  get containerName(): string {
    return this.#container.containerName;
  }

  /**
   * Asks for a blob of this name before etcd is bothered: a wrong account, key or endpoint shows here. What an identity that
   * may only write is not told is no fault.
   * @throws StorageError
   */
  async isFree(name: string): Promise<boolean> {
    const harmless = ['ContainerNotFound', 'AuthorizationPermissionMismatch'];
    try {
      await this.#requests.send('asking for the name of the new snapshot', (abortSignal) =>
        this.#container.getBlobClient(name).getProperties({ abortSignal }),
      );
      return false;
    } catch (error) {
      if (isMissing(error) || harmless.includes(codeOf(error))) return true;
      throw error;
    }
  }

  /** What the identity may do here. @throws StorageError for everything but a missing right */
  async probeRights(): Promise<RightsProbe> {
    return probeRights(this.#container, this.#prefix, this.#requests);
  }

  /** @param isReadBack whether the caller will prove the blob by reading it back */
  startUpload(name: string, isReadBack = false): StagedUpload {
    return new StagedUpload(this.#container, name, isReadBack, this.#requests, this.#signal);
  }

  /**
   * The blob of this name, with or without the prefix; undefined when there is none. It has its record also where it is a copy
   * or has been cut: what is named is meant, and its bytes are compared with the record when they are read.
   * @throws StorageError
   */
  async find(name: string): Promise<StoredBlob | undefined> {
    const full = name.startsWith(this.#prefix) ? name : `${this.#prefix}${name}`;
    try {
      const found = await this.#requests.send(`looking for ${full}`, (abortSignal) =>
        this.#container.getBlobClient(full).getProperties({ abortSignal }),
      );
      return storedBlob(this.#prefix, full, found.metadata, found);
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  /**
   * All blobs under the prefix, the newest first; those that are snapshots have their record.
   * @param fresh the snapshot that this run has just stored
   * @throws StorageError
   */
  async list(fresh?: StoredIdentity): Promise<StoredBlob[]> {
    const blobs = await listBlobs(this.#container, this.#prefix, this.#requests);
    const notes = drillNotePrefix(this.#prefix);
    return takeInventory(
      this.#prefix,
      blobs.filter(({ name }) => !name.startsWith(notes)),
      fresh,
    );
  }

  /** Keeps that a drill succeeded. @throws StorageError */
  async noteDrill(note: DrillNote): Promise<void> {
    return writeDrillNote(this.#container, this.#prefix, this.#requests, note);
  }

  /** The last drill that succeeded; undefined when there was none. @throws StorageError */
  async lastDrill(): Promise<DrillNote | undefined> {
    return readDrillNote(this.#container, this.#prefix, this.#requests, new Date());
  }

  /**
   * The bytes of a blob, from its beginning or from a later byte on, also over a line that is cut again and again. A piece is
   * valid until the next is taken.
   * @param size of the whole blob, in bytes
   * @throws StorageError, also when the blob is no longer the one of this etag
   */
  read(name: string, etag: string, size: number, from = 0): AsyncGenerator<Buffer, void, void> {
    return download(this.#container.getBlobClient(name), { etag, size, from }, this.#requests, this.#signal);
  }

  /**
   * Deletes a blob unless it was changed since; one that is gone already is a success.
   * @returns why it stays although we may delete it; undefined when it is gone
   * @throws StorageError
   */
  async remove(name: string, etag: string): Promise<string | undefined> {
    const blob = this.#container.getBlobClient(name);
    const options = { conditions: { ifMatch: etag }, deleteSnapshots: 'include' } as const;
    try {
      await this.#requests.send(`deleting ${name}`, (abortSignal) => blob.delete({ ...options, abortSignal }));
      return undefined;
    } catch (error) {
      if (await isGone(blob, error, this.#requests)) return undefined;
      const obstacle = Object.hasOwn(OBSTACLES, codeOf(error)) ? OBSTACLES[codeOf(error)] : undefined;
      if (obstacle === undefined) throw error;
      return obstacle;
    }
  }
}

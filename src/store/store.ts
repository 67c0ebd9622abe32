import type { ContainerClient } from '@azure/storage-blob';
import { CREDENTIAL_NAMES } from '../azure/source.ts';
import type { StorageConfig } from '../config.ts';
import type { Log } from '../log.ts';
import { listBlobs, type StoredBlob, storedBlob } from './catalogue.ts';
import { openContainer } from './credentials.ts';
import { type DrillNote, drillNoteName, readDrillNote, writeDrillNote } from './drillnote.ts';
import { codeOf } from './errors.ts';
import { Requests, transferMs } from './requests.ts';
import { probeRights, type RightsProbe } from './rights.ts';
import { StagedUpload } from './upload.ts';

/** Bytes asked for at once when a blob is read. */
const RANGE_SIZE = 8 * 1024 * 1024;

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
  static async open(config: StorageConfig, signal: AbortSignal, log: Log): Promise<BlobStore> {
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
    return new BlobStore(container, config.prefix, new Requests(place, signal, log), signal);
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
    const harmless = ['BlobNotFound', 'ContainerNotFound', 'AuthorizationPermissionMismatch', '404'];
    try {
      await this.#requests.send('asking for the name of the new snapshot', (abortSignal) =>
        this.#container.getBlobClient(name).getProperties({ abortSignal }),
      );
      return false;
    } catch (error) {
      if (harmless.includes(codeOf(error))) return true;
      throw error;
    }
  }

  /** What the identity may do here. @throws StorageError for everything but a missing right */
  async probeRights(): Promise<RightsProbe> {
    return probeRights(this.#container, this.#prefix, this.#requests);
  }

  startUpload(name: string): StagedUpload {
    return new StagedUpload(this.#container, name, this.#requests, this.#signal);
  }

  /** The blob of this name, with or without the prefix; undefined when there is none. @throws StorageError */
  async find(name: string): Promise<StoredBlob | undefined> {
    const full = name.startsWith(this.#prefix) ? name : `${this.#prefix}${name}`;
    try {
      const found = await this.#requests.send(`looking for ${full}`, (abortSignal) =>
        this.#container.getBlobClient(full).getProperties({ abortSignal }),
      );
      return storedBlob(this.#prefix, full, found.metadata, found);
    } catch (error) {
      // An answer to HEAD has no body; where its code is missing too, only the status is left.
      if (['BlobNotFound', '404'].includes(codeOf(error))) return undefined;
      throw error;
    }
  }

  /** All blobs under the prefix, the newest first. @throws StorageError */
  async list(): Promise<StoredBlob[]> {
    const blobs = await listBlobs(this.#container, this.#prefix, this.#requests);
    return blobs.filter(({ name }) => name !== drillNoteName(this.#prefix));
  }

  /** Keeps a drill that succeeded instead of the one before. @throws StorageError */
  async noteDrill(note: DrillNote): Promise<void> {
    return writeDrillNote(this.#container, this.#prefix, this.#requests, note);
  }

  /** The last drill that succeeded; undefined when there was none. @throws StorageError */
  async lastDrill(): Promise<DrillNote | undefined> {
    return readDrillNote(this.#container, this.#prefix, this.#requests);
  }

  /**
   * The bytes of a blob in ranges, one asked for ahead; a range that broke is asked for again. A piece is valid until the
   * next is taken.
   * @throws StorageError, also when the blob is no longer the one of this etag
   */
  async *read(name: string, etag: string, size: number, from = 0): AsyncGenerator<Buffer, void, void> {
    const blob = this.#container.getBlobClient(name);
    const stop = new AbortController();
    const signal = AbortSignal.any([this.#signal, stop.signal]);
    const range = (offset: number, buffer: Buffer): Promise<Buffer> => {
      const count = Math.min(RANGE_SIZE, size - offset);
      const bytes = buffer.subarray(0, count);
      const options = { conditions: { ifMatch: etag }, maxRetryRequestsPerBlock: 0, blockSize: RANGE_SIZE };
      const reading = this.#requests.send(
        `reading byte ${offset} on of ${name}`,
        (abortSignal) => blob.downloadToBuffer(bytes, offset, count, { ...options, abortSignal }),
        transferMs(count),
        signal,
      );
      // The range asked for ahead may fail while nobody waits for it yet.
      reading.catch(() => {});
      return reading;
    };
    let [current, spare] = [
      Buffer.allocUnsafe(Math.min(RANGE_SIZE, size)),
      Buffer.allocUnsafe(Math.min(RANGE_SIZE, size)),
    ];
    try {
      let ahead = range(from, current);
      for (let offset = from + RANGE_SIZE; ; offset += RANGE_SIZE) {
        const piece = await ahead;
        const last = offset >= size;
        if (!last) ahead = range(offset, spare);
        yield piece;
        if (last) return;
        [current, spare] = [spare, current];
      }
    } finally {
      stop.abort(new Error('the reader left'));
    }
  }

  /**
   * Deletes a blob unless it was changed since; one that is gone already is a success.
   * @returns why it stays although we may delete it; undefined when it is gone
   * @throws StorageError
   */
  async remove(name: string, etag: string): Promise<string | undefined> {
    try {
      const options = { conditions: { ifMatch: etag }, deleteSnapshots: 'include' } as const;
      await this.#requests.send(`deleting ${name}`, (abortSignal) =>
        this.#container.getBlobClient(name).delete({ ...options, abortSignal }),
      );
      return undefined;
    } catch (error) {
      const code = codeOf(error);
      if (code === 'BlobNotFound') return undefined;
      // When the answer to a deletion is lost, its repetition finds no blob of that etag.
      if (code === 'ConditionNotMet' && (await this.find(name)) === undefined) return undefined;
      if (code in OBSTACLES) return OBSTACLES[code];
      throw error;
    }
  }
}

import { createHash, type Hash, randomBytes } from 'node:crypto';
import type { Readable } from 'node:stream';
import type { BlobGetPropertiesResponse, BlockBlobClient, ContainerClient } from '@azure/storage-blob';
import { type Fate, Interrupted, RunTimeout } from '../errors.ts';
import { type SnapshotRecord, toMetadata } from '../snapshot/record.ts';
import { isBundleName } from '../snapshot/snapshot-name.ts';
import type { MatchedBytes } from '../snapshot/record-match.ts';
import type { VerifiedSnapshot } from '../snapshot/verify/verdict.ts';
import { BlockBuffer } from './block-buffer.ts';
import { storable } from './catalogue.ts';
import { createContainer } from './container.ts';
import { codeOf, isMissing } from './errors.ts';
import { NAME_LOST, nameContested, nameTaken } from './name-lost.ts';
import { abortedAfter, isGone, type Requests } from './requests.ts';
import type { UploadOptions } from './upload-options.ts';

/**
 * How long a commit continues after an abort of the run, because the result of an aborted commit is unknown; then the limit for the
 * rollback. The sum is below SHUTDOWN_GRACE_MS (main.ts).
 */
const COMMIT_GRACE_MS = 700;
const ROLLBACK_GRACE_MS = 800;

/** Time for a rollback in a run that was not aborted. */
const ROLLBACK_MS = 20_000;

export interface Committed {
  /** Whether this upload certainly made it visible: else it can be that of another one with the same upload id. */
  readonly isOwn: boolean;
  /** Of the blob as it was committed: reading with it returns what was stored here, or fails. */
  readonly etag: string;
}

/**
 * A blob that is being uploaded. Its bytes are staged as blocks, which are invisible, while they arrive; the blob appears in one
 * step, and only for a caller that has the verifier's verdict on exactly these bytes. Up to one block it is a single Put Blob.
 */
export class StagedUpload {
  readonly uploadId: string;
  /** Another one that is rolled back where this one is not visible: the bundle of a snapshot. */
  companion: StagedUpload | undefined;
  readonly #container: ContainerClient;
  readonly #blob: BlockBlobClient;
  readonly #options: UploadOptions;
  readonly #requests: Requests;
  readonly #abort = new AbortController();
  readonly #signal: AbortSignal;
  /** In the ids of the blocks: uploads with the same upload id must not replace each other's blocks. */
  readonly #blockPrefix = randomBytes(16);
  /** Whether each block carries its MD5, which the service checks. */
  readonly #sendsBlockMd5: boolean;
  /** Of the whole blob, if it is stored with it. */
  readonly #contentMd5: Hash | undefined;
  readonly #buffer = new BlockBuffer();
  readonly #blockIds: string[] = [];
  readonly #staging = new Set<Promise<unknown>>();
  readonly #failed = new AbortController();
  #size = 0;
  #containerCreated: Promise<void> | undefined;
  /** From the first request that can make it visible. */
  #mayBeVisible = false;
  /** Its bytes were read back, and stay. */
  #isProven = false;

  constructor(
    container: ContainerClient,
    name: string,
    options: UploadOptions,
    requests: Requests,
    signal: AbortSignal,
    uploadId = randomBytes(16).toString('hex'),
  ) {
    this.uploadId = uploadId;
    this.#container = container;
    this.#sendsBlockMd5 = !options.isReadBack || !container.url.startsWith('https:');
    this.#contentMd5 = options.contentMd5 === 'on' ? createHash('md5') : undefined;
    this.#blob = container.getBlockBlobClient(name);
    this.#options = options;
    this.#requests = requests;
    this.#signal = AbortSignal.any([signal, this.#abort.signal]);
    signal.addEventListener('abort', () => {
      const reason: unknown = signal.reason;
      if (reason instanceof Interrupted || reason instanceof RunTimeout) reason.fates.push(() => this.#fate());
    });
  }

  /** Aborted with the error of the first block that cannot be stored: more bytes are not needed. */
  get failed(): AbortSignal {
    return this.#failed.signal;
  }

  /** Copies the piece; waits while all blocks are being sent. @throws StorageError of any block so far */
  async write(piece: Uint8Array): Promise<void> {
    this.#contentMd5?.update(piece);
    this.#size += piece.length;
    for (let copied = 0; copied < piece.length;) {
      if (this.#buffer.isFull) {
        this.#stageBlock();
        await this.#buffer.startBlock();
      }
      this.failed.throwIfAborted();
      copied += this.#buffer.append(piece.subarray(copied));
    }
  }

  /**
   * Makes the blob visible, with its record as metadata, unless the name is taken.
   * @param record carries this upload's `uploadId`, and describes the blob if it is sealed
   * @throws StorageError; the service may have committed nevertheless: then the snapshot is visible and complete
   */
  async commit(snapshot: VerifiedSnapshot, record: SnapshotRecord): Promise<Committed> {
    if ((record.storedSize ?? snapshot.facts.size) !== this.#size || record.uploadId !== this.uploadId) {
      throw new Error('verdict or record are not of this upload');
    }
    try {
      const committed = await this.#makeVisible(this.#options.sign(storable(toMetadata(record))));
      // Reading back needs memory of its own.
      this.#buffer.clear();
      if (this.#signal.reason instanceof Interrupted) throw this.#signal.reason;
      return committed;
    } catch (error) {
      if (error instanceof Interrupted) throw await this.rollbackAfter(error);
      if (NAME_LOST.has(codeOf(error)) || (await this.#isAbsent())) await this.companion?.rollback();
      throw error;
    }
  }

  /** Whether it is certain that a failed commit stored nothing; asked only where a bundle would be left. */
  async #isAbsent(): Promise<boolean> {
    if (this.companion === undefined || !this.#mayBeVisible) return true;
    const signal = AbortSignal.any([AbortSignal.timeout(ROLLBACK_MS), this.#signal]);
    try {
      const found = await this.#requests.send('looking for the blob', this.#properties, { signal });
      return found.metadata?.['uploadid'] !== this.uploadId;
    } catch (error) {
      return isMissing(error);
    }
  }

  /** The same for a bundle. @param recipients fingerprints of those who can open it */
  async commitBundle(recipients: readonly string[]): Promise<Committed> {
    if (!isBundleName(this.#blob.name)) throw new Error('only a bundle can be stored without a verdict');
    const committed = await this.#makeVisible({ uploadid: this.uploadId, recipients: recipients.join(',') });
    this.#buffer.clear();
    return committed;
  }

  /** The same for the copy of a blob, with the metadata of the original. */
  async commitCopy(bytes: MatchedBytes, metadata: Readonly<Record<string, string>>): Promise<Committed> {
    if (bytes.size !== this.#size) throw new Error('the bytes are not of this upload');
    const committed = await this.#makeVisible(metadata);
    this.#buffer.clear();
    return committed;
  }

  /** It was read back: an interruption of the run does not concern it. */
  settleCopy(): void {
    this.#mayBeVisible = false;
  }

  /** It was read back: an interrupted run keeps it. */
  markProven(): void {
    this.#isProven = true;
  }

  /** Undefined where it is not visible. */
  #fate(): Fate | undefined {
    const { name } = this.#blob;
    if (!this.#mayBeVisible) return undefined;
    if (this.#isProven) {
      return { outcome: `${name} is stored and read back, and is kept`, hint: 'Wait for the next run.' };
    }
    const where = this.#requests.endpoint.place === 'copy' ? ' --from-copy' : '';
    const check = `${isBundleName(name) ? 'list' : `verify ${name}`}${where}`;
    return {
      outcome: `${name} may be stored, but was not read back`,
      hint: `Run the command again; to check the blob, if it is there, run \`etcd-snapshot ${check}\`.`,
    };
  }

  /**
   * Removes the blob of an interrupted run, which will not be verified any more.
   * @returns the interruption, which says whether the blob was removed, if it was or may be visible
   */
  async rollbackAfter(interruption: Interrupted): Promise<Interrupted> {
    if (!this.#mayBeVisible) {
      await this.companion?.rollback();
      return interruption;
    }
    const isRemoved = await this.rollback();
    const fate = this.#fate();
    if (!isRemoved && fate !== undefined) {
      return interruption.withOutcome(`${fate.outcome}: its rollback was not confirmed in time`, fate.hint);
    }
    return interruption.withOutcome(
      `${this.#blob.name} was not read back yet, and was rolled back`,
      'Run the command again: nothing is stored.',
    );
  }

  /**
   * Removes the blob of this upload, and of its companion, if it is visible. Takes at most 20 s, and less than one second after an
   * abort of the run, for each of them.
   * @returns whether it is certain that it is not visible
   */
  async rollback(): Promise<boolean> {
    const isRemoved = await this.#remove();
    if (isRemoved) this.#mayBeVisible = false;
    if (isRemoved) await this.companion?.rollback();
    return isRemoved;
  }

  async #remove(): Promise<boolean> {
    if (!this.#mayBeVisible) return true;
    const signal = AbortSignal.any([AbortSignal.timeout(ROLLBACK_MS), abortedAfter(this.#signal, ROLLBACK_GRACE_MS)]);
    try {
      const found = await this.#requests.send('looking for the blob to roll back', this.#properties, { signal });
      if (found.metadata?.['uploadid'] !== this.uploadId) return true;
      const conditions = { ifMatch: found.etag ?? '' };
      const remove = (abortSignal: AbortSignal): Promise<unknown> => this.#blob.delete({ conditions, abortSignal });
      await this.#requests.send('rolling back the blob', remove, { signal });
      return true;
    } catch (error) {
      if (codeOf(error) === 'ContainerNotFound') return true;
      return isGone(this.#blob, error, this.#requests, signal).catch(() => false);
    }
  }

  /** Ends all requests. Staged blocks stay invisible; the service drops them after a week. */
  abort(): void {
    this.#abort.abort(new Error('the upload was aborted'));
  }

  async #makeVisible(metadata: Readonly<Record<string, string>>): Promise<Committed> {
    const contentMd5 = this.#contentMd5 && { blobContentMD5: this.#contentMd5.digest() };
    const { tier } = this.#options;
    const options = {
      conditions: { ifNoneMatch: '*' },
      metadata,
      ...(tier && { tier }),
      blobHTTPHeaders: { blobContentType: 'application/octet-stream', ...contentMd5 },
    };
    const signal = abortedAfter(this.#signal, COMMIT_GRACE_MS);
    try {
      const isOneBlock = this.#blockIds.length === 0;
      if (!isOneBlock) {
        this.#stageBlock();
        await Promise.all(this.#staging);
        this.failed.throwIfAborted();
      }
      this.#mayBeVisible = true;
      const body = this.#buffer.bytes;
      const store = (abortSignal: AbortSignal): Promise<Answer> =>
        this.#blob.upload(this.#paced(body), body.length, { ...options, ...this.#checksum(body), abortSignal });
      const commit = (abortSignal: AbortSignal): Promise<Answer> =>
        this.#blob.commitBlockList(this.#blockIds, { ...options, abortSignal });
      const answer = isOneBlock
        ? await this.#send('storing the snapshot', body.length, store, signal)
        : await this.#send('committing the snapshot', 0, commit, signal);
      return { isOwn: true, etag: etagOf(answer) };
    } catch (error) {
      if (NAME_LOST.has(codeOf(error))) return await this.#findOwnCommit(error);
      throw error;
    }
  }

  /** If the answer to a commit was lost, its retry finds that we took the name, or used up the blocks, ourselves. */
  async #findOwnCommit(error: unknown): Promise<Committed> {
    const { name } = this.#blob;
    try {
      const found = await this.#send('reading the properties of the existing blob', 0, this.#properties);
      if (found.metadata?.['uploadid'] === this.uploadId && found.contentLength === this.#size) {
        return { isOwn: false, etag: etagOf(found) };
      }
    } catch (missing) {
      throw isMissing(missing) ? nameContested(name, error) : missing;
    }
    throw nameTaken(name, error);
  }

  readonly #properties = (abortSignal: AbortSignal): Promise<BlobGetPropertiesResponse> =>
    this.#blob.getProperties({ abortSignal });

  /** The bytes no faster than the rate of the store; each try sends them again. */
  #paced(body: Buffer): Buffer | Readable {
    return this.#options.rate?.limit(body) ?? body;
  }

  /** For the service to check what arrives. */
  #checksum(body: Buffer): { readonly transactionalContentMD5?: Buffer } {
    return this.#sendsBlockMd5 ? { transactionalContentMD5: createHash('md5').update(body).digest() } : {};
  }

  /** Sends the current block without waiting for it. An error aborts `failed`. */
  #stageBlock(): void {
    const body = this.#buffer.bytes;
    // All ids of a name must have one length, those of an earlier attempt included.
    const id = Buffer.alloc(20);
    this.#blockPrefix.copy(id);
    id.writeUInt32BE(this.#blockIds.length, 16);
    const blockId = id.toString('base64');
    const number = this.#blockIds.push(blockId);
    const checksum = this.#checksum(body);
    const stage = (abortSignal: AbortSignal): Promise<unknown> =>
      this.#blob.stageBlock(blockId, this.#paced(body), body.length, { ...checksum, abortSignal });
    const staging = this.#send(`storing block ${number}`, body.length, stage)
      .catch((error: unknown) => {
        // The blocks of another tool, not yet committed, have ids of another length.
        const isForeign = codeOf(error) === 'InvalidBlobOrBlock';
        this.#failed.abort(isForeign ? nameContested(this.#blob.name, error) : error);
      })
      .finally(() => {
        this.#buffer.release(body);
        this.#staging.delete(staging);
      });
    this.#staging.add(staging);
  }

  /** Creates the container only when the service says that it is missing: few identities have the right to create it. */
  async #send<T>(
    doing: string,
    bytes: number,
    request: (signal: AbortSignal) => Promise<T>,
    signal = this.#signal,
  ): Promise<T> {
    const send = (): Promise<T> => this.#requests.send(doing, request, { bytes, signal });
    try {
      return await send();
    } catch (error) {
      if (codeOf(error) !== 'ContainerNotFound') throw error;
      await (this.#containerCreated ??= createContainer(this.#container, this.#requests));
      return await send();
    }
  }
}

interface Answer {
  readonly etag?: string;
}

function etagOf({ etag }: Answer): string {
  if (etag === undefined) throw new Error('the answer has no etag');
  return etag;
}

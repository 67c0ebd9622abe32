import { createHash, randomBytes } from 'node:crypto';
import type { BlobGetPropertiesResponse, BlockBlobClient, ContainerClient } from '@azure/storage-blob';
import { onAbort } from '../abort.ts';
import { Interrupted } from '../errors.ts';
import { type SnapshotRecord, toMetadata } from '../snapshot/record.ts';
import type { VerifiedSnapshot } from '../snapshot/verify/verifier.ts';
import { storable } from './catalogue.ts';
import { codeOf, isGone, isMissing, nameContested, nameTaken } from './errors.ts';
import type { Requests } from './requests.ts';
import { createContainer } from './store.ts';

/** Above 4 MiB accounts take their fast path; 50,000 blocks of 8 MiB are 390 GiB. */
const BLOCK_SIZE = 8 * 1024 * 1024;

/**
 * How long a commit that is under way may go on after the run was aborted: broken off, nobody could tell whether it happened.
 * Together with FAREWELL_MS it stays below the two seconds in which an interrupted run must end.
 */
const LINGER_MS = 700;

/** How long a blob may be withdrawn, and how long after the run was aborted. */
const WITHDRAW_MS = 20_000;
const FAREWELL_MS = 800;

/** One being filled and two under way: the bound of the memory that an upload takes. */
const BUFFERS = 3;

/**
 * What a commit is refused with when the name was written to meanwhile. Such a write also drops all blocks that it does not
 * list; a Put Blob may find blocks of another upload in its way.
 */
const NAME_LOST = new Set(['BlobAlreadyExists', 'ConditionNotMet', 'InvalidBlockList']);

export interface Committed {
  /** Of the blob as it was committed: who reads with it reads what was stored here, or fails. */
  readonly etag: string;
}

/**
 * A blob in the making. Its bytes are staged as blocks, which nobody sees, while they arrive; it appears in one step, and
 * only to a caller that holds the verifier's verdict over exactly these bytes. Up to one block it is a single Put Blob.
 */
export class StagedUpload {
  readonly uploadId = randomBytes(16).toString('hex');
  readonly #container: ContainerClient;
  readonly #blob: BlockBlobClient;
  readonly #requests: Requests;
  readonly #abort = new AbortController();
  readonly #signal: AbortSignal;
  /** Whether each block carries its MD5 for the service to check. */
  readonly #sendsBlockMd5: boolean;
  readonly #md5 = createHash('md5');
  readonly #blockIds: string[] = [];
  readonly #idle: Buffer[] = [];
  readonly #staging = new Set<Promise<void>>();
  #failure: unknown;
  readonly #failed = new AbortController();
  #block: Buffer = Buffer.allocUnsafe(BLOCK_SIZE);
  #filled = 0;
  #buffers = 1;
  #size = 0;
  #containerMade: Promise<void> | undefined;
  /** From when the service was first asked to make it so. */
  #mayBeVisible = false;

  /**
   * @param isReadBack whether the blob's sha256 will be read back, which finds all that the sums of single blocks find; over
   *   TLS, which protects the line itself, they are left out then, for they cost a tenth of a large backup's processor time
   */
  constructor(container: ContainerClient, name: string, isReadBack: boolean, requests: Requests, signal: AbortSignal) {
    this.#container = container;
    this.#sendsBlockMd5 = !isReadBack || !container.url.startsWith('https:');
    this.#blob = container.getBlockBlobClient(name);
    this.#requests = requests;
    this.#signal = AbortSignal.any([signal, this.#abort.signal]);
  }

  /** Aborted with the error of the first block that cannot be stored: what is still to come need not come. */
  get failed(): AbortSignal {
    return this.#failed.signal;
  }

  /** Takes a copy of the piece; waits while all buffers are under way. @throws StorageError of any block so far */
  async write(piece: Uint8Array): Promise<void> {
    this.#md5.update(piece);
    this.#size += piece.length;
    for (let taken = 0; taken < piece.length;) {
      if (this.#filled === BLOCK_SIZE) {
        this.#stage();
        this.#block = await this.#freeBuffer();
      }
      if (this.#failure !== undefined) throw this.#failure;
      const part = piece.subarray(taken, taken + BLOCK_SIZE - this.#filled);
      this.#block.set(part, this.#filled);
      this.#filled += part.length;
      taken += part.length;
    }
  }

  /**
   * Makes the blob visible, with its record as metadata, unless the name is taken.
   * @param record carries this upload's `uploadId`
   * @throws StorageError; where it is not known whether the service still did it, the snapshot may be visible, and is whole
   */
  async commit(snapshot: VerifiedSnapshot, record: SnapshotRecord): Promise<Committed> {
    if (snapshot.facts.size !== this.#size || record.uploadId !== this.uploadId) {
      throw new Error('verdict or record are not of this upload');
    }
    try {
      const committed = await this.#makeVisible(storable(toMetadata(record)));
      // What reads the blob back needs memory of its own.
      this.#idle.length = 0;
      this.#block = Buffer.alloc(0);
      if (this.#signal.reason instanceof Interrupted) throw this.#signal.reason;
      return committed;
    } catch (error) {
      throw error instanceof Interrupted ? await this.rollbackAfter(error) : error;
    }
  }

  /**
   * Withdraws what nobody will prove any more.
   * @returns what the run is to end with: it says what became of the blob, where it was or may be visible
   */
  async rollbackAfter(interruption: Interrupted): Promise<Interrupted> {
    if (!this.#mayBeVisible) return interruption;
    const { name } = this.#blob;
    return (await this.rollback())
      ? interruption.withOutcome(
          `${name} was not proven yet and is rolled back`,
          'Nothing is stored. Run the command again.',
        )
      : interruption.withOutcome(
          `${name} may be stored, not proven: its rollback was not confirmed in time`,
          `Run the command again; \`etcd-snapshot verify ${name}\` proves the blob, if it is there.`,
        );
  }

  /**
   * Removes the blob of this upload, and no other, should it be visible. Takes 20 s at the most, and less than one when the run
   * was aborted.
   * @returns whether it is certain that it is not visible
   */
  async rollback(): Promise<boolean> {
    if (!this.#mayBeVisible) return true;
    const signal = AbortSignal.any([AbortSignal.timeout(WITHDRAW_MS), afterAbortOf(this.#signal, FAREWELL_MS)]);
    try {
      const found = await this.#requests.send('looking for the blob to roll back', this.#properties, { signal });
      if (found.metadata?.['uploadid'] !== this.uploadId) return true;
      const conditions = { ifMatch: found.etag ?? '' };
      const remove = (abortSignal: AbortSignal): Promise<unknown> => this.#blob.delete({ conditions, abortSignal });
      await this.#requests.send('withdrawing the blob', remove, { signal });
      return true;
    } catch (error) {
      if (codeOf(error) === 'ContainerNotFound') return true;
      return isGone(this.#blob, error, this.#requests, signal).catch(() => false);
    }
  }

  /** Ends all requests under way. Staged blocks stay invisible; the service drops them after a week. */
  abort(): void {
    this.#abort.abort(new Error('the upload was given up'));
  }

  async #makeVisible(metadata: Record<string, string>): Promise<Committed> {
    const blobContentMD5 = this.#md5.digest();
    const options = {
      conditions: { ifNoneMatch: '*' },
      metadata,
      blobHTTPHeaders: { blobContentType: 'application/octet-stream', blobContentMD5 },
    };
    const lingering = afterAbortOf(this.#signal, LINGER_MS);
    try {
      if (this.#blockIds.length === 0) {
        const body = this.#block.subarray(0, this.#filled);
        this.#mayBeVisible = true;
        const store = (abortSignal: AbortSignal): Promise<Answer> =>
          this.#blob.upload(body, body.length, { ...options, transactionalContentMD5: blobContentMD5, abortSignal });
        return withEtag(await this.#send('storing the snapshot', body.length, store, lingering));
      }
      this.#stage();
      await Promise.all(this.#staging);
      if (this.#failure !== undefined) throw this.#failure;
      this.#mayBeVisible = true;
      const commit = (abortSignal: AbortSignal): Promise<Answer> =>
        this.#blob.commitBlockList(this.#blockIds, { ...options, abortSignal });
      return withEtag(await this.#send('committing the snapshot', 0, commit, lingering));
    } catch (error) {
      if (NAME_LOST.has(codeOf(error))) return await this.#ownCommit(error);
      throw error;
    }
  }

  /** When the answer to a commit is lost, its repetition finds the name taken or the blocks used up, by ourselves. */
  async #ownCommit(error: unknown): Promise<Committed> {
    try {
      const found = await this.#send('looking at the blob of that name', 0, this.#properties);
      if (found.metadata?.['uploadid'] === this.uploadId && found.contentLength === this.#size) return withEtag(found);
    } catch (missing) {
      if (!isMissing(missing)) throw missing;
      throw nameContested(this.#blob.name, error);
    }
    throw nameTaken(this.#blob.name, error);
  }

  readonly #properties = (abortSignal: AbortSignal): Promise<BlobGetPropertiesResponse> =>
    this.#blob.getProperties({ abortSignal });

  /** Sends the filled buffer as the next block, without waiting for it. */
  #stage(): void {
    const block = this.#block;
    const body = block.subarray(0, this.#filled);
    this.#filled = 0;
    const id = blockId(this.uploadId, this.#blockIds.length);
    this.#blockIds.push(id);
    const staging = this.#stageBlock(id, body, this.#blockIds.length).finally(() => {
      this.#idle.push(block);
      this.#staging.delete(staging);
    });
    this.#staging.add(staging);
  }

  /** Never rejects: a failure is kept for the next write, or the commit. */
  async #stageBlock(id: string, body: Buffer, number: number): Promise<void> {
    const sum = this.#sendsBlockMd5 ? { transactionalContentMD5: createHash('md5').update(body).digest() } : {};
    const stage = (abortSignal: AbortSignal): Promise<unknown> =>
      this.#blob.stageBlock(id, body, body.length, { ...sum, abortSignal });
    try {
      await this.#send(`storing block ${number}`, body.length, stage);
    } catch (error) {
      // All block ids of a name must have one length: those of another tool, not yet committed, have another one.
      this.#failure ??= codeOf(error) === 'InvalidBlobOrBlock' ? nameContested(this.#blob.name, error) : error;
      this.#failed.abort(this.#failure);
    }
  }

  async #freeBuffer(): Promise<Buffer> {
    if (this.#idle.length === 0 && this.#buffers < BUFFERS) {
      this.#buffers++;
      return Buffer.allocUnsafe(BLOCK_SIZE);
    }
    while (this.#idle.length === 0) await Promise.race(this.#staging);
    return this.#idle.pop() as Buffer;
  }

  /** Creates the container only when the service says that it is missing: the right to do so is rare and need not be there. */
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
      this.#containerMade ??= createContainer(this.#container, this.#requests);
      await this.#containerMade;
      return await send();
    }
  }
}

/** Of one length, which all block ids of a name must have, leftovers of an earlier attempt included. */
function blockId(uploadId: string, index: number): string {
  const id = Buffer.alloc(20);
  id.write(uploadId, 'hex');
  id.writeUInt32BE(index, 16);
  return id.toString('base64');
}

interface Answer {
  readonly etag?: string;
}

function withEtag({ etag }: Answer): Committed {
  if (etag === undefined) throw new Error('the service named no etag');
  return { etag };
}

/** A signal that follows another one's abort, with the same reason, after a while. */
function afterAbortOf(signal: AbortSignal, ms: number): AbortSignal {
  const controller = new AbortController();
  onAbort(signal, () => void setTimeout(() => controller.abort(signal.reason), ms).unref());
  return controller.signal;
}

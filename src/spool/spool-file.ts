import { createDecipheriv, randomBytes } from 'node:crypto';
import { type FileHandle, open, statfs, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { ExitCode, messageOf, WorkerError } from '../errors.ts';
import { CIPHER, nonceOf, type Piece, EncryptionThread } from './encryption.ts';

/** What stays free of a file system: bytes, or a share of its size. */
export type Reserve = { readonly bytes: number } | { readonly percent: number };

/**
 * A kubelet evicts pods when less than 15 % are left where images are (its default `imagefs.available`), and collects images
 * from there on; and an etcd on a full disk stops. So this much is left for others.
 */
export const DEFAULT_RESERVE: Reserve = { percent: 20 };

/**
 * By how much the file may become larger than the database that the member reported: it can grow before the snapshot begins.
 * What comes beyond that must wait: no answer of a server fills the disk.
 */
const GROWTH = { factor: 1.1, bytes: 16 * 1024 * 1024 };

/**
 * The spool does not give back what was written to it. Exit code 1: neither etcd (10) nor the store (12) failed, nothing
 * says that the snapshot is unsound (11), and 2 promises that nothing was done.
 */
export class SpoolError extends WorkerError {
  constructor(message: string, cause?: unknown) {
    const hint = 'Nothing was stored. Name a directory on a sound disk as SNAPSHOT_SPOOL_DIR, or none, and run again.';
    super(ExitCode.unexpected, message, hint, cause);
  }
}

/** A record that the disk did not take; its bytes come back. */
export class WriteRejected extends Error {
  readonly pieces: Buffer[];

  constructor(message: string, pieces: readonly Piece[]) {
    super(message);
    this.pieces = pieces.map(({ buffer, byteOffset, byteLength }) => Buffer.from(buffer, byteOffset, byteLength));
  }
}

/** Where a record lies in the file, and what it must be. */
export interface SealedRecord {
  /** Makes its nonce, so that no record passes for another one, not even for an earlier one at the same offset. */
  readonly sequence: number;
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
  /** Kept in memory: what is on the disk alone can be neither read nor forged. */
  readonly tag: Uint8Array;
}

interface SpoolFileOptions {
  readonly dir: string;
  readonly reserve: Reserve;
  /** That will be written at the most. */
  readonly bytes: number;
  /** Bytes of the largest record. */
  readonly maxRecord: number;
}

/**
 * Records on disk in a file without a name: it vanishes with the process, however that ends, and its key with it. The place
 * of a record that was read is written again, so the file is never larger than the most that was in it at a time. Several
 * records may be on their way at once.
 */
export class SpoolFile {
  readonly #handle: FileHandle;
  readonly #options: SpoolFileOptions;
  readonly #key = randomBytes(32);
  readonly #thread: EncryptionThread;
  readonly #freeOffsets: number[] = [];
  /** Bytes of the file, those of records on their way included. */
  #end = 0;
  /** Bytes of new records on their way: the file system does not count them yet. */
  #growing = 0;
  #sequence = 0;

  private constructor(handle: FileHandle, options: SpoolFileOptions) {
    this.#handle = handle;
    this.#options = options;
    this.#thread = new EncryptionThread(handle.fd, this.#key);
  }

  /**
   * A kill between creating the file and removing its name can leave an empty one, never data.
   * @throws Error when there is too little room in `dir`, or of the file system
   */
  static async create(options: SpoolFileOptions): Promise<SpoolFile> {
    const { dir, bytes } = options;
    const room = await roomIn(options);
    if (room < bytes) throw new Error(`${bytes} bytes may come, and there is room for ${room}${leaving(options)}`);
    const path = join(dir, `.etcd-snapshot-${randomBytes(16).toString('hex')}.spool`);
    // Fails where anything is at the path, also a symbolic link.
    const handle = await open(path, 'wx+', 0o600);
    try {
      await unlink(path);
    } catch (error) {
      await handle.close();
      throw error;
    }
    return new SpoolFile(handle, options);
  }

  /**
   * Writes a record that consists of these pieces, and takes their memory once it has a place in the file.
   * @throws WriteRejected when it is not in the file, and all others are; SpoolError when its bytes are lost; Error when the file
   *   must not grow, and the pieces are untouched
   */
  async write(pieces: readonly Buffer[]): Promise<SealedRecord> {
    const offset = this.#freeOffsets.pop();
    if (offset !== undefined) return this.#writeAt(offset, pieces);
    const { maxRecord } = this.#options;
    this.#growing += maxRecord;
    try {
      return await this.#writeAt(await this.#grow(), pieces);
    } finally {
      this.#growing -= maxRecord;
    }
  }

  /** Takes a record out; its place is free then. @throws SpoolError */
  async read(record: SealedRecord): Promise<Buffer> {
    const bytes = this.#open(record, await this.#readSealed(record));
    this.#freeOffsets.push(record.offset);
    return bytes;
  }

  /** Frees the disk, once a read or write under way has ended. May be called again. */
  async close(): Promise<void> {
    await this.#thread.end();
    await this.#handle.close();
  }

  /** Takes a place at the end of the file, if there is room for it still: others write to the disk, too. */
  async #grow(): Promise<number> {
    const { bytes, maxRecord } = this.#options;
    const offset = this.#end;
    this.#end += maxRecord;
    const limit = Math.max(bytes * GROWTH.factor, bytes + GROWTH.bytes);
    if (this.#end > limit) throw new Error(`the snapshot is larger than the ${bytes} bytes that were to come`);
    const room = await roomIn(this.#options);
    if (room < this.#growing)
      throw new Error(`the disk has become full: there is no more room${leaving(this.#options)}`);
    return offset;
  }

  async #writeAt(offset: number, pieces: readonly Buffer[]): Promise<SealedRecord> {
    const sequence = this.#sequence++;
    const length = pieces.reduce((sum, { byteLength }) => sum + byteLength, 0);
    const order = { sequence, offset, pieces: pieces.map(movable) };
    const sealing = await this.#thread.seal(order).catch((error: unknown) => {
      throw new SpoolError(`The thread that writes the spool file ended: ${messageOf(error)}.`, error);
    });
    if ('failure' in sealing) throw new WriteRejected(sealing.failure, sealing.pieces);
    return { sequence, offset, length, tag: sealing.tag };
  }

  async #readSealed({ offset, length }: SealedRecord): Promise<Buffer> {
    const sealed = Buffer.allocUnsafe(length);
    try {
      for (let done = 0; done < length;) {
        const { bytesRead } = await this.#handle.read(sealed, done, length - done, offset + done);
        if (bytesRead === 0) throw new Error('the file is shorter than what was written');
        done += bytesRead;
      }
      return sealed;
    } catch (error) {
      throw new SpoolError(`The spool file cannot be read: ${messageOf(error)}.`, error);
    }
  }

  #open({ sequence, tag }: SealedRecord, sealed: Buffer): Buffer {
    const decipher = createDecipheriv(CIPHER, this.#key, nonceOf(sequence)).setAuthTag(tag);
    const bytes = decipher.update(sealed);
    try {
      decipher.final();
    } catch (error) {
      throw new SpoolError('The spool file holds other bytes than were written to it.', error);
    }
    return bytes;
  }
}

/** The piece, if it fills most of the memory that it lies in, or else a copy: no more than that is handed over. */
function movable(piece: Buffer): Piece {
  const { buffer, byteOffset, byteLength } = piece;
  if (buffer instanceof ArrayBuffer && byteLength > buffer.byteLength / 2)
    return new Uint8Array(buffer, byteOffset, byteLength);
  return new Uint8Array(piece);
}

/** Bytes that may be taken of the file system of a directory. */
async function roomIn({ dir, reserve }: SpoolFileOptions): Promise<number> {
  const { bavail, blocks, bsize } = await statfs(dir);
  const reserved = 'bytes' in reserve ? reserve.bytes : (blocks * bsize * reserve.percent) / 100;
  return Math.max(0, Math.floor(bavail * bsize - reserved));
}

function leaving({ reserve }: SpoolFileOptions): string {
  return ` with ${'bytes' in reserve ? `${reserve.bytes} bytes` : `${reserve.percent} %`} left free (SNAPSHOT_SPOOL_RESERVE)`;
}

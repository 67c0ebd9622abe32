import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { type FileHandle, open, statfs, unlink } from 'node:fs/promises';
import { HeldDirectory } from '../directories.ts';
import { ExitCode, messageOf, WorkerError } from '../errors.ts';

/** Confidential, as a snapshot holds every Secret, and authenticated: other bytes than the written ones are never returned. */
const CIPHER = 'aes-256-gcm';

/** What stays free of a file system: bytes, or a share of its size. */
export type Reserve = { readonly bytes: number } | { readonly percent: number };

/**
 * A kubelet evicts pods when less than 15 % are free on the file system of the images (its default `imagefs.available`) and
 * collects images there, and an etcd on a full disk stops. The spool leaves them this much.
 */
export const DEFAULT_RESERVE: Reserve = { percent: 20 };

/**
 * How much larger than the database that the member reported the file can become: a database can grow before the snapshot
 * begins. No answer of a server fills the disk.
 */
const GROWTH = { factor: 1.1, bytes: 16 * 1024 * 1024 };

/**
 * The spool does not return what was written to it. Exit code 1: neither etcd (10) nor the store (12) failed, the snapshot is
 * not known to be corrupt (11), and 2 promises that nothing was done.
 */
class SpoolError extends WorkerError {
  constructor(message: string, cause?: unknown) {
    const hint =
      'Nothing was stored. Set SNAPSHOT_SPOOL_DIR to a directory on a healthy disk, or unset it, and run the command again.';
    super(ExitCode.unexpected, message, hint, cause);
  }
}

/** A record in the file. */
export interface SpoolRecord {
  /** Makes the nonce: an earlier record at the same offset is not accepted. */
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
  /** Bytes expected at most. */
  readonly bytes: number;
  /** Bytes of the largest record. */
  readonly maxRecord: number;
}

/**
 * Encrypted records in a file without a name, which vanishes with the process, as its key does. The place of a record that was
 * read is used again, which keeps the file as small as possible. Several records can be written at the same time.
 */
export class SpoolFile {
  readonly #handle: FileHandle;
  readonly #options: SpoolFileOptions;
  readonly #key = randomBytes(32);
  readonly #freeOffsets: number[] = [];
  /** Bytes of the file, records that are being written included. */
  #end = 0;
  /** Bytes of new records that are being written, which the file system does not count yet. */
  #growing = 0;
  #sequence = 0;

  private constructor(handle: FileHandle, options: SpoolFileOptions) {
    this.#handle = handle;
    this.#options = options;
  }

  /**
   * A kill between creating the file and removing its name can leave an empty file, never data.
   * @throws Error when there is too little room in `dir`, or of the file system
   */
  static async create(options: SpoolFileOptions): Promise<SpoolFile> {
    const { dir, bytes } = options;
    const room = await roomIn(options);
    if (room < bytes) throw new Error(`it needs up to ${bytes} bytes, but has only ${room}${leaving(options)}`);
    const path = HeldDirectory.open(dir).at(`.etcd-snapshot-${randomBytes(16).toString('hex')}.spool`);
    // Fails if the path exists, also as a symbolic link.
    const handle = await open(path, 'wx+', 0o600);
    try {
      await unlink(path);
    } catch (error) {
      await handle.close();
      throw error;
    }
    return new SpoolFile(handle, options);
  }

  /** Writes a record that consists of these pieces. @throws Error when it is not in the file; other records still are */
  async write(pieces: readonly Buffer[]): Promise<SpoolRecord> {
    const { maxRecord } = this.#options;
    const freeOffset = this.#freeOffsets.pop();
    if (freeOffset !== undefined) return this.#writeAt(freeOffset, pieces);
    this.#growing += maxRecord;
    try {
      return await this.#writeAt(await this.#grow(), pieces);
    } finally {
      this.#growing -= maxRecord;
    }
  }

  /** Takes a record out and frees its place. @throws SpoolError */
  async read({ sequence, offset, length, tag }: SpoolRecord): Promise<Buffer> {
    const encrypted = Buffer.allocUnsafe(length);
    try {
      for (let done = 0; done < length;) {
        const { bytesRead } = await this.#handle.read(encrypted, done, length - done, offset + done);
        if (bytesRead === 0) throw new Error('the file is shorter than the data that was written');
        done += bytesRead;
      }
    } catch (error) {
      throw new SpoolError(`The spool file cannot be read: ${messageOf(error)}.`, error);
    }
    const decipher = createDecipheriv(CIPHER, this.#key, nonceOf(sequence)).setAuthTag(tag);
    const bytes = decipher.update(encrypted);
    try {
      decipher.final();
    } catch (error) {
      throw new SpoolError('The spool file does not contain the bytes that were written to it.', error);
    }
    this.#freeOffsets.push(offset);
    return bytes;
  }

  /** Frees the disk after the pending reads and writes. Can be called again. */
  async close(): Promise<void> {
    await this.#handle.close();
  }

  /** Reserves a place at the end of the file, if there is still room: others write to the disk, too. */
  async #grow(): Promise<number> {
    const { bytes, maxRecord } = this.#options;
    const offset = this.#end;
    this.#end += maxRecord;
    const limit = Math.max(bytes * GROWTH.factor, bytes + GROWTH.bytes);
    if (this.#end > limit) throw new Error(`the snapshot is larger than the expected ${bytes} bytes`);
    if ((await roomIn(this.#options)) < this.#growing) throw new Error(`the disk is full${leaving(this.#options)}`);
    return offset;
  }

  async #writeAt(offset: number, pieces: readonly Buffer[]): Promise<SpoolRecord> {
    const sequence = this.#sequence++;
    const cipher = createCipheriv(CIPHER, this.#key, nonceOf(sequence));
    const encrypted = Buffer.concat(pieces.map((piece) => cipher.update(piece)));
    cipher.final();
    const { length } = encrypted;
    // Up to a full disk a write succeeds with fewer bytes; the next one fails with the reason.
    for (let done = 0; done < length;) {
      done += (await this.#handle.write(encrypted, done, length - done, offset + done)).bytesWritten;
    }
    return { sequence, offset, length, tag: cipher.getAuthTag() };
  }
}

/** Unique under a key that is used for one file only, as GCM requires (NIST SP 800-38D, 8.2.1). */
function nonceOf(sequence: number): Buffer {
  const nonce = Buffer.alloc(12);
  nonce.writeUIntBE(sequence, 6, 6);
  return nonce;
}

/** Bytes that the spool can take of the file system of its directory. */
async function roomIn({ dir, reserve }: SpoolFileOptions): Promise<number> {
  const { bavail, blocks, bsize } = await statfs(dir);
  const reserved = 'bytes' in reserve ? reserve.bytes : (blocks * bsize * reserve.percent) / 100;
  return Math.max(0, Math.floor(bavail * bsize - reserved));
}

function leaving({ reserve }: SpoolFileOptions): string {
  return ` with ${'bytes' in reserve ? `${reserve.bytes} bytes` : `${reserve.percent} %`} left free (SNAPSHOT_SPOOL_RESERVE)`;
}

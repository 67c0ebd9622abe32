import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { type FileHandle, open, statfs, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { ExitCode, WorkerError } from '../errors.ts';

/** Confidential, as a snapshot holds every Secret, and authenticated: other bytes than the written ones are never returned. */
const CIPHER = 'aes-256-gcm';

/**
 * The part of a file system that stays free: below `nodefs.available` of 10 % the kubelet evicts pods (its default hard
 * threshold), and an etcd on a full disk stops.
 */
const RESERVE = 0.1;

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

/** Where a record lies in the file, and what it must be. */
export interface SealedRecord {
  /** Makes its nonce, so that no record passes for another one, not even for an earlier one at the same offset. */
  readonly sequence: number;
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
  /** Kept in memory: what is on the disk alone can be neither read nor forged. */
  readonly tag: Buffer;
}

/**
 * Records on disk in a file without a name: it vanishes with the process, however that ends, and its key with it. The place
 * of a record that was read is written again, so the file is never larger than the most that was in it at a time. Several
 * records may be on their way at once.
 */
export class SpoolFile {
  readonly #handle: FileHandle;
  readonly #maxRecord: number;
  readonly #key = randomBytes(32);
  readonly #freeOffsets: number[] = [];
  #end = 0;
  #sequence = 0;

  private constructor(handle: FileHandle, maxRecord: number) {
    this.#handle = handle;
    this.#maxRecord = maxRecord;
  }

  /**
   * A kill between creating the file and removing its name can leave an empty one, never data.
   * @param bytes that will be written at the most
   * @param maxRecord bytes of the largest record
   * @throws Error when there is too little room in `dir`, or of the file system
   */
  static async create(dir: string, bytes: number, maxRecord: number): Promise<SpoolFile> {
    const { bavail, blocks, bsize } = await statfs(dir);
    const room = Math.max(0, Math.floor((bavail - blocks * RESERVE) * bsize));
    if (room < bytes) {
      throw new Error(`${bytes} bytes may come, and there is room for ${room} with ${RESERVE * 100} % left free`);
    }
    const path = join(dir, `.etcd-snapshot-${randomBytes(16).toString('hex')}.spool`);
    const handle = await open(path, 'wx+', 0o600);
    try {
      await unlink(path);
    } catch (error) {
      await handle.close();
      throw error;
    }
    return new SpoolFile(handle, maxRecord);
  }

  /**
   * Writes a record that consists of these pieces.
   * @throws Error of the file system: then the record is not in the file, all others are
   */
  async write(pieces: readonly Uint8Array[]): Promise<SealedRecord> {
    const sequence = this.#sequence++;
    const offset = this.#freeOffsets.pop() ?? this.#grow();
    const cipher = createCipheriv(CIPHER, this.#key, nonceOf(sequence));
    const sealed = pieces.map((piece) => cipher.update(piece));
    cipher.final();
    const length = sealed.reduce((sum, { byteLength }) => sum + byteLength, 0);
    const { bytesWritten } = await this.#handle.writev(sealed, offset);
    if (bytesWritten < length) await this.#writeRest(Buffer.concat(sealed), bytesWritten, offset);
    return { sequence, offset, length, tag: cipher.getAuthTag() };
  }

  /** Takes a record out; its place is free then. @throws SpoolError */
  async read(record: SealedRecord): Promise<Buffer> {
    const bytes = this.#open(record, await this.#readSealed(record));
    this.#freeOffsets.push(record.offset);
    return bytes;
  }

  /** Frees the disk, once a read or write under way has ended. May be called again. */
  async close(): Promise<void> {
    await this.#handle.close();
  }

  /** Up to a full disk a write succeeds with fewer bytes; the next one says why. */
  async #writeRest(bytes: Buffer, written: number, offset: number): Promise<void> {
    for (let done = written; done < bytes.length;) {
      done += (await this.#handle.write(bytes, done, bytes.length - done, offset + done)).bytesWritten;
    }
  }

  #grow(): number {
    const offset = this.#end;
    this.#end += this.#maxRecord;
    return offset;
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

/** Unique under a key that is used for one file only, which is all that GCM asks of a nonce (NIST SP 800-38D, 8.2.1). */
function nonceOf(sequence: number): Buffer {
  const nonce = Buffer.alloc(12);
  nonce.writeUIntBE(sequence, 6, 6);
  return nonce;
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

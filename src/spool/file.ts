import { createDecipheriv, randomBytes } from 'node:crypto';
import { type FileHandle, open, statfs, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { ExitCode, messageOf, WorkerError } from '../errors.ts';
import { CIPHER, nonceOf, type Piece } from './seal.ts';
import { SealingThread } from './thread.ts';

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

/** A record that the disk did not take; its bytes come back. */
export class Unwritten extends Error {
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

/**
 * Records on disk in a file without a name: it vanishes with the process, however that ends, and its key with it. The place
 * of a record that was read is written again, so the file is never larger than the most that was in it at a time. Several
 * records may be on their way at once.
 */
export class SpoolFile {
  readonly #handle: FileHandle;
  readonly #maxRecord: number;
  readonly #key = randomBytes(32);
  readonly #thread: SealingThread;
  readonly #freeOffsets: number[] = [];
  #end = 0;
  #sequence = 0;

  private constructor(handle: FileHandle, maxRecord: number) {
    this.#handle = handle;
    this.#maxRecord = maxRecord;
    this.#thread = new SealingThread(handle.fd, this.#key);
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
   * Writes a record that consists of these pieces, and takes their memory.
   * @throws Unwritten when it is not in the file, and all others are; SpoolError when its bytes are lost
   */
  async write(pieces: readonly Buffer[]): Promise<SealedRecord> {
    const sequence = this.#sequence++;
    const offset = this.#freeOffsets.pop() ?? this.#grow();
    const length = pieces.reduce((sum, { byteLength }) => sum + byteLength, 0);
    const order = { sequence, offset, pieces: pieces.map(movable) };
    const sealing = await this.#thread.seal(order).catch((error: unknown) => {
      throw new SpoolError(`The thread that writes the spool file ended: ${messageOf(error)}.`, error);
    });
    if ('failure' in sealing) throw new Unwritten(sealing.failure, sealing.pieces);
    return { sequence, offset, length, tag: sealing.tag };
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

/** The piece, if it fills most of the memory that it lies in, or else a copy: no more than that is handed over. */
function movable(piece: Buffer): Piece {
  const { buffer, byteOffset, byteLength } = piece;
  if (buffer instanceof ArrayBuffer && byteLength > buffer.byteLength / 2)
    return new Uint8Array(buffer, byteOffset, byteLength);
  return new Uint8Array(piece);
}

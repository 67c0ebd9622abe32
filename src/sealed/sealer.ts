import { createHash } from 'node:crypto';
import { PassThrough } from 'node:stream';
import { constants, createZstdCompress } from 'node:zlib';
import type { Seal } from '../snapshot/record.ts';
import { type Encoding, isCompressed } from '../snapshot/snapshot-name.ts';
import type { Header } from './age-header.ts';
import { encryptPayload } from './age-payload.ts';

/** Higher levels take several times as long, and make snapshots of Kubernetes hardly smaller. */
const LEVEL = 1;

/** Bytes that go to the thread of the compression, and come from it, at a time: each time costs a change of threads. */
const CHUNK_SIZE = 512 * 1024;

/** Where the sealed bytes go: an upload. */
export interface Sink {
  write(piece: Uint8Array): Promise<void>;
}

/** The header of the encrypted file, and the fingerprints of those whom it is for. */
interface Encryption extends Header {
  readonly fingerprints: readonly string[];
}

/** Takes the bytes of a snapshot, and writes the sealed ones. They are compressed in a thread while the next bytes arrive. */
export class Sealer {
  readonly #encoding: Encoding;
  readonly #fingerprints: readonly string[];
  /** Where the bytes of the snapshot go first. */
  readonly #input;
  readonly #storedHash = createHash('sha256');
  #storedSize = 0;
  /** Until all sealed bytes are written. */
  readonly #draining: Promise<void>;
  /** Until the last chunk is taken. */
  #taking: Promise<void> = Promise.resolve();
  #chunk = Buffer.allocUnsafe(CHUNK_SIZE);
  #filled = 0;

  constructor(encoding: Encoding, encryption: Encryption | undefined, sink: Sink) {
    this.#encoding = encoding;
    this.#fingerprints = encryption?.fingerprints ?? [];
    this.#input = isCompressed(encoding) ? createCompression() : new PassThrough();
    const compressed: AsyncIterable<Buffer> = this.#input;
    this.#draining = this.#drain(encryption === undefined ? compressed : encrypted(compressed, encryption), sink);
    // It may fail before it is awaited.
    this.#draining.catch(() => {});
  }

  /** Copies the piece; waits while an earlier one is being compressed. @throws what the sink throws */
  async write(piece: Uint8Array): Promise<void> {
    for (let at = 0; at < piece.length;) {
      const part = piece.subarray(at, at + CHUNK_SIZE - this.#filled);
      this.#chunk.set(part, this.#filled);
      this.#filled += part.length;
      at += part.length;
      if (this.#filled === CHUNK_SIZE) await this.#pass();
    }
  }

  /** After the last `write`. @throws what the sink throws */
  async finish(): Promise<Seal> {
    if (this.#filled > 0) await this.#pass();
    await this.#taken();
    this.#input.end();
    await this.#draining;
    return {
      encoding: this.#encoding,
      storedSize: this.#storedSize,
      storedSha256: this.#storedHash.digest('hex'),
      recipients: this.#fingerprints,
    };
  }

  /** Frees the memory, after an error as well. */
  close(): void {
    this.#input.destroy();
  }

  /** Passes the chunk on, and starts another one. */
  async #pass(): Promise<void> {
    await this.#taken();
    const chunk = this.#chunk.subarray(0, this.#filled);
    this.#taking = new Promise((resolve) => this.#input.write(chunk, () => resolve()));
    this.#chunk = Buffer.allocUnsafe(CHUNK_SIZE);
    this.#filled = 0;
  }

  /** When the sink fails, the input stops without an answer. */
  async #taken(): Promise<void> {
    await Promise.race([this.#taking, this.#draining]);
  }

  async #drain(sealed: AsyncIterable<Buffer>, sink: Sink): Promise<void> {
    for await (const piece of sealed) {
      this.#storedHash.update(piece);
      this.#storedSize += piece.length;
      await sink.write(piece);
    }
  }
}

function createCompression(): ReturnType<typeof createZstdCompress> {
  const params = { [constants.ZSTD_c_compressionLevel]: LEVEL, [constants.ZSTD_c_checksumFlag]: 1 };
  return createZstdCompress({ params, chunkSize: CHUNK_SIZE });
}

async function* encrypted(
  plain: AsyncIterable<Buffer>,
  { bytes, fileKey }: Header,
): AsyncGenerator<Buffer, void, void> {
  yield bytes;
  yield* encryptPayload(plain, fileKey);
}

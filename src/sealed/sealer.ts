import { createHash } from 'node:crypto';
import { PassThrough } from 'node:stream';
import { constants, createZstdCompress } from 'node:zlib';
import type { Seal } from '../snapshot/record.ts';
import { type Encoding, isCompressed } from '../snapshot/snapshot-name.ts';
import type { Header } from './age-header.ts';
import { encryptPayload } from './age-payload.ts';

/** Higher levels take several times as long, and make snapshots of Kubernetes hardly smaller. */
const LEVEL = 1;

/** Bytes that come out of the compression at a time. */
const CHUNK_SIZE = 256 * 1024;

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
  /** Until the last piece is taken. */
  #taking: Promise<void> = Promise.resolve();

  constructor(encoding: Encoding, encryption: Encryption | undefined, sink: Sink) {
    this.#encoding = encoding;
    this.#fingerprints = encryption?.fingerprints ?? [];
    this.#input = isCompressed(encoding) ? createCompression() : new PassThrough();
    const compressed: AsyncIterable<Buffer> = this.#input;
    this.#draining = this.#drain(encryption === undefined ? compressed : encrypted(compressed, encryption), sink);
    // It may fail before it is awaited.
    this.#draining.catch(() => {});
  }

  /** Copies the piece; waits while the one before it is being compressed. @throws what the sink throws */
  async write(piece: Uint8Array): Promise<void> {
    await this.#taken();
    this.#taking = new Promise((resolve) => this.#input.write(Buffer.from(piece), () => resolve()));
  }

  /** After the last `write`. @throws what the sink throws */
  async finish(): Promise<Seal> {
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

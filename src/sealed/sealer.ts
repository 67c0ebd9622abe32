import { createHash } from 'node:crypto';
import { constants, createZstdCompress } from 'node:zlib';
import type { Seal } from '../snapshot/record.ts';
import type { Encoding } from '../snapshot/snapshot-name.ts';

/** Higher levels take several times as long, and make snapshots of Kubernetes hardly smaller. */
const LEVEL = 1;

/** Bytes that come out at a time. */
const CHUNK_SIZE = 256 * 1024;

/** Where the sealed bytes go: an upload. */
interface Sink {
  write(piece: Uint8Array): Promise<void>;
}

/** Takes the bytes of a snapshot, and writes the sealed ones. They are compressed in a thread while the next bytes arrive. */
export class Sealer {
  readonly #encoding: Encoding;
  readonly #zstd = createZstdCompress({
    params: { [constants.ZSTD_c_compressionLevel]: LEVEL, [constants.ZSTD_c_checksumFlag]: 1 },
    chunkSize: CHUNK_SIZE,
  });
  readonly #storedHash = createHash('sha256');
  #storedSize = 0;
  /** Until all sealed bytes are written. */
  readonly #draining: Promise<void>;
  /** Until the last piece is compressed. */
  #compressing: Promise<void> = Promise.resolve();

  constructor(encoding: Encoding, sink: Sink) {
    this.#encoding = encoding;
    this.#draining = this.#drain(sink);
    // It may fail before it is awaited.
    this.#draining.catch(() => {});
  }

  /** Copies the piece; waits while the one before it is being compressed. @throws what the sink throws */
  async write(piece: Uint8Array): Promise<void> {
    await this.#compressed();
    this.#compressing = new Promise((resolve) => this.#zstd.write(Buffer.from(piece), () => resolve()));
  }

  /** After the last `write`. @throws what the sink throws */
  async finish(): Promise<Seal> {
    await this.#compressed();
    this.#zstd.end();
    await this.#draining;
    return {
      encoding: this.#encoding,
      storedSize: this.#storedSize,
      storedSha256: this.#storedHash.digest('hex'),
    };
  }

  /** Frees the memory, after an error as well. */
  close(): void {
    this.#zstd.destroy();
  }

  /** When the sink fails, the compression stops without an answer. */
  async #compressed(): Promise<void> {
    await Promise.race([this.#compressing, this.#draining]);
  }

  async #drain(sink: Sink): Promise<void> {
    for await (const piece of this.#zstd as AsyncIterable<Buffer>) {
      this.#storedHash.update(piece);
      this.#storedSize += piece.length;
      await sink.write(piece);
    }
  }
}

import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto';

/*
 * The payload of an age file (https://age-encryption.org/v1): a nonce, then chunks of 64 KiB, each encrypted with
 * ChaCha20-Poly1305 and a counter. Node's own cipher is five times as fast as that of the library that makes the header.
 */

const CHUNK_SIZE = 64 * 1024;
const TAG_SIZE = 16;
const NONCE_SIZE = 16;
const CIPHER = 'chacha20-poly1305';
const OPTIONS = { authTagLength: TAG_SIZE };

/** The bytes are not what was encrypted; the message completes "it cannot be decrypted: …". */
export class DecryptionError extends Error {}

/** @param fileKey that the header contains for each recipient */
export async function* encryptPayload(
  plain: AsyncIterable<Uint8Array>,
  fileKey: Uint8Array,
): AsyncGenerator<Buffer, void, void> {
  const nonce = randomBytes(NONCE_SIZE);
  yield nonce;
  const key = payloadKey(fileKey, nonce);
  let counter = 0;
  for await (const { chunk, isLast } of chunksOf(plain, CHUNK_SIZE)) {
    const cipher = createCipheriv(CIPHER, key, chunkNonce(counter++, isLast), OPTIONS);
    yield Buffer.concat([cipher.update(chunk), cipher.final(), cipher.getAuthTag()]);
  }
}

/** @param bytes what follows the header @throws DecryptionError */
export async function* decryptPayload(bytes: ByteReader, fileKey: Uint8Array): AsyncGenerator<Buffer, void, void> {
  const nonce = await bytes.take(NONCE_SIZE);
  if (nonce.length < NONCE_SIZE) throw new DecryptionError('it is truncated');
  const key = payloadKey(fileKey, nonce);
  let counter = 0;
  for await (const { chunk, isLast } of chunksOf(bytes.rest(), CHUNK_SIZE + TAG_SIZE)) {
    if (chunk.length < TAG_SIZE) throw new DecryptionError('it is truncated');
    if (chunk.length === TAG_SIZE && counter > 0) throw new DecryptionError('its last chunk is empty');
    const decipher = createDecipheriv(CIPHER, key, chunkNonce(counter++, isLast), OPTIONS);
    decipher.setAuthTag(chunk.subarray(-TAG_SIZE));
    const plain = decipher.update(chunk.subarray(0, -TAG_SIZE));
    try {
      decipher.final();
    } catch {
      throw new DecryptionError(`chunk ${counter} was changed, or is missing`);
    }
    yield plain;
  }
}

function payloadKey(fileKey: Uint8Array, nonce: Uint8Array): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', fileKey, nonce, 'payload', 32));
}

/** Eleven bytes of a counter, then whether it is the last chunk. */
function chunkNonce(counter: number, isLast: boolean): Buffer {
  const nonce = Buffer.alloc(12);
  nonce.writeUIntBE(counter, 5, 6);
  nonce[11] = Number(isLast);
  return nonce;
}

interface Chunk {
  /** Valid until the next one is taken. */
  readonly chunk: Buffer;
  readonly isLast: boolean;
}

/** Full chunks and a shorter last one: at least one chunk, and the last one is known as such. */
async function* chunksOf(pieces: AsyncIterable<Uint8Array>, size: number): AsyncGenerator<Chunk, void, void> {
  const chunk = Buffer.allocUnsafe(size);
  let filled = 0;
  for await (const piece of pieces) {
    for (let at = 0; at < piece.length;) {
      if (filled === size) {
        yield { chunk, isLast: false };
        filled = 0;
      }
      const part = piece.subarray(at, at + size - filled);
      chunk.set(part, filled);
      filled += part.length;
      at += part.length;
    }
  }
  yield { chunk: chunk.subarray(0, filled), isLast: true };
}

/** The beginning of a stream, and then what follows it. */
export class ByteReader {
  readonly #pieces: AsyncIterator<Uint8Array>;
  #ahead: Buffer = Buffer.alloc(0);

  constructor(pieces: AsyncIterable<Uint8Array>) {
    this.#pieces = pieces[Symbol.asyncIterator]();
  }

  /** Fewer bytes at the end of the stream. */
  async take(count: number): Promise<Buffer> {
    while (this.#ahead.length < count && (await this.#more()));
    return this.#cut(count);
  }

  /** Up to and with the end of this text; undefined when it is not in the first `max` bytes. */
  async takeThrough(end: RegExp, max: number): Promise<Buffer | undefined> {
    for (;;) {
      const found = end.exec(this.#ahead.toString('latin1', 0, max));
      if (found !== null) return this.#cut(found.index + found[0].length);
      if (this.#ahead.length >= max || !(await this.#more())) return undefined;
    }
  }

  /** Everything that was not taken. */
  async *rest(): AsyncGenerator<Uint8Array, void, void> {
    if (this.#ahead.length > 0) yield this.#cut(this.#ahead.length);
    for (let next = await this.#pieces.next(); next.done !== true; next = await this.#pieces.next()) yield next.value;
  }

  /** Ends the stream early. */
  async close(): Promise<void> {
    await this.#pieces.return?.();
  }

  async #more(): Promise<boolean> {
    const next = await this.#pieces.next();
    if (next.done === true) return false;
    this.#ahead = Buffer.concat([this.#ahead, next.value]);
    return true;
  }

  #cut(count: number): Buffer {
    const taken = this.#ahead.subarray(0, count);
    this.#ahead = this.#ahead.subarray(count);
    return taken;
  }
}

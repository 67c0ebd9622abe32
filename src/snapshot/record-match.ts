import { createHash } from 'node:crypto';

/** The permit to store the copy of a blob: only a matcher issues it, for bytes with the sha256 that the record names. */
export class MatchedBytes {
  readonly #size: number;

  constructor(size: number) {
    this.#size = size;
  }

  get size(): number {
    return this.#size;
  }
}

/** Compares the bytes of a blob with its record while they are read. */
export class RecordMatcher {
  readonly #sha256: string;
  readonly #hash = createHash('sha256');
  #size = 0;

  /** @param sha256 of the blob, in lower-case hex, as its record names it */
  constructor(sha256: string) {
    this.#sha256 = sha256;
  }

  push(piece: Uint8Array): void {
    this.#hash.update(piece);
    this.#size += piece.length;
  }

  /** @returns undefined where the bytes are not those of the record */
  finish(): MatchedBytes | undefined {
    return this.#hash.digest('hex') === this.#sha256 ? new MatchedBytes(this.#size) : undefined;
  }
}

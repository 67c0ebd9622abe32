import { type Bytes, bytesOf, leafElements } from './page.ts';

/** Where the entries of the `key` bucket are in a snapshot that was verified. */
export interface KeyPages {
  /** Bytes. */
  readonly pageSize: number;
  /** Page number and overflow of each leaf, in pairs, in the order of the file. */
  readonly runs: Uint32Array;
  /** The one leaf of a bucket that is so small that it is kept in its parent. */
  readonly image: Uint8Array | undefined;
}

/** One revision of a user key (specification: content). Its buffers are valid during the call only. */
export interface KeyEntry {
  readonly key: Buffer;
  /** Empty for a tombstone. */
  readonly value: Buffer;
  readonly isTombstone: boolean;
  /** Main revision, the key's `mod_revision`, and the place within its transaction. */
  readonly main: number;
  readonly sub: number;
  /** How often the key was written since it was created. */
  readonly version: number;
}

/**
 * Reads the entries of a snapshot's `key` bucket while its bytes pass a second time: the first time told which pages count.
 * They come in the order of the file, which is not that of their revisions.
 */
export class KeyScanner {
  readonly #pages: KeyPages;
  readonly #visit: (entry: KeyEntry) => void;
  /** Offset in the file of the next byte. */
  #offset = 0;
  /** Index into `runs` of the next leaf. */
  #run = 0;
  #leaf: Buffer | undefined;
  #filled = 0;

  constructor(pages: KeyPages, visit: (entry: KeyEntry) => void) {
    this.#pages = pages;
    this.#visit = visit;
    if (pages.image !== undefined) this.#read(bytesOf(pages.image).bytes);
  }

  push(piece: Uint8Array): void {
    const { bytes }: Bytes = bytesOf(piece);
    const { runs, pageSize } = this.#pages;
    const end = this.#offset + bytes.length;
    while (this.#run < runs.length) {
      const begin = (runs[this.#run] ?? 0) * pageSize;
      const size = ((runs[this.#run + 1] ?? 0) + 1) * pageSize;
      const from = Math.max(begin + this.#filled, this.#offset);
      if (from >= end) break;
      const to = Math.min(begin + size, end);
      this.#leaf ??= Buffer.alloc(size);
      this.#filled += bytes.copy(this.#leaf, this.#filled, from - this.#offset, to - this.#offset);
      if (this.#filled < size) break;
      this.#read(this.#leaf);
      this.#leaf = undefined;
      this.#filled = 0;
      this.#run += 2;
    }
    this.#offset = end;
  }

  #read(leaf: Buffer): void {
    for (const { key: revision, value: message } of leafElements(leaf)) {
      const { key, value, version } = keyValue(message);
      this.#visit({
        key,
        value,
        version,
        isTombstone: revision.length > REVISION_SIZE,
        main: Number(revision.readBigUInt64BE(0)),
        sub: Number(revision.readBigUInt64BE(9)),
      });
    }
  }
}

const REVISION_SIZE = 17;
const NOTHING = Buffer.alloc(0);

/** Fields of mvccpb.KeyValue: 1 key, 4 version, 5 value. The verifier found the message well-formed. */
function keyValue(message: Buffer): { key: Buffer; value: Buffer; version: number } {
  const found: { key: Buffer; value: Buffer; version: number } = { key: NOTHING, value: NOTHING, version: 0 };
  let at = 0;
  const varint = (): number => {
    let number = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = message.readUInt8(at++);
      number += (byte & 0x7f) * scale;
      if (byte < 0x80) return number;
    }
  };
  while (at < message.length) {
    const tag = varint();
    const number = varint();
    if (tag === 4 << 3) found.version = number;
    if (tag % 8 !== 2) continue;
    const bytes = message.subarray(at, at + number);
    at += number;
    if (tag === ((1 << 3) | 2)) found.key = bytes;
    if (tag === ((5 << 3) | 2)) found.value = bytes;
  }
  return found;
}

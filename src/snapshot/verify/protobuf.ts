import { KeyHash } from './key-hash.ts';

/** A scanner knows the fields with a number below this; others are skipped, as a later etcd can add some. */
const KNOWN_FIELDS = 8;

const TAG = 0;
const VARINT = 1;
const LENGTH = 2;
const SKIP = 3;
const FIRST = 4;

/**
 * Reads one flat protobuf message that can come in parts; keeps its numbers and a hash of a length-delimited field 1. Stricter
 * than protobuf: a known field comes once at most, and there are no groups (etcd writes neither).
 */
export class MessageScanner {
  /** The known fields that came, as bits, by wire type: varint, length-delimited, and fixed size. */
  numberFields = 0;
  bytesFields = 0;
  otherFields = 0;
  /** Bytes of a length-delimited field 1. */
  firstLength = 0;
  /** Its hash, once the caller ended it. */
  readonly first = new KeyHash();
  readonly #numbers = new Float64Array(KNOWN_FIELDS);
  #hashesFirst = false;
  #state = TAG;
  #field = 0;
  #number = 0;
  #scale = 1;
  /** Bytes of the current field still to come. */
  #left = 0;
  #broken = false;

  begin(hashesFirst: boolean): void {
    this.numberFields = this.bytesFields = this.otherFields = this.firstLength = 0;
    this.#hashesFirst = hashesFirst;
    this.#state = TAG;
    this.#number = 0;
    this.#scale = 1;
    this.#broken = false;
  }

  /** Reads on in `bytes` from offset `from` up to `to`. */
  feed(bytes: Buffer, from: number, to: number): void {
    let number = this.#number;
    let scale = this.#scale;
    let state = this.#state;
    for (let at = from; at < to && !this.#broken;) {
      if (state >= SKIP) {
        const end = Math.min(to, at + this.#left);
        if (state === FIRST) this.first.update(bytes, at, end);
        this.#left -= end - at;
        at = end;
        if (this.#left === 0) state = TAG;
        continue;
      }
      const byte = bytes[at++]!;
      number += (byte & 0x7f) * scale;
      // The tenth byte has room for one bit.
      if (scale === 2 ** 63 && byte > 1) this.#broken = true;
      if (byte >= 0x80) {
        scale *= 128;
        continue;
      }
      state = state === TAG ? this.#tag(number) : state === VARINT ? this.#varint(number) : this.#delimited(number);
      number = 0;
      scale = 1;
    }
    this.#number = number;
    this.#scale = scale;
    this.#state = state;
  }

  /** Whether the message, which ends here, was well-formed. */
  end(): boolean {
    return !this.#broken && this.#state === TAG && this.#scale === 1;
  }

  /** Value of a number field, 0 when it did not come; exact below 2^53, otherwise at least 2^53. */
  number(field: number): number {
    return (this.numberFields & (1 << field)) === 0 ? 0 : this.#numbers[field]!;
  }

  #tag(tag: number): number {
    const type = tag % 8;
    this.#field = Math.floor(tag / 8);
    const known = this.#field < KNOWN_FIELDS ? 1 << this.#field : 0;
    const isSecond = ((this.numberFields | this.bytesFields | this.otherFields) & known) !== 0;
    if (this.#field === 0 || this.#field >= 2 ** 29 || isSecond) this.#broken = true;
    if (type === 0) {
      this.numberFields |= known;
      return VARINT;
    }
    if (type === 2) {
      this.bytesFields |= known;
      return LENGTH;
    }
    this.otherFields |= known;
    if (type === 1) this.#left = 8;
    else if (type === 5) this.#left = 4;
    else this.#broken = true;
    return SKIP;
  }

  #varint(value: number): number {
    if (this.#field < KNOWN_FIELDS) this.#numbers[this.#field] = value;
    return TAG;
  }

  #delimited(length: number): number {
    this.#left = length;
    if (this.#field !== 1) return length === 0 ? TAG : SKIP;
    this.firstLength = length;
    if (this.#hashesFirst) this.first.begin();
    return length === 0 ? TAG : this.#hashesFirst ? FIRST : SKIP;
  }
}

/**
 * The varint fields of a small message by field number, or undefined when it is not well-formed or has fields of another
 * type. Values are unsigned 64-bit numbers.
 */
export function varintFields(message: Uint8Array): ReadonlyMap<number, bigint> | undefined {
  const fields = new Map<number, bigint>();
  let tag: bigint | undefined;
  let number = 0n;
  let shift = 0n;
  for (const byte of message) {
    number |= BigInt(byte & 0x7f) << shift;
    shift += 7n;
    if (byte >= 0x80 && shift < 70n) continue;
    if (number >= 2n ** 64n) return undefined;
    if (tag === undefined) {
      if (number % 8n !== 0n || number === 0n || number > 1000n) return undefined;
      tag = number;
    } else {
      fields.set(Number(tag / 8n), number);
      tag = undefined;
    }
    number = shift = 0n;
  }
  return shift === 0n && tag === undefined ? fields : undefined;
}

/** Fields with a number below this are known to a scanner; others are skipped, as a later etcd may add some. */
const KNOWN_FIELDS = 8;

/** WorkerMessage where the bytes of a length-delimited field 1 are, as they pass; a field may come in parts. */
export interface FirstField {
  beginFirst(length: number): void;
  partOfFirst(bytes: Buffer, from: number, to: number): void;
}

const TAG = 0;
const VARINT = 1;
const LENGTH = 2;
const SKIP = 3;
const FIRST = 4;

/**
 * Reads one flat protobuf message that may come in parts, and keeps its numbers only. Stricter than protobuf: a known field
 * comes once at most, and there are no groups (etcd writes neither).
 */
export class MessageScanner {
  /** The known fields that came, as bits, by wire type: varint, length-delimited, and fixed size. */
  numberFields = 0;
  bytesFields = 0;
  otherFields = 0;
  readonly #numbers = new Float64Array(KNOWN_FIELDS);
  readonly #first: FirstField;
  #state = TAG;
  #field = 0;
  #number = 0;
  #scale = 1;
  /** Bytes of the current field still to come. */
  #left = 0;
  #broken = false;

  constructor(first: FirstField) {
    this.#first = first;
  }

  begin(): void {
    this.numberFields = this.bytesFields = this.otherFields = 0;
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
    if (this.#broken) return;
    for (let at = from; at < to;) {
      if (state >= SKIP) {
        const end = Math.min(to, at + this.#left);
        if (state === FIRST) this.#first.partOfFirst(bytes, at, end);
        this.#left -= end - at;
        at = end;
        if (this.#left === 0) state = TAG;
        continue;
      }
      const byte = bytes[at++]!;
      number += (byte & 0x7f) * scale;
      if (byte >= 0x80) {
        scale *= 128;
        if (scale <= 2 ** 63) continue;
        this.#broken = true;
        return;
      }
      if (scale === 2 ** 63 && byte > 1) {
        this.#broken = true;
        return;
      }
      state = state === TAG ? this.#tag(number) : state === VARINT ? this.#varint(number) : this.#delimited(number);
      if (this.#broken) return;
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
    if (this.#field === 0 || this.#field >= 2 ** 29) this.#broken = true;
    const known = this.#field < KNOWN_FIELDS ? 1 << this.#field : 0;
    if (((this.numberFields | this.bytesFields | this.otherFields) & known) !== 0) this.#broken = true;
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
    if (this.#field === 1) this.#first.beginFirst(length);
    if (length === 0) return TAG;
    return this.#field === 1 ? FIRST : SKIP;
  }
}

/**
 * The varint fields of a small message by field number, or undefined when it is not well-formed or has fields of another
 * type. Values are unsigned 64-bit numbers.
 */
export function varintFields(message: Uint8Array): ReadonlyMap<number, bigint> | undefined {
  const fields = new Map<number, bigint>();
  const numbers: bigint[] = [];
  let number = 0n;
  let shift = 0n;
  for (const byte of message) {
    number |= BigInt(byte & 0x7f) << shift;
    shift += 7n;
    if (byte >= 0x80 && shift < 70n) continue;
    if (number >= 2n ** 64n) return undefined;
    numbers.push(number);
    number = shift = 0n;
  }
  if (shift !== 0n || numbers.length % 2 !== 0) return undefined;
  for (let i = 0; i < numbers.length; i += 2) {
    const tag = numbers[i]!;
    if (tag % 8n !== 0n || tag === 0n || tag > 1000n) return undefined;
    fields.set(Number(tag / 8n), numbers[i + 1]!);
  }
  return fields;
}

import { Budget, exactInteger, type Json, UnreadableValue } from './object-values.ts';

/** What the API server writes before each value in CBOR: the tag of self-described CBOR (RFC 8949, section 3.4.6). */
export const CBOR_MARK: Buffer = Buffer.from([0xd9, 0xd9, 0xf7]);

/** Tags that say how bytes become text in JSON. */
const ENCODINGS: ReadonlyMap<number, BufferEncoding> = new Map([
  [21, 'base64url'],
  [22, 'base64'],
  [23, 'hex'],
]);

/** Tags that change nothing for JSON: a time as text, and self-described CBOR. */
const TRANSPARENT = new Set([0, 55_799]);

/** CBOR as the API server stores custom resources: text is in byte strings or text strings. @throws UnreadableValue */
export function parseCbor(bytes: Buffer): Json {
  const reader = new Reader(bytes);
  const value = reader.item(0);
  if (reader.isAtEnd) return value;
  throw corrupt('bytes follow it');
}

class Reader {
  readonly #bytes: Buffer;
  readonly #budget = new Budget();
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get isAtEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  /** @param encoding for the byte strings in it */
  item(depth: number, encoding: BufferEncoding = 'utf8'): Json {
    this.#budget.enter(depth);
    const initial = this.#take(1).readUInt8();
    const [type, info] = [initial >> 5, initial & 31];
    if (type === 7) return this.#simple(info);
    const argument = this.#argument(info);
    if (type <= 1) return integer(type === 0 ? argument : -1n - argument);
    const count = Number(argument);
    switch (type) {
      case 2:
        return this.#take(count).toString(encoding);
      case 3:
        return this.#take(count).toString();
      case 4:
        return this.#list(count, depth, encoding);
      case 5:
        return this.#map(count, depth, encoding);
      default:
        if (!ENCODINGS.has(count) && !TRANSPARENT.has(count)) throw corrupt(`tag ${count} is not allowed`);
        return this.item(depth + 1, ENCODINGS.get(count) ?? encoding);
    }
  }

  #take(size: number): Buffer {
    if (size > this.#bytes.length - this.#at) throw corrupt('it ends too early');
    this.#at += size;
    return this.#bytes.subarray(this.#at - size, this.#at);
  }

  /** Lengths are always definite: the API server writes no others. */
  #argument(info: number): bigint {
    if (info < 24) return BigInt(info);
    if (info > 27) throw corrupt('a length is invalid');
    return BigInt(`0x${this.#take(2 ** (info - 24)).toString('hex')}`);
  }

  #list(count: number, depth: number, encoding: BufferEncoding): Json[] {
    const elements: Json[] = [];
    // Each takes a byte at least, so that a false count ends early.
    for (let index = 0; index < count; index++) elements.push(this.item(depth + 1, encoding));
    return elements;
  }

  #map(count: number, depth: number, encoding: BufferEncoding): Json {
    const entries = new Map<string, Json>();
    for (let index = 0; index < count; index++) {
      const name = this.item(depth + 1);
      if (typeof name !== 'string' || entries.has(name)) throw corrupt('a name is not text, or is there twice');
      entries.set(name, this.item(depth + 1, encoding));
    }
    return Object.fromEntries(entries);
  }

  #simple(info: number): Json {
    switch (info) {
      case 20:
      case 21:
        return info === 21;
      case 22:
        return null;
      case 25:
        return finite(half(this.#take(2).readUInt16BE()));
      case 26:
        return finite(this.#take(4).readFloatBE());
      case 27:
        return finite(this.#take(8).readDoubleBE());
      default:
        throw corrupt('a value has a type that is not allowed');
    }
  }
}

function integer(value: bigint): Json {
  if (BigInt.asIntN(64, value) !== value) throw corrupt('a number is out of range');
  return exactInteger(value);
}

function finite(value: number): number {
  if (Number.isFinite(value)) return value;
  throw corrupt('a number is not finite');
}

/** IEEE 754 with 16 bits: one of the sign, five of the exponent, ten of the fraction. */
function half(bits: number): number {
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
  const sign = bits >> 15 === 0 ? 1 : -1;
  if (exponent === 31) return Number.NaN;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
}

function corrupt(why: string): UnreadableValue {
  return new UnreadableValue(`is not valid CBOR: ${why}`);
}

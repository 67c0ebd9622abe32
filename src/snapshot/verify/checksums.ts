import { randomBytes } from 'node:crypto';
import { crc32c } from '@node-rs/crc32';

/** CRC32C of bytes; with the CRC32C of what is before them, of both. */
export { crc32c };

/** Castagnoli's polynomial with its bits reflected. */
const POLYNOMIAL = 0x82f63b78;

/** Operators of lengths below this are computed once; the data of a leaf page is nearly always shorter. */
const CACHE = new Uint32Array(16_384);

/** `x^(8 * 2^k)` modulo the polynomial: what appending 2^k zero bytes does to a checksum. */
const POWERS = new Uint32Array(32);
POWERS[0] = 0x0080_0000;
for (let k = 1; k < POWERS.length; k++) POWERS[k] = multiply(POWERS[k - 1]!, POWERS[k - 1]!);

/**
 * CRC32C of A followed by B, from the checksum of each and the number of bytes in B (specification: one streaming pass,
 * crc32-combine). It is its own inverse: from the checksums of A and of A followed by B it computes that of B.
 */
export function combine(crcA: number, crcB: number, lengthB: number): number {
  return (multiply(operatorFor(lengthB), crcA) ^ crcB) >>> 0;
}

function operatorFor(length: number): number {
  const known = CACHE[length] ?? 0;
  if (known !== 0) return known;
  // Bit 31 is x^0: the reflected form of the polynomial 1.
  let operator = 0x8000_0000;
  for (let bit = 0, rest = length; rest >= 1; bit++, rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) operator = multiply(POWERS[bit]!, operator);
  }
  if (length < CACHE.length) CACHE[length] = operator;
  return operator;
}

/** Product of two polynomials over GF(2) modulo Castagnoli's, in the reflected form (bit 31 is x^0). */
function multiply(a: number, b: number): number {
  let product = 0;
  for (let rest = a | 0, term = b; rest !== 0; rest <<= 1) {
    if (rest < 0) product ^= term;
    term = (term >>> 1) ^ (term & 1 ? POLYNOMIAL : 0);
  }
  return product >>> 0;
}

/** Secret of this process: nobody can prepare user keys or page keys that collide. */
const SECRET = randomBytes(8);
const K0 = SECRET.readInt32LE(0);
const K1 = SECRET.readInt32LE(4);

/**
 * Keyed 64-bit hash of bytes that can come in parts, after HalfSipHash-1-3. It replaces keys that are too many to be kept: two
 * different ones have the same hash with a probability of 2^-64 (2^-62 where a caller needs two bits).
 */
export class KeyHash {
  /** The result, after `end`. */
  low = 0;
  high = 0;
  #v0 = 0;
  #v1 = 0;
  #v2 = 0;
  #v3 = 0;
  /** Bytes that do not fill a word yet, and how many bits they have. */
  #word = 0;
  #bits = 0;
  #length = 0;

  begin(): void {
    this.#v0 = K0;
    this.#v1 = K1 ^ 0xee;
    this.#v2 = 0x6c796765 ^ K0;
    this.#v3 = 0x74656462 ^ K1;
    this.#word = this.#bits = this.#length = 0;
  }

  /** Adds `bytes` from offset `from` up to `to`. */
  update(bytes: Uint8Array, from: number, to: number): void {
    this.#length += to - from;
    let at = from;
    for (; this.#bits !== 0 && at < to; at++) this.#add(bytes[at]!);
    for (; at + 4 <= to; at += 4) {
      this.#mix(bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24));
    }
    for (; at < to; at++) this.#add(bytes[at]!);
  }

  /** Adds one of a sequence of keys: its length, then its bytes, filled up to words. */
  updateKey(bytes: Uint8Array, from: number, length: number): void {
    this.#mix(length);
    this.update(bytes, from, from + length);
    while (this.#bits !== 0) this.#add(0);
  }

  end(): void {
    this.#mix(this.#word | (this.#length << 24));
    this.#v2 ^= 0xee;
    for (let round = 0; round < 3; round++) this.#mix(0);
    this.low = (this.#v1 ^ this.#v3) >>> 0;
    this.#v1 ^= 0xdd;
    for (let round = 0; round < 3; round++) this.#mix(0);
    this.high = (this.#v1 ^ this.#v3) >>> 0;
  }

  #add(byte: number): void {
    this.#word |= byte << this.#bits;
    this.#bits += 8;
    if (this.#bits < 32) return;
    this.#mix(this.#word);
    this.#word = this.#bits = 0;
  }

  #mix(word: number): void {
    let v0 = this.#v0;
    let v1 = this.#v1;
    let v2 = this.#v2;
    let v3 = this.#v3 ^ word;
    v0 = (v0 + v1) | 0;
    v1 = rotate(v1, 5) ^ v0;
    v0 = rotate(v0, 16);
    v2 = (v2 + v3) | 0;
    v3 = rotate(v3, 8) ^ v2;
    v0 = (v0 + v3) | 0;
    v3 = rotate(v3, 7) ^ v0;
    v2 = (v2 + v1) | 0;
    v1 = rotate(v1, 13) ^ v2;
    v2 = rotate(v2, 16);
    this.#v0 = v0 ^ word;
    this.#v1 = v1;
    this.#v2 = v2;
    this.#v3 = v3;
  }
}

function rotate(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits));
}

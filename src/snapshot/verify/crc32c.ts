import { crc32c as native } from '@node-rs/crc32';

/** Castagnoli's polynomial with its bits reflected. */
const POLYNOMIAL = 0x82f63b78;

/** Lengths below this have their operator computed once; a leaf page's data is nearly always shorter. */
const CACHED_LENGTHS = 16_384;

/** `x^(8 * 2^k)` modulo the polynomial: what appending 2^k zero bytes does to a checksum. */
const POWERS = powers(32);
const CACHE = new Uint32Array(CACHED_LENGTHS);

/** CRC32C of `bytes`, or of everything before them and `bytes` when `before` is the CRC32C so far. */
export function crc32c(bytes: Uint8Array, before = 0): number {
  return native(bytes, before);
}

/**
 * CRC32C of A followed by B, from the checksum of each and the number of bytes in B (specification: one streaming pass,
 * crc32-combine). It is its own inverse: given the checksum of A and of A followed by B it yields that of B.
 */
export function combine(crcA: number, crcB: number, lengthB: number): number {
  return (multiply(operatorFor(lengthB), crcA) ^ crcB) >>> 0;
}

function operatorFor(length: number): number {
  if (length >= CACHED_LENGTHS) return computeOperator(length);
  const known = CACHE[length]!;
  if (known !== 0) return known;
  return (CACHE[length] = computeOperator(length));
}

function computeOperator(length: number): number {
  // Bit 31 is x^0: the reflected form of the polynomial 1.
  let operator = 0x8000_0000;
  for (let bit = 0, rest = length; rest >= 1; bit++, rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) operator = multiply(POWERS[bit]!, operator);
  }
  return operator >>> 0;
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

function powers(count: number): Uint32Array {
  const table = new Uint32Array(count);
  // x^8: the operator of one zero byte.
  table[0] = 0x0080_0000;
  for (let k = 1; k < count; k++) table[k] = multiply(table[k - 1]!, table[k - 1]!);
  return table;
}

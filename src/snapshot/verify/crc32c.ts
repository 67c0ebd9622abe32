import { crc32c as native } from '@node-rs/crc32';

/** Castagnoli's polynomial with its bits reflected. */
const POLYNOMIAL = 0x82f63b78;

/** Operators of lengths below this are computed once; the data of a leaf page is nearly always shorter. */
const CACHE = new Uint32Array(16_384);

/** `x^(8 * 2^k)` modulo the polynomial: what appending 2^k zero bytes does to a checksum. */
const POWERS = new Uint32Array(32);
POWERS[0] = 0x0080_0000;
for (let k = 1; k < POWERS.length; k++) POWERS[k] = multiply(POWERS[k - 1]!, POWERS[k - 1]!);

/** CRC32C of `bytes`, or of everything before them and `bytes` when `before` is the CRC32C of the former. */
export function crc32c(bytes: Uint8Array, before = 0): number {
  return native(bytes, before);
}

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

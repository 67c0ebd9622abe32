import { exactInteger, UnreadableValue } from './object-values.ts';

/** Eight or four bytes of a field with a fixed size. */
export class Fixed {
  readonly bytes: Buffer;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }
}

/** A value of a field: a varint, a bigint only where it is large; bytes with their length, or bytes of a fixed size. */
export type Wire = number | bigint | Buffer | Fixed;

const FIXED_SIZES: Readonly<Record<number, number>> = { 1: 8, 5: 4 };

/**
 * The values of a protobuf message by the numbers of their fields, in the order in which they come.
 * @throws UnreadableValue
 */
export function readFields(message: Buffer): Map<number, Wire[]> {
  const fields = new Map<number, Wire[]>();
  const reader = new WireReader(message);
  while (!reader.isAtEnd) {
    const tag = reader.varint();
    if (tag < 8 || tag > 0xffff_ffff) throw new UnreadableValue('is corrupt: a field has an invalid number');
    const value = reader.value(Number(tag) % 8);
    const number = Math.floor(Number(tag) / 8);
    const values = fields.get(number);
    if (values === undefined) fields.set(number, [value]);
    else values.push(value);
  }
  return fields;
}

class WireReader {
  readonly #message: Buffer;
  #at = 0;

  constructor(message: Buffer) {
    this.#message = message;
  }

  get isAtEnd(): boolean {
    return this.#at >= this.#message.length;
  }

  /** @param type of protobuf's wire format */
  value(type: number): Wire {
    if (type === 0) return this.varint();
    const size = type === 2 ? Number(this.varint()) : FIXED_SIZES[type];
    if (size === undefined) throw new UnreadableValue('is corrupt: a field has an invalid type');
    if (size > this.#message.length - this.#at) throw cut();
    this.#at += size;
    const bytes = this.#message.subarray(this.#at - size, this.#at);
    return type === 2 ? bytes : new Fixed(bytes);
  }

  varint(): number | bigint {
    let [low, scale] = [0, 1];
    // Seven bytes fit into a number.
    for (let count = 0; count < 7; count++, scale *= 128) {
      const byte = this.#byte();
      low += (byte & 0x7f) * scale;
      if (byte < 0x80) return low;
    }
    let value = BigInt(low);
    for (let shift = 49n; shift < 70n; shift += 7n) {
      const byte = this.#byte();
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return exactInteger(BigInt.asUintN(64, value));
    }
    throw new UnreadableValue('is corrupt: a number of a protobuf message is too long');
  }

  #byte(): number {
    const byte = this.#message[this.#at++];
    if (byte === undefined) throw cut();
    return byte;
  }
}

function cut(): UnreadableValue {
  return new UnreadableValue('is corrupt: a protobuf message ends too early');
}

import { UnreadableValue } from './object-values.ts';

/** Eight or four bytes of a field with a fixed size. */
export class Fixed {
  readonly bytes: Buffer;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }
}

/** A value of a field: a varint, bytes with their length, or bytes of a fixed size. */
export type Wire = bigint | Buffer | Fixed;

const FIXED_SIZES: Readonly<Record<number, number>> = { 1: 8, 5: 4 };

/**
 * The values of a protobuf message by the numbers of their fields, in the order in which they come.
 * @throws UnreadableValue
 */
export function readFields(message: Buffer): Map<number, Wire[]> {
  const fields = new Map<number, Wire[]>();
  let at = 0;
  const varint = (): bigint => {
    let [low, scale] = [0, 1];
    // Seven bytes fit into a number.
    for (let count = 0; count < 7; count++, scale *= 128) {
      const byte = message[at++];
      if (byte === undefined) throw cut();
      low += (byte & 0x7f) * scale;
      if (byte < 0x80) return BigInt(low);
    }
    let value = BigInt(low);
    for (let shift = 49n; shift < 70n; shift += 7n) {
      const byte = message[at++];
      if (byte === undefined) throw cut();
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asUintN(64, value);
    }
    throw new UnreadableValue('is corrupt: a number of a protobuf message is too long');
  };
  while (at < message.length) {
    const tag = varint();
    const [number, type] = [Number(tag >> 3n), Number(tag & 7n)];
    if (number === 0 || tag > 0xffff_ffffn) throw new UnreadableValue('is corrupt: a field has an invalid number');
    let value: Wire;
    if (type === 0) value = varint();
    else {
      const size = type === 2 ? Number(varint()) : FIXED_SIZES[type];
      if (size === undefined) throw new UnreadableValue('is corrupt: a field has an invalid type');
      if (size > message.length - at) throw cut();
      const bytes = message.subarray(at, at + size);
      value = type === 2 ? bytes : new Fixed(bytes);
      at += size;
    }
    const values = fields.get(number);
    if (values === undefined) fields.set(number, [value]);
    else values.push(value);
  }
  return fields;
}

function cut(): UnreadableValue {
  return new UnreadableValue('is corrupt: a protobuf message ends too early');
}

import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { openRegular } from '../files.ts';

/** Whose data a directory holds; ids are lower-case hex, as etcdctl prints them. */
export interface Identity {
  readonly memberId: string;
  readonly clusterId: string;
}

/** Bytes of the beginning of a WAL file; its first two records are much shorter. */
const HEAD = 4096;
/** Record types. */
const METADATA = 1n;

/** As the newest file of the write-ahead log says, each of which begins with it. Undefined where there is none, or where it cannot be read. */
export async function identityOf(memberDir: string): Promise<Identity | undefined> {
  try {
    const wal = join(memberDir, 'wal');
    const newest = (await readdir(wal))
      .filter((name) => name.endsWith('.wal'))
      .toSorted()
      .at(-1);
    if (newest === undefined) return undefined;
    const { file } = await openRegular(join(wal, newest), 'refuse');
    const { buffer, bytesRead } = await file.read(Buffer.alloc(HEAD), 0, HEAD, 0).finally(async () => file.close());
    return identityIn(buffer.subarray(0, bytesRead));
  } catch {
    return undefined;
  }
}

/** The frames of a WAL: eight bytes of length, of which the uppermost tells of padding, then the record. */
function identityIn(head: Buffer): Identity | undefined {
  for (let at = 0; at + 8 <= head.length;) {
    const length = Number(head.readBigUInt64LE(at) & 0x00ff_ffff_ffff_ffffn);
    const padding = head.readUInt8(at + 7) & 0x80 ? head.readUInt8(at + 7) & 7 : 0;
    const record = fieldsOf(head.subarray(at + 8, at + 8 + length));
    const data = record.get(3);
    if (record.get(1) === METADATA && Buffer.isBuffer(data)) {
      const [memberId, clusterId] = [fieldsOf(data).get(1), fieldsOf(data).get(2)];
      if (typeof memberId !== 'bigint' || typeof clusterId !== 'bigint') return undefined;
      return { memberId: memberId.toString(16), clusterId: clusterId.toString(16) };
    }
    at += 8 + length + padding;
  }
  return undefined;
}

/** Numbers and bytes of a flat protobuf message. */
function fieldsOf(message: Buffer): Map<number, bigint | Buffer> {
  const fields = new Map<number, bigint | Buffer>();
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = message.readUInt8(at++);
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80 || shift >= 63n) return value;
    }
  };
  while (at < message.length) {
    const tag = Number(varint());
    if ((tag & 7) === 0) fields.set(tag >> 3, varint());
    else if ((tag & 7) === 2) {
      const length = Number(varint());
      fields.set(tag >> 3, message.subarray(at, at + length));
      at += length;
    } else break;
  }
  return fields;
}

import { createHash, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** A snapshot of a real server, about 280 kB. */
export const SNAPSHOT = readFileSync(
  join(import.meta.dirname, '..', 'fixtures', 'etcd-snapshots', 'etcd-3.5.30-k8s.snap'),
);

/** The same without its sha256 trailer. */
export const DATABASE = SNAPSHOT.subarray(0, -32);

/**
 * A file of about `size` bytes that the checks of trailer, metas and length take for a snapshot: the real one's metas with
 * another high-water mark, and random pages.
 */
export function bigSnapshot(size: number): Buffer {
  const pages = Math.ceil(size / 4096);
  const database = randomBytes(pages * 4096);
  DATABASE.copy(database, 0, 0, 2 * 4096);
  for (const meta of [16, 4096 + 16]) {
    database.writeBigUInt64LE(BigInt(pages), meta + 40);
    database.writeBigUInt64LE(fnv64a(database.subarray(meta, meta + 56)), meta + 56);
  }
  return Buffer.concat([database, createHash('sha256').update(database).digest()]);
}

function fnv64a(bytes: Uint8Array): bigint {
  let hash = 0xcbf29ce484222325n;
  for (const byte of bytes) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  return hash;
}

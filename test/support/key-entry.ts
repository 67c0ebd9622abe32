import { directoryOf } from '../../src/objects/identity.ts';
import type { KeyEntry } from '../../src/snapshot/keys.ts';

/** An entry of a snapshot as its reader shows it. @param value undefined for a tombstone */
export function keyEntry(key: string | Buffer, value: Buffer | undefined, main: number): KeyEntry {
  const [bytes, stored] = [Buffer.from(key), value ?? Buffer.alloc(0)];
  return {
    ...{
      key: bytes,
      keyText: bytes.toString('latin1'),
      directoryText: directoryOf(bytes.toString('latin1')),
      value: stored,
      valueSize: stored.length,
    },
    ...{ isTombstone: value === undefined, main, sub: 0, version: 1, recordSize: 0 },
    valueStartsWith: (beginning) => stored.subarray(0, beginning.length).equals(beginning),
  };
}

/** Just enough of bbolt's format to damage snapshots on purpose and to build odd ones. */

/** The page size unless told otherwise. */
export const PAGE = 4096;
export const BRANCH = 1;
export const LEAF = 2;

const fnv64a = (bytes: Uint8Array): bigint =>
  bytes.reduce((hash, byte) => BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n), 0xcbf29ce484222325n);

/** Offsets of meta fields in their page. */
export const META = { pageSize: 24, root: 32, freelist: 48, highWaterMark: 56, txid: 64 } as const;

/** Puts the right checksum into a meta page. */
export function sealMeta(database: Buffer, page: 0 | 1, pageSize = PAGE): void {
  const at = page * pageSize + 16;
  database.writeBigUInt64LE(fnv64a(database.subarray(at, at + 56)), at + 56);
}

/** Changes a 64-bit field of both metas. */
export function setMeta(database: Buffer, field: keyof typeof META, value: bigint, pageSize = PAGE): void {
  for (const page of [0, 1] as const) {
    const at = page * pageSize + META[field];
    if (field === 'pageSize') database.writeUInt32LE(Number(BigInt.asUintN(32, value)), at);
    else database.writeBigUInt64LE(BigInt.asUintN(64, field === 'txid' ? value - BigInt(page) : value), at);
    sealMeta(database, page, pageSize);
  }
}

export const rootOf = (database: Buffer): number => Number(database.readBigUInt64LE(META.root));

export interface Entry {
  readonly key: Uint8Array;
  readonly value?: Uint8Array;
  /** The element's flags, 0 unless told. */
  readonly flags?: number;
  /** In a branch. */
  readonly child?: number;
}

/** A run of a branch or leaf as bbolt would write it. */
export function run(id: number, kind: typeof BRANCH | typeof LEAF, entries: readonly Entry[], pageSize = PAGE): Buffer {
  const table = 16 + 16 * entries.length;
  const data = Buffer.concat(entries.flatMap(({ key, value = Buffer.alloc(0) }) => [key, value]));
  const needed = Math.ceil((table + data.length) / pageSize);
  const bytes = Buffer.alloc(needed * pageSize);
  bytes.writeBigUInt64LE(BigInt(id), 0);
  bytes.writeUInt16LE(kind, 8);
  bytes.writeUInt16LE(entries.length, 10);
  bytes.writeUInt32LE(needed - 1, 12);
  let at = table;
  entries.forEach(({ key, value = Buffer.alloc(0), flags = 0, child = 0 }, i) => {
    const element = 16 + 16 * i;
    if (kind === BRANCH) {
      bytes.writeUInt32LE(at - element, element);
      bytes.writeUInt32LE(key.length, element + 4);
      bytes.writeBigUInt64LE(BigInt(child), element + 8);
    } else {
      bytes.writeUInt32LE(flags, element);
      bytes.writeUInt32LE(at - element, element + 4);
      bytes.writeUInt32LE(key.length, element + 8);
      bytes.writeUInt32LE(value.length, element + 12);
    }
    at += key.length + value.length;
  });
  data.copy(bytes, table);
  return bytes;
}

/** The value of a bucket's entry: its header, and the image of its page when it is inline. */
export function bucket(root: number, entries?: readonly Entry[]): Buffer {
  const header = Buffer.alloc(16);
  header.writeBigUInt64LE(BigInt(root), 0);
  if (entries === undefined) return header;
  const used = 16 + entries.reduce((sum, { key, value }) => sum + 16 + key.length + (value?.length ?? 0), 0);
  const image = run(0, LEAF, entries).subarray(0, used);
  image.writeUInt32LE(0, 12);
  return Buffer.concat([header, image]);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return Buffer.from([...bytes, rest]);
    bytes.push((rest % 128) + 128);
  }
}

/** An entry of the `key` bucket at a revision; without a value it is a tombstone. */
export function revision(main: number, sub: number, key: string, value?: Uint8Array): Entry {
  const name = Buffer.alloc(value === undefined ? 18 : 17, 't');
  name.writeBigUInt64BE(BigInt(main), 0);
  name.write('_', 8);
  name.writeBigUInt64BE(BigInt(sub), 9);
  const field1 = Buffer.concat([varint(10), varint(key.length), Buffer.from(key)]);
  if (value === undefined) return { key: name, value: field1 };
  const numbers = [2, 3, 4].map((field) => Buffer.concat([varint(8 * field), varint(field === 4 ? 1 : main)]));
  return { key: name, value: Buffer.concat([field1, ...numbers, varint(42), varint(value.length), value]) };
}

export const BUCKETS = [
  'alarm',
  'auth',
  'authRoles',
  'authUsers',
  'cluster',
  'key',
  'lease',
  'members',
  'members_removed',
  'meta',
] as const;

/** The root leaf's entries: inline buckets, all empty unless told otherwise. */
export function rootEntries(values: Partial<Record<string, Buffer>> = {}): Entry[] {
  const names = [...new Set([...BUCKETS, ...Object.keys(values)])].toSorted((a, b) => (a < b ? -1 : 1));
  return names.map((name) => ({ key: Buffer.from(name), value: values[name] ?? bucket(0, []), flags: 1 }));
}

/** A database of two metas and runs, which lie one after another from page 2 on; no freelist is stored. */
export function database(root: number, runs: readonly Buffer[], pageSize = PAGE): Buffer {
  const bytes = Buffer.concat([Buffer.alloc(2 * pageSize), ...runs]);
  for (const page of [0, 1] as const) {
    const at = page * pageSize;
    bytes.writeBigUInt64LE(BigInt(page), at);
    bytes.writeUInt16LE(4, at + 8);
    bytes.writeUInt32LE(0xed0cdaed, at + 16);
    bytes.writeUInt32LE(2, at + 20);
  }
  setMeta(bytes, 'pageSize', BigInt(pageSize), pageSize);
  setMeta(bytes, 'root', BigInt(root), pageSize);
  setMeta(bytes, 'freelist', 2n ** 64n - 1n, pageSize);
  setMeta(bytes, 'highWaterMark', BigInt(bytes.length / pageSize), pageSize);
  setMeta(bytes, 'txid', 7n, pageSize);
  return bytes;
}

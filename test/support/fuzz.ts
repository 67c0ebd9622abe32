import { BRANCH, LEAF, META, PAGE, rootOf, sealMeta, setMeta } from './bbolt.ts';
import { Random } from './random.ts';
import { seal } from './vectors.ts';

/** Changes a database in place, or returns another one; `undefined` when it found nothing to change. */
type Mutator = (database: Buffer, random: Random) => Buffer | void;

const pagesOf = (database: Buffer): number => Math.floor(database.length / PAGE);

/** Offset of a page that looks like a branch or leaf, of one of the last ones more often, where live ones tend to be. */
function treePage(database: Buffer, random: Random, kind?: number): number | undefined {
  for (let tries = 0; tries < 50; tries++) {
    const at = (2 + random.below(pagesOf(database) - 2)) * PAGE;
    const flags = database.readUInt16LE(at + 8);
    if (kind === undefined ? flags === BRANCH || flags === LEAF : flags === kind) return at;
  }
  return undefined;
}

function number(random: Random, limit: number): number {
  return random.of([
    0,
    1,
    2,
    3,
    random.below(limit + 2),
    random.below(65_536),
    0x7fff_ffff,
    0xffff_ffff,
    limit,
    limit - 1,
  ]);
}

function element(database: Buffer, at: number, random: Random): number {
  const count = Math.max(1, Math.min(database.readUInt16LE(at + 10), 255));
  return at + 16 + 16 * random.below(count);
}

const MUTATORS: Readonly<Record<string, Mutator>> = {
  bits(database, random) {
    for (let i = 0; i <= random.below(3); i++) {
      const at = random.below(database.length);
      database[at] = (database[at] ?? 0) ^ (1 << random.below(8));
    }
  },
  'bits of a header or table'(database, random) {
    const page = treePage(database, random);
    if (page === undefined) return;
    const at = page + random.below(16 + 16 * Math.min(255, database.readUInt16LE(page + 10)));
    database[at] = (database[at] ?? 0) ^ (1 << random.below(8));
  },
  'page header'(database, random) {
    const page = treePage(database, random);
    if (page === undefined) return;
    const value = number(random, pagesOf(database));
    random.of([
      () => database.writeBigUInt64LE(BigInt(value), page),
      () => database.writeUInt16LE(random.of([0, 1, 2, 3, 4, 0x10, value & 0xffff]), page + 8),
      () => database.writeUInt16LE(value & 0xffff, page + 10),
      () => database.writeUInt16LE((database.readUInt16LE(page + 10) + random.of([1, 0xffff])) & 0xffff, page + 10),
      () => database.writeUInt32LE(value, page + 12),
      () => database.writeUInt32LE(1 + random.below(3), page + 12),
    ])();
  },
  'element field'(database, random) {
    const page = treePage(database, random);
    if (page === undefined) return;
    const at = element(database, page, random) + 4 * random.below(4);
    const old = database.readUInt32LE(at);
    const value = random.of([number(random, pagesOf(database)), old + 1, old - 1, old + 17, old * 2]);
    database.writeUInt32LE(value >>> 0, at);
  },
  'two elements swapped'(database, random) {
    const page = treePage(database, random);
    if (page === undefined) return;
    const [a, b] = [element(database, page, random), element(database, page, random)];
    const first = Buffer.from(database.subarray(a, a + 16));
    database.copy(database, a, b, b + 16);
    first.copy(database, b);
  },
  'a key byte'(database, random) {
    const page = treePage(database, random);
    if (page === undefined) return;
    const isBranch = database.readUInt16LE(page + 8) === BRANCH;
    const at = element(database, page, random);
    const key = at + database.readUInt32LE(at + (isBranch ? 0 : 4)) + random.below(18);
    if (key < database.length) database[key] = random.of([0, 1, 0x5f, 0x74, 0xff, (database[key] ?? 0) + 1]);
  },
  'a child'(database, random) {
    const page = treePage(database, random, BRANCH);
    if (page === undefined) return;
    const value = random.of([page / PAGE, rootOf(database), number(random, pagesOf(database))]);
    database.writeBigUInt64LE(BigInt(value), element(database, page, random) + 8);
  },
  'two pages swapped'(database, random) {
    const [a, b] = [treePage(database, random), treePage(database, random)];
    if (a === undefined || b === undefined) return;
    const first = Buffer.from(database.subarray(a, a + PAGE));
    database.copy(database, a, b, b + PAGE);
    first.copy(database, b);
    if (random.below(2) === 0) return;
    database.writeBigUInt64LE(BigInt(a / PAGE), a);
    database.writeBigUInt64LE(BigInt(b / PAGE), b);
  },
  'a page over another'(database, random) {
    const [a, b] = [treePage(database, random), treePage(database, random)];
    if (a === undefined || b === undefined) return;
    database.copy(database, a, b, b + PAGE);
    if (random.below(3) > 0) database.writeBigUInt64LE(BigInt(a / PAGE), a);
  },
  'a page lost'(database, random) {
    const at = (2 + random.below(pagesOf(database) - 2)) * PAGE;
    const from = at + 512 * random.below(8);
    database.subarray(from, from + 512 * (1 + random.below(8))).fill(random.of([0, 0, 0xff]));
  },
  'both metas'(database, random) {
    const pages = pagesOf(database);
    const field = random.of(['root', 'freelist', 'highWaterMark', 'txid', 'pageSize'] as const);
    const value = field === 'pageSize' ? random.of([0, 512, 1024, 8192, 65_536, 2 ** 25, 4095]) : number(random, pages);
    setMeta(database, field, BigInt(value));
  },
  'bits of the metas'(database, random) {
    const at = random.below(2 * PAGE) % (random.of([1, 2]) * 100);
    database[at] = (database[at] ?? 0) ^ (1 << random.below(8));
  },
  'the root page'(database, random) {
    const at = rootOf(database) * PAGE + random.below(1024);
    if (at < database.length)
      database[at] = random.of([0, 1, 2, 0xff, (database[at] ?? 0) + 1, (database[at] ?? 0) ^ 0x80]);
  },
  'a stored freelist'(database, random) {
    const page = 2 + random.below(pagesOf(database) - 2);
    const count = random.of([0, 1, random.below(500), 0xffff]);
    database.fill(0, page * PAGE, (page + 1) * PAGE);
    database.writeBigUInt64LE(BigInt(page), page * PAGE);
    database.writeUInt16LE(0x10, page * PAGE + 8);
    database.writeUInt16LE(count, page * PAGE + 10);
    for (let i = 0; i < Math.min(count, 500); i++) {
      database.writeBigUInt64LE(BigInt(random.below(pagesOf(database) + 1)), page * PAGE + 16 + 8 * i);
    }
    setMeta(database, 'freelist', BigInt(page));
  },
  truncated(database, random) {
    const unit = random.of([1, 32, 512, PAGE]);
    return database.subarray(0, Math.max(0, database.length - unit * (1 + random.below(4))));
  },
  extended(database, random) {
    const more = random.of([1, 512, PAGE, 2 * PAGE]);
    const bytes = Buffer.concat([database, random.below(2) === 0 ? Buffer.alloc(more) : random.bytes(more)]);
    if (more >= PAGE && random.below(2) === 0) setMeta(bytes, 'highWaterMark', BigInt(pagesOf(bytes)));
    return bytes;
  },
  'a piece lost or twice'(database, random) {
    const at = 32_768 * random.below(Math.ceil(database.length / 32_768));
    const from = random.below(2) === 0 ? at : Math.min(at + 32_768, database.length);
    return Buffer.concat([database.subarray(0, from), database.subarray(from === at ? at + 32_768 : at)]);
  },
};

/** What can happen to a database that is no snapshot: its meta pages differ, and may go on behind its last page. */
const DATABASE_MUTATORS: Readonly<Record<string, Mutator>> = {
  ...MUTATORS,
  'one meta'(database, random) {
    const page = random.of([0, 1] as const);
    const field = random.of(['root', 'freelist', 'highWaterMark', 'txid'] as const);
    const at = page * PAGE + META[field];
    const old = database.readBigUInt64LE(at);
    const value = random.of([BigInt(number(random, pagesOf(database))), old + 1n, old - 1n, 2n ** 64n - 1n]);
    database.writeBigUInt64LE(BigInt.asUintN(64, value), at);
    sealMeta(database, page);
  },
  'the other meta'(database) {
    for (const page of [0, 1] as const) {
      const at = page * PAGE + META.txid;
      database.writeBigUInt64LE(BigInt.asUintN(64, database.readBigUInt64LE(at) ^ 1n), at);
      sealMeta(database, page);
    }
  },
  'one meta lost'(database, random) {
    const at = random.below(2) * PAGE;
    const [from, to] = random.of([
      [at, at + PAGE],
      [at + 16, at + 80],
      [at, at + 512],
      [at + 72, at + 80],
      [at + 79, at + 80],
      [at + 80, at + PAGE],
    ] as const);
    database.fill(random.of([0, 0xff]), from, to);
  },
  'bits of one meta'(database, random) {
    const at = random.below(2) * PAGE + random.below(100);
    database[at] = (database[at] ?? 0) ^ (1 << random.below(8));
  },
  'behind the end'(database, random) {
    return Buffer.concat([database, random.bytes(random.of([1, 32, 512, 544, PAGE, 10 * PAGE]))]);
  },
  'a page of another time'(database, random) {
    const at = treePage(database, random);
    if (at === undefined) return;
    // The same page number with the content of another page, as when it was used again while the file was copied.
    const from = treePage(database, random, database.readUInt16LE(at + 8));
    if (from === undefined) return;
    database.copy(database, at, from, from + PAGE);
    database.writeBigUInt64LE(BigInt(at / PAGE), at);
  },
};

export interface Fuzzed {
  readonly what: string;
  readonly bytes: Buffer;
}

/** The mutation of a sound snapshot that belongs to `seed`. */
export function fuzz(snapshot: Buffer, seed: number): Fuzzed {
  const random = new Random(seed);
  const { bytes, names } = mutated(snapshot.subarray(0, -32), random, MUTATORS);
  const isSealed = random.below(50) > 0;
  return {
    what: `seed ${seed}: ${names}${isSealed ? '' : ', old trailer'}`,
    bytes: isSealed ? seal(bytes) : Buffer.concat([bytes, snapshot.subarray(-32)]),
  };
}

/** The mutation of a copy of a member's database that belongs to `seed`. */
export function fuzzDatabase(database: Buffer, seed: number): Fuzzed {
  const { bytes, names } = mutated(database, new Random(seed), DATABASE_MUTATORS);
  return { what: `database, seed ${seed}: ${names}`, bytes };
}

function mutated(
  original: Buffer,
  random: Random,
  mutators: Readonly<Record<string, Mutator>>,
): { bytes: Buffer; names: string } {
  let bytes = Buffer.from(original);
  const names: string[] = [];
  for (let i = random.of([1, 1, 1, 2, 3]); i > 0 && bytes.length > 4 * PAGE; i--) {
    const name = random.of(Object.keys(mutators));
    bytes = Buffer.from(mutators[name]?.(bytes, random) ?? bytes);
    names.push(name);
  }
  return { bytes, names: names.join(', ') };
}

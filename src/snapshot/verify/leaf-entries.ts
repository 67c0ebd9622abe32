import { type Budget, Table } from './memory-budget.ts';
import { MessageScanner } from './protobuf.ts';

/** What the keys of a leaf look like, judged by its first one. */
const NAMES = 0;
export const REVISIONS = 1;
export const LEASES = 2;

/** What is wrong with the keys and values of a leaf of revisions or leases, by number; 0 is nothing. */
export const ENTRY_PROBLEMS = [
  '',
  'has a key that is not a revision',
  'has a value that is not a key-value record',
  'has a record with another mod_revision than its key',
  'has a tombstone with a value',
  'has an entry that is not a lease',
] as const;
const NO_REVISION = 1;
const NO_RECORD = 2;
const MOD_REVISION = 3;
const NO_TOMBSTONE = 4;
const NO_LEASE = 5;

/** Words of an entry: the hash of its user key, the last two bits of which are the flags below. */
const ENTRY_WORDS = 2;
const TOMBSTONE = 1;
/** A later entry has the same user key. */
const SUPERSEDED = 2;
/** Words for HashKV: CRC32C of the leaf's data up to the end of the entry, low half of its main revision, size of its value. */
export const SUM_WORDS = 3;

/**
 * HashKV needs a call for the sum of each entry, which costs more than all else if entries are small. It is dropped in a
 * database of many entries that have fewer bytes than this on average; those of Kubernetes have more.
 */
const MANY_ENTRIES = 131_072;
const SMALL_ENTRY = 512;

/** Bytes of a key of the `key` bucket: revision of a put, and of a tombstone. */
export const REVISION_SIZE = 17;
export const TOMBSTONE_SIZE = 18;
const LEASE_KEY_SIZE = 8;
const UNDERSCORE = 0x5f;
const TOMBSTONE_MARK = 0x74;

/** Fields of mvccpb.KeyValue: 1 key, 2 create_revision, 3 mod_revision, 4 version, 5 value, 6 lease; as bits. */
const KEY_VALUE_FIELDS = 0b111_1110;
const KEY_FIELD = 0b10;
const BYTES_FIELDS = 0b10_0010;
const NUMBER_FIELDS = 0b101_1100;
const MOD_REVISION_FIELD = 3;
/** Fields of leasepb.Lease: 1 ID, 2 TTL, 3 RemainingTTL, all numbers. */
const LEASE_FIELDS = 0b1110;
const LEASE_ID_FIELD = 0b10;

/**
 * The entries of all leaves of revisions, by a number each; those of a leaf are consecutive. None is needed for the verdict: when
 * the memory is needed, the sums (for HashKV) are dropped first, then the entries (for live keys).
 */
export class EntryColumns {
  /** Whether live keys can still be counted. */
  live = true;
  /** Whether HashKV can still be computed. */
  sums = true;
  readonly #entries: Table;
  readonly #sums: Table;
  #bytes = 0;

  constructor(budget: Budget) {
    this.#entries = new Table(budget, ENTRY_WORDS);
    this.#sums = new Table(budget, SUM_WORDS);
    budget.onFull(() => this.#drop());
  }

  /** Keeps the entries of a leaf with `bytes` of data, if there is room; returns the number of the first. */
  append(leaf: EntryReader, count: number, bytes: number): number {
    const first = this.#entries.length;
    this.#bytes += bytes;
    if (this.sums && first > MANY_ENTRIES && this.#bytes < first * SMALL_ENTRY) this.#drop();
    if (this.live) this.#entries.append(leaf.entries, count);
    if (this.sums) this.#sums.append(leaf.sums, count);
    return first;
  }

  /** The two halves of the hash of an entry's user key, the high one with flags in its last two bits. */
  low(entry: number): number {
    return this.#entries.get(entry, 0);
  }
  high(entry: number): number {
    return this.#entries.get(entry, 1);
  }
  hasKey(entry: number, low: number, high: number): boolean {
    return this.low(entry) === low && ((this.high(entry) ^ high) & ~(TOMBSTONE | SUPERSEDED)) === 0;
  }
  isTombstone(entry: number): boolean {
    return (this.high(entry) & TOMBSTONE) !== 0;
  }
  supersede(entry: number): void {
    this.#entries.set(entry, 1, this.high(entry) | SUPERSEDED);
  }
  isSuperseded(entry: number): boolean {
    return (this.high(entry) & SUPERSEDED) !== 0;
  }

  sum(entry: number): number {
    return this.#sums.get(entry, 0);
  }
  mainLow(entry: number): number {
    return this.#sums.get(entry, 1);
  }
  valueSize(entry: number): number {
    return this.#sums.get(entry, 2);
  }

  #drop(): boolean {
    if (this.sums) {
      this.sums = false;
      this.#sums.close();
    } else if (this.live) {
      this.live = false;
      this.#entries.close();
    } else return false;
    return true;
  }
}

/**
 * Reads the entries of one leaf of revisions or leases as their bytes pass (specification: content): judges them and
 * collects what `columns` can keep. Its results are valid until `begin`.
 */
export class EntryReader {
  kind = NAMES;
  problem = 0;
  entries = new Uint32Array(0);
  sums = new Uint32Array(0);

  readonly #columns: EntryColumns;
  readonly #record = new MessageScanner();
  #main = 0;
  #isTombstone = false;

  constructor(columns: EntryColumns) {
    this.#columns = columns;
  }

  /** Whether a leaf whose first key has `keySize` bytes can have entries that are read here. */
  static canRead(keySize: number): boolean {
    return keySize === REVISION_SIZE || keySize === TOMBSTONE_SIZE || keySize === LEASE_KEY_SIZE;
  }

  begin(): void {
    this.kind = NAMES;
    this.problem = 0;
  }

  /** The key of element `index`, one of `count`. */
  key(bytes: Buffer, at: number, size: number, index: number, count: number): void {
    if (index === 0) this.#firstKey(bytes, at, size, count);
    if (this.kind === NAMES) return;
    const isValid = this.kind === LEASES ? size === LEASE_KEY_SIZE : isRevision(bytes, at, size);
    if (!isValid) return this.#fail(this.kind === LEASES ? NO_LEASE : NO_REVISION);
    this.#record.begin(this.#columns.live && this.kind === REVISIONS);
    if (this.kind === LEASES) return;
    this.#main = bytes.readUInt32BE(at) * 2 ** 32 + bytes.readUInt32BE(at + 4);
    this.#isTombstone = size === TOMBSTONE_SIZE;
  }

  /** Bytes of the current value. */
  value(bytes: Buffer, from: number, to: number): void {
    if (this.kind !== NAMES) this.#record.feed(bytes, from, to);
  }

  /** The end of the value of element `index`, of `size` bytes; true when `sums` needs the sum up to here. */
  end(index: number, size: number): boolean {
    if (this.kind === NAMES) return false;
    const problem = this.kind === LEASES ? this.#judgeLease() : this.#judgeRecord(size);
    if (problem !== 0) this.#fail(problem);
    if (this.kind !== REVISIONS || !this.#columns.live) return false;
    const { first } = this.#record;
    // The entry with which a restore raises the revision has no record: its user key is the empty one, with hash 0.
    const hasRecord = size > 0;
    if (hasRecord) first.end();
    this.entries[ENTRY_WORDS * index] = hasRecord ? first.low : 0;
    this.entries[ENTRY_WORDS * index + 1] = hasRecord ? (first.high << 2) | (this.#isTombstone ? TOMBSTONE : 0) : 0;
    this.sums[SUM_WORDS * index + 1] = this.#main;
    this.sums[SUM_WORDS * index + 2] = size;
    return this.#columns.sums;
  }

  #firstKey(bytes: Buffer, at: number, size: number, count: number): void {
    if (size === LEASE_KEY_SIZE) this.kind = LEASES;
    if (!isRevision(bytes, at, size)) return;
    this.kind = REVISIONS;
    if (this.entries.length >= ENTRY_WORDS * count) return;
    this.entries = new Uint32Array(ENTRY_WORDS * count);
    this.sums = new Uint32Array(SUM_WORDS * count);
  }

  #judgeRecord(size: number): number {
    if (size === 0 && !this.#isTombstone) return 0;
    const record = this.#record;
    const numbers = record.numberFields & KEY_VALUE_FIELDS;
    const strings = record.bytesFields & KEY_VALUE_FIELDS;
    if (!record.end() || (record.otherFields & KEY_VALUE_FIELDS) !== 0 || record.firstLength === 0) return NO_RECORD;
    if (this.#isTombstone) return numbers === 0 && strings === KEY_FIELD ? 0 : NO_TOMBSTONE;
    if ((numbers & ~NUMBER_FIELDS) !== 0 || (strings & ~BYTES_FIELDS) !== 0) return NO_RECORD;
    return record.number(MOD_REVISION_FIELD) === this.#main ? 0 : MOD_REVISION;
  }

  #judgeLease(): number {
    const { numberFields, bytesFields, otherFields } = this.#record;
    const isLease = this.#record.end() && (numberFields & LEASE_ID_FIELD) !== 0;
    return isLease && ((bytesFields | otherFields) & LEASE_FIELDS) === 0 ? 0 : NO_LEASE;
  }

  /** The first problem is kept; the structure of the leaf is read on without its entries. */
  #fail(problem: number): void {
    this.problem = problem;
    this.kind = NAMES;
  }
}

/**
 * A key of the `key` bucket: main and sub revision, big-endian and not negative, and perhaps the mark of a tombstone. A main
 * revision that a number cannot hold exactly, which no etcd reaches, is not a revision.
 */
function isRevision(bytes: Buffer, at: number, size: number): boolean {
  if (size !== REVISION_SIZE && (size !== TOMBSTONE_SIZE || bytes[at + 17] !== TOMBSTONE_MARK)) return false;
  return bytes[at + 8] === UNDERSCORE && bytes[at] === 0 && bytes[at + 1]! < 0x20 && bytes[at + 9]! < 0x80;
}

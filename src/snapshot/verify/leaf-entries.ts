import { KeyHash } from './hash-kv.ts';
import { type FirstField, MessageScanner } from './protobuf.ts';
import { RESOURCE_HEAD, type Resources } from './resources.ts';

/** What the keys of a leaf look like, judged by its first one. */
const NAMES = 0;
export const REVISIONS = 1;
export const LEASES = 2;

/** What is wrong with the keys and values of a leaf of revisions or leases, by number; 0 is nothing. */
export const ENTRY_PROBLEMS = [
  '',
  'has a key that is no revision',
  'has a value that is no key-value record',
  'has a record whose mod_revision is not that of its key',
  'has a tombstone that is none',
  'has an entry that is no lease',
] as const;
const NO_REVISION = 1;
const NO_RECORD = 2;
const MOD_REVISION = 3;
const NO_TOMBSTONE = 4;
const NO_LEASE = 5;

/** Words of an entry: the hash of its user key, the last bit set for a tombstone. */
export const ENTRY_WORDS = 2;
/** Words of its resource: number, and bytes of the record. */
export const RESOURCE_WORDS = 2;
/** Words of its sum, for HashKV: CRC32C of the leaf's data up to its end, and the low half of its main revision. */
export const SUM_WORDS = 2;

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

/** What is still worth collecting of the entries; each is given up before the one above. */
export interface Tracking {
  readonly live: boolean;
  readonly resources: boolean;
  readonly sums: boolean;
}

/**
 * Reads the entries of one leaf of revisions or leases as their bytes pass (specification: content): judges them and
 * collects what is needed to count live keys. Its stores are valid until `begin`.
 */
export class EntryReader implements FirstField {
  kind = NAMES;
  problem = 0;
  entries = new Uint32Array(0);
  resources = new Uint32Array(0);
  sums = new Uint32Array(0);

  readonly #tracking: Tracking;
  readonly #names: Resources;
  readonly #record = new MessageScanner(this);
  readonly #userKey = new KeyHash();
  /** The start of a user key that comes in parts. */
  readonly #head = Buffer.alloc(RESOURCE_HEAD);
  #headLength = 0;
  #userKeyLength = 0;
  #userKeyLeft = 0;
  #resource = 0;
  #mainHigh = 0;
  #mainLow = 0;
  #isTombstone = false;

  constructor(tracking: Tracking, names: Resources) {
    this.#tracking = tracking;
    this.#names = names;
  }

  /** Whether a leaf whose first key has `keySize` bytes may have entries that are read here. */
  static mayRead(keySize: number): boolean {
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
    this.#record.begin();
    if (this.kind === LEASES) {
      if (size !== LEASE_KEY_SIZE) this.#fault(NO_LEASE);
      return;
    }
    if (!isRevision(bytes, at, size)) return this.#fault(NO_REVISION);
    this.#mainHigh = bytes.readUInt32BE(at);
    this.#mainLow = bytes.readUInt32BE(at + 4);
    this.#isTombstone = size === TOMBSTONE_SIZE;
    this.#userKeyLength = 0;
  }

  /** The next bytes of the current value. */
  value(bytes: Buffer, from: number, to: number): void {
    if (this.kind !== NAMES) this.#record.feed(bytes, from, to);
  }

  /** The end of the value of element `index`, of `size` bytes; true when `sums` wants to know the sum up to here. */
  end(index: number, size: number): boolean {
    if (this.kind === NAMES) return false;
    this.problem = this.kind === LEASES ? this.#judgeLease() : this.#judgeRecord(size);
    if (this.problem !== 0) this.kind = NAMES;
    if (this.kind !== REVISIONS || !this.#tracking.live) return false;
    // The entry that a restore adds to raise the revision has no record: its user key is the empty one, with hash 0.
    const isBump = size === 0;
    if (!isBump) this.#userKey.end();
    this.entries[ENTRY_WORDS * index] = isBump ? 0 : this.#userKey.low;
    this.entries[ENTRY_WORDS * index + 1] = isBump ? 0 : (this.#userKey.high << 1) | Number(this.#isTombstone);
    if (!this.#tracking.resources) return false;
    this.resources[RESOURCE_WORDS * index] = isBump ? 0 : this.#resource;
    this.resources[RESOURCE_WORDS * index + 1] = size;
    this.sums[SUM_WORDS * index + 1] = this.#mainLow;
    return this.#tracking.sums;
  }

  /** Field 1 of a record: the user key. */
  beginFirst(length: number): void {
    this.#userKeyLength = this.#userKeyLeft = length;
    this.#headLength = 0;
    if (this.#tracking.live) this.#userKey.begin();
  }

  partOfFirst(bytes: Buffer, from: number, to: number): void {
    if (!this.#tracking.live || this.kind !== REVISIONS) return;
    this.#userKey.update(bytes, from, to);
    if (!this.#tracking.resources) return;
    if (to - from === this.#userKeyLength) {
      this.#resource = this.#names.classify(bytes, from, to);
      return;
    }
    this.#headLength += bytes.copy(this.#head, this.#headLength, from, to);
    this.#userKeyLeft -= to - from;
    if (this.#userKeyLeft === 0) this.#resource = this.#names.classify(this.#head, 0, this.#headLength);
  }

  #firstKey(bytes: Buffer, at: number, size: number, count: number): void {
    if (size === LEASE_KEY_SIZE) this.kind = LEASES;
    if (!isRevision(bytes, at, size)) return;
    this.kind = REVISIONS;
    if (this.entries.length >= ENTRY_WORDS * count) return;
    this.entries = new Uint32Array(ENTRY_WORDS * count);
    this.resources = new Uint32Array(RESOURCE_WORDS * count);
    this.sums = new Uint32Array(SUM_WORDS * count);
  }

  #judgeRecord(size: number): number {
    if (size === 0 && !this.#isTombstone) return 0;
    const record = this.#record;
    const numbers = record.numberFields & KEY_VALUE_FIELDS;
    const strings = record.bytesFields & KEY_VALUE_FIELDS;
    if (!record.end() || (record.otherFields & KEY_VALUE_FIELDS) !== 0 || this.#userKeyLength === 0) return NO_RECORD;
    if (this.#isTombstone) return numbers === 0 && strings === KEY_FIELD ? 0 : NO_TOMBSTONE;
    if ((numbers & ~NUMBER_FIELDS) !== 0 || (strings & ~BYTES_FIELDS) !== 0) return NO_RECORD;
    const main = this.#mainHigh * 2 ** 32 + this.#mainLow;
    return record.number(MOD_REVISION_FIELD) === main ? 0 : MOD_REVISION;
  }

  #judgeLease(): number {
    const { numberFields, bytesFields, otherFields } = this.#record;
    const isLease = this.#record.end() && (numberFields & LEASE_ID_FIELD) !== 0;
    return isLease && ((bytesFields | otherFields) & LEASE_FIELDS) === 0 ? 0 : NO_LEASE;
  }

  /** The first problem is kept; the structure of the leaf is read on without its entries. */
  #fault(problem: number): void {
    this.problem = problem;
    this.kind = NAMES;
  }
}

/**
 * A key of the `key` bucket: main and sub revision, big-endian and not negative, and perhaps the mark of a tombstone. A main
 * revision that a number cannot hold exactly, which no etcd reaches, is none.
 */
function isRevision(bytes: Buffer, at: number, size: number): boolean {
  if (size !== REVISION_SIZE && (size !== TOMBSTONE_SIZE || bytes[at + 17] !== TOMBSTONE_MARK)) return false;
  return bytes[at + 8] === UNDERSCORE && bytes[at] === 0 && bytes[at + 1]! < 0x20 && bytes[at + 9]! < 0x80;
}

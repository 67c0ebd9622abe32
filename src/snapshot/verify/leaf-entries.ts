import { KeyHash } from './checksums.ts';
import { ENTRY_WORDS, type EntryColumns, REVISION_SIZE, SUM_WORDS, TOMBSTONE, TOMBSTONE_SIZE } from './live-keys.ts';

/** What the keys of a leaf look like, judged by its first one. Names are all that are nothing else. */
const NAMES = 0;
export const REVISIONS = 1;
export const LEASES = 2;

const LEASE_KEY_SIZE = 8;
const UNDERSCORE = 0x5f;
const TOMBSTONE_MARK = 0x74;

/** Wire types of protobuf. */
const VARINT = 0;
const FIXED_64 = 1;
const DELIMITED = 2;
const FIXED_32 = 5;

/** Wire types of the fields of a message, by field number; other fields are skipped, as a later etcd can add some. */
type Fields = readonly (number | undefined)[];
/** mvccpb.KeyValue: key, create_revision, mod_revision, version, value, lease. */
export const KEY_VALUE: Fields = [undefined, DELIMITED, VARINT, VARINT, VARINT, DELIMITED, VARINT];
const KEY_FIELD = 1 << 1;
const MOD_REVISION_FIELD = 3;
/** leasepb.Lease: ID, TTL, RemainingTTL. */
const LEASE: Fields = [undefined, VARINT, VARINT, VARINT];
const LEASE_ID_FIELD = 1 << 1;

/** Whether a leaf whose first key has `keySize` bytes can have entries that an EntryReader reads. */
export function canHaveEntries(keySize: number | undefined): boolean {
  return keySize === REVISION_SIZE || keySize === TOMBSTONE_SIZE || keySize === LEASE_KEY_SIZE;
}

/**
 * Reads the entries of one leaf of revisions or leases as their bytes pass (specification: content): judges them and
 * collects what `columns` can keep. Its results are valid until `begin`.
 */
export class EntryReader {
  /** NAMES also after an invalid entry: the structure of the leaf is read on without its entries. */
  kind = NAMES;
  entries = new Uint32Array(0);
  sums = new Uint32Array(0);

  readonly #columns: EntryColumns;
  readonly #record = new MessageScanner();
  #main = 0;
  #isTombstone = false;

  constructor(columns: EntryColumns) {
    this.#columns = columns;
  }

  begin(): void {
    this.kind = NAMES;
  }

  /** The key of element `index`, one of `count`. */
  key(bytes: Buffer, at: number, size: number, index: number, count: number): void {
    if (index === 0) {
      if (size === LEASE_KEY_SIZE) this.kind = LEASES;
      else if (isRevision(bytes, at, size)) this.#beginRevisions(count);
    }
    if (this.kind === NAMES) return;
    const isValid = this.kind === LEASES ? size === LEASE_KEY_SIZE : isRevision(bytes, at, size);
    if (!isValid) this.kind = NAMES;
    else if (this.kind === LEASES) this.#record.begin(LEASE, false);
    else this.#beginRecord(bytes, at, size);
  }

  /** Bytes of the current value. */
  value(bytes: Buffer, from: number, to: number): void {
    if (this.kind !== NAMES) this.#record.feed(bytes, from, to);
  }

  /** The end of the value of element `index`, of `size` bytes; true when `sums` needs the sum up to here. */
  end(index: number, size: number): boolean {
    if (this.kind === NAMES) return false;
    if (!(this.kind === LEASES ? this.#isLease() : this.#isRecord(size))) this.kind = NAMES;
    if (this.kind !== REVISIONS || this.#columns.entries.isClosed) return false;
    const { first } = this.#record;
    // The entry with which a restore raises the revision has no record: its user key is the empty one, with hash 0.
    const hasRecord = size > 0;
    if (hasRecord) first.end();
    this.entries[ENTRY_WORDS * index] = hasRecord ? first.low : 0;
    this.entries[ENTRY_WORDS * index + 1] = hasRecord ? (first.high << 2) | (this.#isTombstone ? TOMBSTONE : 0) : 0;
    this.sums[SUM_WORDS * index + 1] = this.#main;
    this.sums[SUM_WORDS * index + 2] = size;
    return !this.#columns.sums.isClosed;
  }

  #beginRevisions(count: number): void {
    this.kind = REVISIONS;
    if (this.entries.length >= ENTRY_WORDS * count) return;
    this.entries = new Uint32Array(ENTRY_WORDS * count);
    this.sums = new Uint32Array(SUM_WORDS * count);
  }

  #beginRecord(bytes: Buffer, at: number, size: number): void {
    this.#record.begin(KEY_VALUE, !this.#columns.entries.isClosed);
    this.#main = bytes.readUInt32BE(at) * 2 ** 32 + bytes.readUInt32BE(at + 4);
    this.#isTombstone = size === TOMBSTONE_SIZE;
  }

  /** Whether the value is the record of its key: a tombstone's has nothing but the user key. */
  #isRecord(size: number): boolean {
    if (size === 0 && !this.#isTombstone) return true;
    const record = this.#record;
    if (!record.end() || record.firstLength === 0) return false;
    return this.#isTombstone ? record.fields === KEY_FIELD : record.number(MOD_REVISION_FIELD) === this.#main;
  }

  #isLease(): boolean {
    return this.#record.end() && (this.#record.fields & LEASE_ID_FIELD) !== 0;
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

/** What a scanner reads next: a tag, the number of a varint field, a length, or the bytes of a field. */
const TAG = 0;
const NUMBER = 1;
const LENGTH = 2;
const SKIP = 3;
const FIRST = 4;

/**
 * Reads one flat protobuf message that can come in parts; keeps its numbers and a hash of a length-delimited field 1. Stricter
 * than protobuf: a known field comes once at most and in its own type, and there are no groups (etcd writes neither).
 */
export class MessageScanner {
  /** The known fields that came, as bits. */
  fields = 0;
  /** Bytes of a length-delimited field 1. */
  firstLength = 0;
  /** Its hash, once the caller ended it. */
  readonly first = new KeyHash();
  #types: Fields = [];
  readonly #numbers = new Float64Array(8);
  #hashesFirst = false;
  #state = TAG;
  #field = 0;
  #number = 0;
  #scale = 1;
  /** Bytes of the current field still to come. */
  #left = 0;
  #broken = false;

  begin(types: Fields, hashesFirst: boolean): void {
    this.fields = this.firstLength = 0;
    this.#types = types;
    this.#hashesFirst = hashesFirst;
    this.#state = TAG;
    this.#number = 0;
    this.#scale = 1;
    this.#broken = false;
  }

  /** Reads on in `bytes` from offset `from` up to `to`. */
  feed(bytes: Buffer, from: number, to: number): void {
    let number = this.#number;
    let scale = this.#scale;
    let state = this.#state;
    for (let at = from; at < to && !this.#broken;) {
      if (state >= SKIP) {
        const end = Math.min(to, at + this.#left);
        if (state === FIRST) this.first.update(bytes, at, end);
        this.#left -= end - at;
        at = end;
        if (this.#left === 0) state = TAG;
        continue;
      }
      const byte = bytes[at++]!;
      number += (byte & 0x7f) * scale;
      // The tenth byte has room for one bit.
      if (scale === 2 ** 63 && byte > 1) this.#broken = true;
      if (byte >= 0x80) {
        scale *= 128;
        continue;
      }
      if (state === TAG) state = this.#tag(number);
      else if (state === LENGTH) state = this.#length(number);
      else {
        if (this.#field < this.#types.length) this.#numbers[this.#field] = number;
        state = TAG;
      }
      number = 0;
      scale = 1;
    }
    this.#number = number;
    this.#scale = scale;
    this.#state = state;
  }

  /** Whether the message, which ends here, was well-formed. */
  end(): boolean {
    return !this.#broken && this.#state === TAG && this.#scale === 1;
  }

  /** Value of a varint field, 0 when it did not come; exact below 2^53, otherwise at least 2^53. */
  number(field: number): number {
    return (this.fields & (1 << field)) === 0 ? 0 : this.#numbers[field]!;
  }

  #tag(tag: number): number {
    const type = tag % 8;
    const field = (tag - type) / 8;
    this.#field = field;
    if (field === 0 || field >= 2 ** 29) this.#broken = true;
    if (field < this.#types.length) {
      const bit = 1 << field;
      if (this.#types[field] !== type || (this.fields & bit) !== 0) this.#broken = true;
      this.fields |= bit;
    }
    if (type === VARINT) return NUMBER;
    if (type === DELIMITED) return LENGTH;
    if (type === FIXED_64) this.#left = 8;
    else if (type === FIXED_32) this.#left = 4;
    else this.#broken = true;
    return SKIP;
  }

  #length(length: number): number {
    this.#left = length;
    if (this.#field !== 1) return length === 0 ? TAG : SKIP;
    this.firstLength = length;
    if (this.#hashesFirst) this.first.begin();
    return length === 0 ? TAG : this.#hashesFirst ? FIRST : SKIP;
  }
}

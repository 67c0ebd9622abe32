import { combine, crc32c } from './checksums.ts';
import { type Budget, Table } from './memory-budget.ts';
import type { PageIndex, Run } from './page-index.ts';

/** Bytes of a key of the `key` bucket: revision of a put, and of a tombstone. */
export const REVISION_SIZE = 17;
export const TOMBSTONE_SIZE = 18;

/** Words of an entry: the hash of its user key in two halves; the last two bits of the high one are flags. */
export const ENTRY_WORDS = 2;
const LOW = 0;
const HIGH = 1;
export const TOMBSTONE = 1;
/** A later entry has the same user key. */
const SUPERSEDED = 2;

/** Words for HashKV: CRC32C of the leaf's data up to the end of the entry, low half of its main revision, size of its value. */
export const SUM_WORDS = 3;
const SUM = 0;
const MAIN = 1;
const VALUE_SIZE = 2;

/**
 * HashKV needs a call for the sum of each entry, which costs more than all else if entries are small. It is dropped in a
 * database of many entries that have fewer bytes than this on average; those of Kubernetes have more.
 */
const MANY_ENTRIES = 131_072;
const SMALL_ENTRY = 512;

/**
 * The entries of all leaves of revisions, by a number each; those of a leaf are consecutive. None is needed for the verdict: when
 * the memory is needed, the sums (for HashKV) are dropped first, then the entries (for live keys).
 */
export class EntryColumns {
  readonly entries: Table;
  readonly sums: Table;
  #bytes = 0;

  constructor(budget: Budget) {
    this.entries = new Table(budget, ENTRY_WORDS);
    this.sums = new Table(budget, SUM_WORDS);
    budget.onFull(() => this.#drop());
  }

  /** Keeps the entries of a leaf with `bytes` of data, if there is room; returns the number of the first. */
  append(entries: Uint32Array, sums: Uint32Array, count: number, bytes: number): number {
    const first = this.entries.length;
    this.#bytes += bytes;
    if (first > MANY_ENTRIES && this.#bytes < first * SMALL_ENTRY) this.sums.close();
    this.entries.append(entries, count);
    this.sums.append(sums, count);
    return first;
  }

  #drop(): boolean {
    const table = this.sums.isClosed ? this.entries : this.sums;
    if (table.isClosed) return false;
    table.close();
    return true;
  }
}

/** The answer of RPC `HashKV` at `revision` of a healthy member with the same compact_revision. */
export interface HashKV {
  readonly hash: number;
  readonly revision: number;
  /** Up to which compaction was requested, -1 if never. */
  readonly compactRevision: number;
}

interface LiveKeyCount {
  /** Keys that a client can get. */
  readonly live: number;
  /** Total keys as etcdutl 3.6 counts: the entry that raises the revision after a restore is one more. */
  readonly total36: number;
}

/**
 * Counts the live keys: the last entry of each user key, unless it is a tombstone (specification: content). `leaves` are
 * those of the `key` bucket; undefined when the entries did not fit the memory for one pass.
 */
export function countLiveKeys(index: PageIndex, leaves: Table): LiveKeyCount | undefined {
  const { budget } = index;
  const { entries } = index.entries;
  let all = 0;
  for (const { count } of index.runs(leaves)) all += count;
  // Open addressing by the hash of the key, with at least half of the slots spare: the number of the last entry plus one, or 0.
  const size = 2 ** Math.ceil(Math.log2(Math.max(2 * all, 16)));
  const bytes = size * Uint32Array.BYTES_PER_ELEMENT;
  if (!budget.take(bytes)) return undefined;
  const counted = entries.isClosed ? undefined : countIn(new Uint32Array(size), index, leaves);
  budget.give(bytes);
  return counted;
}

function countIn(slots: Uint32Array, index: PageIndex, leaves: Table): LiveKeyCount {
  const { entries } = index.entries;
  const mask = slots.length - 1;
  let live = 0;
  let bumps = 0;
  for (const { firstItem: first, count } of index.runs(leaves)) {
    touch(slots, entries, first, first + count);
    for (let entry = first; entry < first + count; entry++) {
      const low = entries.get(entry, LOW);
      const high = entries.get(entry, HIGH);
      let slot = low & mask;
      while (slots[slot] !== 0 && !hasKey(entries, slots[slot]! - 1, low, high)) slot = (slot + 1) & mask;
      const before = slots[slot]! - 1;
      slots[slot] = entry + 1;
      if (before >= 0) {
        const flags = entries.get(before, HIGH);
        if ((flags & TOMBSTONE) === 0) live--;
        entries.set(before, HIGH, flags | SUPERSEDED);
      }
      if ((high & TOMBSTONE) === 0) live++;
      if (low === 0 && high === 0) bumps = 1;
    }
  }
  return { live: live - bumps, total36: live };
}

/** The hash is keyed: nobody can prepare keys with the same one. */
function hasKey(entries: Table, entry: number, low: number, high: number): boolean {
  return entries.get(entry, LOW) === low && ((entries.get(entry, HIGH) ^ high) & ~(TOMBSTONE | SUPERSEDED)) === 0;
}

/** Fetches the slots of some entries into the processor's cache: one wait for all instead of one for each. */
function touch(slots: Uint32Array, entries: Table, first: number, end: number): number {
  let sum = 0;
  for (let entry = first; entry < end; entry++) sum += slots[entries.get(entry, LOW) & (slots.length - 1)]!;
  return sum;
}

/**
 * The sum that RPC `HashKV` gives at the newest revision when compaction was requested up to `compactRevision`, done or not
 * (specification: HashKV from a snapshot): over all entries, but up to that revision over the live ones only. To be called
 * after the live keys were counted; undefined when the sums did not fit the memory for one pass.
 */
export function hashKV(
  index: PageIndex,
  leaves: Table,
  compactRevision: number,
  { total36 }: LiveKeyCount,
): number | undefined {
  if (index.entries.sums.isClosed) return undefined;
  let sum = crc32c(Buffer.from('key'));
  for (const run of index.runs(leaves)) {
    const firstMain = run.count === 0 ? Infinity : index.firstMain(run.number);
    if (firstMain > compactRevision) {
      sum = combine(sum, run.crc, run.dataLength);
      continue;
    }
    if (index.lastMain(run.number) - firstMain >= 2 ** 32) return undefined;
    sum = combineKept(index.entries, run, firstMain, compactRevision, total36 > 0, sum);
  }
  return sum;
}

/** Appends to `sum` the entries of a leaf that HashKV does not leave out. */
function combineKept(
  { entries, sums }: EntryColumns,
  { firstItem: first, count }: Run,
  firstMain: number,
  compactRevision: number,
  hasLive: boolean,
  sum: number,
): number {
  const firstMainLow = sums.get(first, MAIN);
  let kept = sum;
  // Up to `from` all is in `kept`, or was left out; `end` is where the previous entry ends.
  let [from, crcFrom, end, crcEnd] = [0, 0, 0, 0];
  for (let entry = first; entry < first + count; entry++) {
    const [start, crcStart] = [end, crcEnd];
    const high = entries.get(entry, HIGH);
    const isTombstone = (high & TOMBSTONE) !== 0;
    end += sums.get(entry, VALUE_SIZE) + (isTombstone ? TOMBSTONE_SIZE : REVISION_SIZE);
    crcEnd = sums.get(entry, SUM);
    const main = firstMain + ((sums.get(entry, MAIN) - firstMainLow) >>> 0);
    // A server without any live key leaves out only the tombstones of the revision of the compaction.
    const isOut = hasLive
      ? main <= compactRevision && (isTombstone || (high & SUPERSEDED) !== 0)
      : main === compactRevision && isTombstone;
    if (!isOut) continue;
    kept = combine(kept, combine(crcFrom, crcStart, start - from), start - from);
    [from, crcFrom] = [end, crcEnd];
  }
  return combine(kept, combine(crcFrom, crcEnd, end - from), end - from);
}

import type { Budget, Table } from './memory-budget.ts';
import { combine, crc32c } from './crc32c.ts';
import { type EntryColumns, REVISION_SIZE, TOMBSTONE_SIZE } from './leaf-entries.ts';
import type { PageIndex, Run } from './page-index.ts';

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
 * Open-addressing table of the last entry of each user key, by the hash of the key. The hash is keyed: nobody can prepare keys
 * that meet in one slot. It has room for all entries from the start, at least half of it spare.
 */
class LastEntries {
  readonly #budget: Budget;
  readonly #entries: EntryColumns;
  /** The number of an entry plus one, or 0. */
  readonly #slots: Uint32Array;

  private constructor(budget: Budget, entries: EntryColumns, slots: number) {
    this.#budget = budget;
    this.#entries = entries;
    this.#slots = new Uint32Array(slots);
  }

  /** A table for this many entries; undefined when there is no memory for it. */
  static create({ budget, entries }: PageIndex, count: number): LastEntries | undefined {
    const slots = 2 ** Math.ceil(Math.log2(Math.max(2 * count, 16)));
    const bytes = slots * Uint32Array.BYTES_PER_ELEMENT;
    const isCharged = budget.take(bytes);
    if (isCharged && entries.live) return new LastEntries(budget, entries, slots);
    if (isCharged) budget.give(bytes);
    return undefined;
  }

  /** Replaces the last entry of the user key of `entry`: returns its number, or -1 for a new key. */
  replace(entry: number, low: number, high: number): number {
    const slots = this.#slots;
    const mask = slots.length - 1;
    for (let slot = low & mask; ; slot = (slot + 1) & mask) {
      const before = slots[slot]! - 1;
      if (before >= 0 && !this.#entries.hasKey(before, low, high)) continue;
      slots[slot] = entry + 1;
      return before;
    }
  }

  /** Fetches the slots of some entries into the processor's cache: one wait for all instead of one for each. */
  touch(first: number, end: number): number {
    const mask = this.#slots.length - 1;
    let sum = 0;
    for (let entry = first; entry < end; entry++) sum += this.#slots[this.#entries.low(entry) & mask]!;
    return sum;
  }

  free(): void {
    this.#budget.give(this.#slots.byteLength);
  }
}

/**
 * Counts the live keys: the last entry of each user key, unless it is a tombstone (specification: content). `leaves` are
 * those of the `key` bucket; undefined when the entries did not fit the memory for one pass.
 */
export function countLiveKeys(index: PageIndex, leaves: Table): LiveKeyCount | undefined {
  const { entries } = index;
  let all = 0;
  for (let i = 0; i < leaves.length; i++) all += index.run(leaves.get(i)).count;
  const last = LastEntries.create(index, all);
  if (last === undefined) return undefined;
  let live = 0;
  let bumps = 0;
  for (let i = 0; i < leaves.length; i++) {
    const { firstItem: first, count } = index.run(leaves.get(i));
    last.touch(first, first + count);
    for (let entry = first; entry < first + count; entry++) {
      const low = entries.low(entry);
      const high = entries.high(entry);
      const before = last.replace(entry, low, high);
      if (before >= 0) {
        if (!entries.isTombstone(before)) live--;
        entries.supersede(before);
      }
      if (!entries.isTombstone(entry)) live++;
      if (low === 0 && high === 0) bumps = 1;
    }
  }
  last.free();
  return { live: live - bumps, total36: live };
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
  if (!index.entries.sums) return undefined;
  let sum = crc32c(Buffer.from('key'));
  for (let i = 0; i < leaves.length; i++) {
    const leaf = leaves.get(i);
    const run = index.run(leaf);
    const firstMain = run.count === 0 ? Infinity : index.firstMain(leaf);
    if (firstMain > compactRevision) {
      sum = combine(sum, run.crc, run.dataLength);
      continue;
    }
    if (index.lastMain(leaf) - firstMain >= 2 ** 32) return undefined;
    sum = combineKept(index.entries, run, firstMain, compactRevision, total36 > 0, sum);
  }
  return sum;
}

/** Appends to `sum` the entries of a leaf that HashKV does not leave out. */
function combineKept(
  entries: EntryColumns,
  { firstItem: first, count }: Run,
  firstMain: number,
  compactRevision: number,
  hasLive: boolean,
  sum: number,
): number {
  const firstMainLow = entries.mainLow(first);
  let kept = sum;
  // Up to `from` all is in `kept`, or was left out; `end` is where the previous entry ends.
  let [from, crcFrom, end, crcEnd] = [0, 0, 0, 0];
  for (let entry = first; entry < first + count; entry++) {
    const [start, crcStart] = [end, crcEnd];
    const isTombstone = entries.isTombstone(entry);
    end += entries.valueSize(entry) + (isTombstone ? TOMBSTONE_SIZE : REVISION_SIZE);
    crcEnd = entries.sum(entry);
    const main = firstMain + ((entries.mainLow(entry) - firstMainLow) >>> 0);
    // A server without any live key leaves out only the tombstones of the revision of the compaction.
    const isOut = hasLive
      ? main <= compactRevision && (isTombstone || entries.isSuperseded(entry))
      : main === compactRevision && isTombstone;
    if (!isOut) continue;
    kept = combine(kept, combine(crcFrom, crcStart, start - from), start - from);
    [from, crcFrom] = [end, crcEnd];
  }
  return combine(kept, combine(crcFrom, crcEnd, end - from), end - from);
}

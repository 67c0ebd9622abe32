import type { Budget, Table } from './budget.ts';
import { combine, crc32c } from './crc32c.ts';
import type { EntryColumns } from './entry-columns.ts';
import { REVISION_SIZE, TOMBSTONE_SIZE } from './leaf-entries.ts';
import type { PageIndex } from './page-index.ts';

/** Live keys of one Kubernetes resource, such as `pods` or `apps.example.com/widgets`; `(other)` are those of none. */
export interface ResourceCount {
  readonly name: string;
  readonly keys: number;
  /** Of the stored records: user keys, values and some bytes of bookkeeping each. */
  readonly bytes: number;
}

/** What RPC `HashKV` answers at `revision` on a sound member whose compact_revision is the same. */
export interface HashKV {
  readonly hash: number;
  readonly revision: number;
  /** Up to which compaction was asked for, -1 when it never was. */
  readonly compactRevision: number;
}

interface LiveKeys {
  /** Keys that a client can get. */
  readonly live: number;
  /** Total keys as etcdutl 3.6 counts: the entry that raises the revision after a restore is one more. */
  readonly total36: number;
  /** Largest first; undefined when they did not fit the memory for one pass. */
  readonly resources: readonly ResourceCount[] | undefined;
}

const SLOT_BYTES = 4;

/**
 * Open-addressing table of the last entry of each user key, by the hash of the key. The hash is keyed, so nobody can
 * prepare keys that meet in one slot. It has room for all entries from the start, at least half of it spare.
 */
class LastEntries {
  readonly #budget: Budget;
  readonly #entries: EntryColumns;
  /** An entry's number plus one, or 0. */
  readonly #slots: Uint32Array;

  constructor(budget: Budget, entries: EntryColumns, slots: number) {
    this.#budget = budget;
    this.#entries = entries;
    this.#slots = new Uint32Array(slots);
  }

  /** A table for so many entries; undefined when there is no memory for it. */
  static create({ budget, entries }: PageIndex, count: number): LastEntries | undefined {
    const slots = 2 ** Math.ceil(Math.log2(Math.max(2 * count, 16)));
    while (entries.live && !budget.take(slots * SLOT_BYTES)) entries.giveUp();
    return entries.live ? new LastEntries(budget, entries, slots) : undefined;
  }

  /** Replaces the last entry of the key with this hash: that one's number, or -1 for a new key. */
  replace(entry: number, low: number, high: number): number {
    const slots = this.#slots;
    const entries = this.#entries;
    const mask = slots.length - 1;
    for (let slot = low & mask; ; slot = (slot + 1) & mask) {
      const before = slots[slot]! - 1;
      if (before >= 0 && (entries.low(before) !== low || ((entries.high(before) ^ high) & ~1) !== 0)) continue;
      slots[slot] = entry + 1;
      return before;
    }
  }

  /** Fetches the slots of some entries into the processor's cache, where one waits for all instead of each for its own. */
  touch(first: number, count: number): number {
    const mask = this.#slots.length - 1;
    let sum = 0;
    for (let entry = first; entry < first + count; entry++) sum += this.#slots[this.#entries.low(entry) & mask]!;
    return sum;
  }

  free(): void {
    this.#budget.give(this.#slots.length * SLOT_BYTES);
  }
}

/**
 * Counts the live keys: the last entry of each user key, unless it is a tombstone (specification: content). `leaves` are
 * those of the `key` bucket; undefined when the entries did not fit the memory for one pass.
 */
export function countLiveKeys(facts: PageIndex, leaves: Table): LiveKeys | undefined {
  const { entries } = facts;
  let all = 0;
  for (let i = 0; i < leaves.length; i++) all += facts.count(leaves.get(i, 0));
  const last = LastEntries.create(facts, all);
  if (last === undefined) return undefined;
  const keys = new Float64Array(entries.names.count);
  const bytes = new Float64Array(entries.names.count);
  let live = 0;
  let bumps = 0;
  for (let i = 0; i < leaves.length; i++) {
    const leaf = leaves.get(i, 0);
    const first = facts.firstEntry(leaf);
    const end = first + facts.count(leaf);
    last.touch(first, end - first);
    for (let entry = first; entry < end; entry++) {
      const low = entries.low(entry);
      const high = entries.high(entry);
      const before = last.replace(entry, low, high);
      if (entries.sums && before >= 0) entries.supersede(before);
      if (low === 0 && high === 0) {
        bumps = 1;
        continue;
      }
      const wasLive = before >= 0 && !entries.isTombstone(before);
      const isLive = (high & 1) === 0;
      live += Number(isLive) - Number(wasLive);
      if (!entries.resources) continue;
      if (wasLive) {
        keys[entries.resource(before)]! -= 1;
        bytes[entries.resource(before)]! -= entries.recordSize(before);
      }
      if (isLive) {
        keys[entries.resource(entry)]! += 1;
        bytes[entries.resource(entry)]! += entries.recordSize(entry);
      }
    }
  }
  last.free();
  const resources = Array.from(keys, (count, i) => ({ name: entries.names.name(i), keys: count, bytes: bytes[i]! }))
    .filter((resource) => resource.keys > 0)
    .toSorted((a, b) => b.bytes - a.bytes || (a.name < b.name ? -1 : 1));
  return { live, total36: live + bumps, resources: entries.resources ? resources : undefined };
}

/**
 * The sum that RPC `HashKV` gives at the newest revision when compaction was asked for up to `compactRevision`, done or not
 * (specification: HashKV from a snapshot): over all entries, but up to that revision over the live ones only. To be called
 * after the live keys were counted; undefined when the sums did not fit the memory for one pass.
 */
export function hashKV(
  facts: PageIndex,
  leaves: Table,
  compactRevision: number,
  { total36 }: LiveKeys,
): number | undefined {
  if (!facts.entries.sums) return undefined;
  let sum = crc32c(Buffer.from('key'));
  for (let i = 0; i < leaves.length; i++) {
    const leaf = leaves.get(i, 0);
    if (facts.count(leaf) === 0 || facts.firstMain(leaf) > compactRevision) {
      sum = combine(sum, facts.crc(leaf), facts.dataLength(leaf));
      continue;
    }
    if (facts.lastMain(leaf) - facts.firstMain(leaf) >= 2 ** 32) return undefined;
    sum = combineKept(facts, leaf, compactRevision, total36 > 0, sum);
  }
  return sum;
}

/** Appends to `sum` the entries of a leaf that HashKV does not leave out. */
function combineKept(facts: PageIndex, leaf: number, compactRevision: number, hasLive: boolean, sum: number): number {
  const { entries } = facts;
  const first = facts.firstEntry(leaf);
  const firstMain = facts.firstMain(leaf);
  const firstMainLow = entries.mainLow(first);
  let kept = sum;
  // Up to `from` all is in `kept`, or was left out; `end` is where the entry before the current one ends.
  let from = 0;
  let crcFrom = 0;
  let end = 0;
  let crcEnd = 0;
  for (let entry = first; entry < first + facts.count(leaf); entry++) {
    const start = end;
    const crcStart = crcEnd;
    const isTombstone = entries.isTombstone(entry);
    end += entries.recordSize(entry) + (isTombstone ? TOMBSTONE_SIZE : REVISION_SIZE);
    crcEnd = entries.sum(entry);
    const main = firstMain + ((entries.mainLow(entry) - firstMainLow) >>> 0);
    // A server without any live key leaves out only what the compaction ends with.
    const isOut = hasLive
      ? main <= compactRevision && (isTombstone || entries.isSuperseded(entry))
      : main === compactRevision && isTombstone;
    if (!isOut) continue;
    kept = combine(kept, combine(crcFrom, crcStart, start - from), start - from);
    from = end;
    crcFrom = crcEnd;
  }
  return combine(kept, combine(crcFrom, crcEnd, end - from), end - from);
}

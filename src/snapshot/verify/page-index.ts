import { type Budget, KeyStore, Table } from './budget.ts';
import { EntryColumns } from './entry-columns.ts';
import type { KeyHash } from './hash-kv.ts';
import { REVISIONS } from './leaf-entries.ts';
import { compareKeys } from './page.ts';
import { type Keeping, NO_BUCKETS, type RunReader } from './run-reader.ts';

/** Why a page has no facts. Numbers of facts are below all of these. */
export const WRONG_ID = 0xffff_ffff;
export const WRONG_FLAGS = 0xffff_fffe;
export const PAST_END = 0xffff_fffd;
export const UNTRACKED = 0xffff_fffc;
export const LOST = 0xffff_fffb;
export const UNFINISHED = 0xffff_fffa;
export const META = 0xffff_fff9;
export const NO_FACT = META;

/** Words of a fact. */
const PAGE = 0;
const OVERFLOW = 1;
/** Of a branch, the hash of its keys. */
const CRC = 2;
const DATA_LENGTH = 3;
/** count 16 bits, branch 1, keys 2, buckets 2, problem 4, entry problem 4. */
const SHAPE = 4;
const KEYS = 5;
const KEY_LENGTHS = 6;
/** Of a leaf, its first entry; of a branch, its first child. */
const ITEMS = 7;
const FACT_WORDS = 8;

/** Bytes of raw leaves, of those with buckets and of the others each. A cluster has a few such pages, and stale copies. */
const MAX_RAW = 16 * 1024 * 1024;
/** What the objects around some raw bytes take, about. */
const RAW_OVERHEAD = 512;

/**
 * Facts of every run that could be part of a tree, found while the pages pass; which are part of one is known only at the
 * end (specification: one streaming pass). When the budget is used up, what is not needed for the verdict goes first.
 */
export class PageIndex implements Keeping {
  readonly budget: Budget;
  readonly entries: EntryColumns;
  /** By page number: the fact of the run that begins there, or why there is none. */
  readonly pages: Table;
  readonly #facts: Table;
  readonly #keys: KeyStore;
  readonly #children: Table;
  readonly #raw = new Map<number, Buffer>();
  readonly #rawSizes = [0, 0];
  readonly #root: number;
  #rootIsLeaf = false;
  #exhausted = false;
  readonly #row = new Uint32Array(FACT_WORDS);

  /** `root` is the page number of the root bucket's root page. */
  constructor(budget: Budget, root: number) {
    this.budget = budget;
    this.#root = root;
    this.pages = new Table(budget, 1);
    this.#facts = new Table(budget, FACT_WORDS);
    this.#keys = new KeyStore(budget);
    this.#children = new Table(budget, 1);
    this.entries = new EntryColumns(budget);
  }

  /** Not even the structure fits: facts are missing from here on. */
  get exhausted(): boolean {
    return this.#exhausted;
  }

  keepsRaw(page: number, buckets: number): boolean {
    return buckets === NO_BUCKETS || page === this.#root || !this.#rootIsLeaf;
  }

  /** Notes the next page, with the reason why it has no fact, if only for now. */
  addPage(reason: number): void {
    if (!this.#exhausted) this.push(this.pages, reason);
  }

  /** Adds to a table that the verdict needs; returns false when nothing is left to give up for it. */
  push(table: Table, value: number): boolean {
    while (!table.push(value)) {
      if (this.#exhausted) return false;
      this.degrade();
    }
    return true;
  }

  /** Charges memory that the verdict needs; returns false when nothing is left to give up for it. */
  take(bytes: number): boolean {
    while (!this.budget.take(bytes)) {
      if (this.#exhausted) return false;
      this.degrade();
    }
    return true;
  }

  /** Replaces the reason by the fact that was found since. */
  setPage(page: number, fact: number): void {
    if (!this.#exhausted) this.pages.set(page, 0, fact);
  }

  /** Keeps what a reader found in its whole run; returns the number of the fact, or LOST when the budget is used up. */
  add(run: RunReader): number {
    const row = this.#row;
    const sound = run.problem === 0;
    row.fill(0);
    row[PAGE] = run.page;
    row[OVERFLOW] = run.overflow;
    row[CRC] = run.isBranch ? run.keysHash.low : run.crc;
    row[DATA_LENGTH] = run.isBranch ? run.keysHash.high : run.dataLength;
    row[SHAPE] =
      run.count |
      (Number(run.isBranch) << 16) |
      (run.entries.kind << 17) |
      (run.buckets << 19) |
      (run.problem << 21) |
      (run.entries.problem << 25);
    if (sound) {
      row[KEY_LENGTHS] = run.firstKeyLength | (run.lastKeyLength << 16);
      row[KEYS] = this.#addKeys(run);
      if (run.isBranch) row[ITEMS] = this.#append(this.#children, run.children, run.count);
      if (run.entries.kind === REVISIONS) row[ITEMS] = this.entries.append(run.entries, run.count, run.dataLength);
    }
    const fact = this.#append(this.#facts, row, 1);
    if (this.#exhausted) return LOST;
    if (sound && run.raw !== undefined) this.#addRaw(fact, run.raw, run.buckets);
    if (sound && run.page === this.#root && !run.isBranch) this.#keepRootOnly(fact);
    return fact;
  }

  /** Gives up what is needed least and frees its memory; when that is the structure, the snapshot cannot be judged. */
  degrade(): void {
    if (!this.entries.giveUp()) this.#exhausted = true;
  }

  page(fact: number): number {
    return this.#facts.get(fact, PAGE);
  }
  overflow(fact: number): number {
    return this.#facts.get(fact, OVERFLOW);
  }
  count(fact: number): number {
    return this.#facts.get(fact, SHAPE) & 0xffff;
  }
  isBranch(fact: number): boolean {
    return ((this.#facts.get(fact, SHAPE) >>> 16) & 1) === 1;
  }
  keyKind(fact: number): number {
    return (this.#facts.get(fact, SHAPE) >>> 17) & 3;
  }
  buckets(fact: number): number {
    return (this.#facts.get(fact, SHAPE) >>> 19) & 3;
  }
  problem(fact: number): number {
    return (this.#facts.get(fact, SHAPE) >>> 21) & 15;
  }
  entryProblem(fact: number): number {
    return (this.#facts.get(fact, SHAPE) >>> 25) & 15;
  }
  crc(fact: number): number {
    return this.#facts.get(fact, CRC);
  }
  dataLength(fact: number): number {
    return this.#facts.get(fact, DATA_LENGTH);
  }

  /** First entry of a leaf of revisions, while live keys are tracked. */
  firstEntry(fact: number): number {
    return this.#facts.get(fact, ITEMS);
  }

  /** Page number of a branch's child, or 0 where it names an impossible one. */
  child(fact: number, index: number): number {
    return this.#children.get(this.#facts.get(fact, ITEMS) + index, 0);
  }

  hasKeysHash(fact: number, hash: KeyHash): boolean {
    return this.crc(fact) === hash.low && this.dataLength(fact) === hash.high;
  }

  addFirstKeyTo(hash: KeyHash, fact: number): void {
    const at = this.#facts.get(fact, KEYS);
    hash.updateKey(this.#keys.chunk(at), this.#keys.within(at), this.#firstKeyLength(fact));
  }

  /** Whether all keys of `fact` come before all keys of `next`. */
  isBefore(fact: number, next: number): boolean {
    const last = this.#facts.get(fact, KEYS) + this.#firstKeyLength(fact);
    const first = this.#facts.get(next, KEYS);
    return (
      compareKeys(
        this.#keys.chunk(last),
        this.#keys.within(last),
        this.#facts.get(fact, KEY_LENGTHS) >>> 16,
        this.#keys.chunk(first),
        this.#keys.within(first),
        this.#firstKeyLength(next),
      ) < 0
    );
  }

  /** Main revision of the first and the last key of a leaf of revisions; exact below 2^53. */
  firstMain(fact: number): number {
    return this.#main(this.#facts.get(fact, KEYS));
  }
  lastMain(fact: number): number {
    return this.#main(this.#facts.get(fact, KEYS) + this.#firstKeyLength(fact));
  }

  /** The raw bytes of a leaf whose keys are names, as far as they were kept. */
  rawOf(fact: number): Buffer | undefined {
    return this.#raw.get(fact);
  }

  #firstKeyLength(fact: number): number {
    return this.#facts.get(fact, KEY_LENGTHS) & 0xffff;
  }

  #main(offset: number): number {
    const chunk = this.#keys.chunk(offset);
    const at = this.#keys.within(offset);
    let main = 0;
    for (let i = 0; i < 8; i++) main = main * 256 + chunk[at + i]!;
    return main;
  }

  #append(table: Table, rows: Uint32Array, count: number): number {
    for (;;) {
      const first = table.append(rows, count);
      if (first >= 0) return first;
      this.degrade();
      if (this.#exhausted) return 0;
    }
  }

  #addKeys(run: RunReader): number {
    const { firstKeyLength, lastKeyLength } = run;
    let offset = this.#keys.reserve(firstKeyLength + lastKeyLength);
    while (offset < 0 && !this.#exhausted) {
      this.degrade();
      offset = this.#keys.reserve(firstKeyLength + lastKeyLength);
    }
    if (offset < 0) return 0;
    const chunk = this.#keys.chunk(offset);
    const at = this.#keys.within(offset);
    for (let i = 0; i < firstKeyLength; i++) chunk[at + i] = run.firstKey[i]!;
    for (let i = 0; i < lastKeyLength; i++) chunk[at + firstKeyLength + i] = run.lastKey[i]!;
    return offset;
  }

  #addRaw(fact: number, raw: Buffer, buckets: number): void {
    const kind = buckets === NO_BUCKETS ? 0 : 1;
    const size = this.#rawSizes[kind]! + raw.length + RAW_OVERHEAD;
    const isRoot = this.page(fact) === this.#root;
    if ((size > MAX_RAW && !isRoot) || !this.take(raw.length + RAW_OVERHEAD)) return;
    this.#rawSizes[kind] = size;
    this.#raw.set(fact, raw);
  }

  /** The root bucket is this one leaf: no other leaf's buckets matter. */
  #keepRootOnly(root: number): void {
    this.#rootIsLeaf = true;
    for (const [fact, raw] of this.#raw) {
      if (fact === root || this.buckets(fact) === NO_BUCKETS) continue;
      this.#raw.delete(fact);
      this.budget.give(raw.length + RAW_OVERHEAD);
    }
  }
}

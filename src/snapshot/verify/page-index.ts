import { type Budget, KeyStore, Table } from './memory-budget.ts';
import type { KeyHash } from './key-hash.ts';
import { EntryColumns, REVISIONS } from './leaf-entries.ts';
import { compareKeys } from './page.ts';
import { NO_BUCKETS, type RunReader } from './run-reader.ts';

/** Why no run begins at a page. Numbers of runs are below all of these. */
export const WRONG_ID = 0xffff_ffff;
export const WRONG_FLAGS = 0xffff_fffe;
export const PAST_END = 0xffff_fffd;
export const UNTRACKED = 0xffff_fffc;
export const LOST = 0xffff_fffb;
export const UNFINISHED = 0xffff_fffa;
export const META = 0xffff_fff9;
export const NO_RUN = META;

/** Words of a run in the table. */
const PAGE = 0;
const OVERFLOW = 1;
/** Of a branch, the hash of its keys. */
const CRC = 2;
const DATA_LENGTH = 3;
/** count 16 bits, branch 1, keys 2, buckets 2, problem 4, entry problem 4. */
const SHAPE = 4;
const KEYS = 5;
const KEY_LENGTHS = 6;
const FIRST_ITEM = 7;
const RUN_WORDS = 8;

/** Bytes of raw leaves, of those with buckets and of the others each. A cluster has a few such pages, and stale copies. */
const MAX_RAW = 16 * 1024 * 1024;
/** Bytes of the objects around the raw bytes of a leaf, approximately. */
const RAW_OVERHEAD = 512;

/** What was found in a run while its bytes passed. */
export interface Run {
  readonly page: number;
  readonly overflow: number;
  readonly isBranch: boolean;
  /** Elements. */
  readonly count: number;
  /** Of a leaf: NAMES, REVISIONS or LEASES, and what is wrong with its entries. */
  readonly keyKind: number;
  readonly entryProblem: number;
  /** Which elements of a leaf are buckets. */
  readonly buckets: number;
  readonly problem: number;
  /** CRC32C and bytes of all keys and values of a leaf; the two halves of the hash of a branch's keys. */
  readonly crc: number;
  readonly dataLength: number;
  /** Of a leaf of revisions, its first entry while live keys are tracked; of a branch, its first child. */
  readonly firstItem: number;
}

/**
 * Every run that could be part of a tree, found while the pages pass; which ones are is known only at the end (specification:
 * one streaming pass).
 */
export class PageIndex {
  readonly budget: Budget;
  readonly entries: EntryColumns;
  /** By page number: the number of the run that begins there, or why there is none. */
  readonly pages: Table;
  readonly #runs: Table;
  readonly #keys: KeyStore;
  readonly #children: Table;
  readonly #raw = new Map<number, Buffer>();
  readonly #rawSizes = [0, 0];
  readonly #root: number;
  #rootIsLeaf = false;
  #isExhausted = false;
  readonly #row = new Uint32Array(RUN_WORDS);

  /** `root` is the page number of the root bucket's root page. */
  constructor(budget: Budget, root: number) {
    this.budget = budget;
    this.#root = root;
    this.pages = new Table(budget, 1);
    this.#runs = new Table(budget, RUN_WORDS);
    this.#keys = new KeyStore(budget);
    this.#children = new Table(budget, 1);
    this.entries = new EntryColumns(budget);
  }

  /** The budget is used up: runs are missing from here on. */
  get isExhausted(): boolean {
    return this.#isExhausted;
  }

  keepsRaw(page: number, buckets: number): boolean {
    return buckets === NO_BUCKETS || page === this.#root || !this.#rootIsLeaf;
  }

  /** Adds the next page: the number of its run, or why there is none yet. */
  addPage(run: number): void {
    if (!this.#isExhausted) this.push(this.pages, run);
  }

  /** Replaces the reason why there was no run. */
  setPage(page: number, run: number): void {
    if (!this.#isExhausted) this.pages.set(page, 0, run);
  }

  /** Adds to a table that the verdict needs; returns false when the budget is used up. */
  push(table: Table, value: number): boolean {
    return this.#isAvailable(table.push(value));
  }

  /** Charges memory that the verdict needs; returns false when the budget is used up. */
  take(bytes: number): boolean {
    return this.#isAvailable(this.budget.take(bytes));
  }

  /** Keeps what a reader found in its whole run; returns the number of the run, or LOST when the budget is used up. */
  add(run: RunReader): number {
    const row = this.#row;
    const isValid = run.problem === 0;
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
    if (isValid) {
      row[KEY_LENGTHS] = run.firstKeyLength | (run.lastKeyLength << 16);
      row[KEYS] = this.#addKeys(run);
      if (run.isBranch) row[FIRST_ITEM] = this.#append(this.#children, run.children, run.count);
      if (run.entries.kind === REVISIONS) {
        row[FIRST_ITEM] = this.entries.append(run.entries, run.count, run.dataLength);
      }
    }
    const number = this.#append(this.#runs, row, 1);
    if (this.#isExhausted) return LOST;
    if (isValid && run.raw !== undefined) this.#addRaw(number, run.raw, run.page, run.buckets);
    if (isValid && run.page === this.#root && !run.isBranch) this.#keepRootOnly(number);
    return number;
  }

  run(number: number): Run {
    const shape = this.#runs.get(number, SHAPE);
    return {
      page: this.#runs.get(number, PAGE),
      overflow: this.#runs.get(number, OVERFLOW),
      count: shape & 0xffff,
      isBranch: ((shape >>> 16) & 1) === 1,
      keyKind: (shape >>> 17) & 3,
      buckets: (shape >>> 19) & 3,
      problem: (shape >>> 21) & 15,
      entryProblem: (shape >>> 25) & 15,
      crc: this.#runs.get(number, CRC),
      dataLength: this.#runs.get(number, DATA_LENGTH),
      firstItem: this.#runs.get(number, FIRST_ITEM),
    };
  }

  /** Page number of a branch's child, or 0 if it names an impossible one. */
  child({ firstItem }: Run, index: number): number {
    return this.#children.get(firstItem + index);
  }

  addFirstKeyTo(hash: KeyHash, run: number): void {
    const at = this.#runs.get(run, KEYS);
    hash.updateKey(this.#keys.chunk(at), this.#keys.within(at), this.#firstKeyLength(run));
  }

  /** Whether all keys of `run` come before all keys of `next`. */
  isBefore(run: number, next: number): boolean {
    const last = this.#lastKey(run);
    const lastLength = this.#runs.get(run, KEY_LENGTHS) >>> 16;
    const first = this.#runs.get(next, KEYS);
    const [chunkOfLast, chunkOfFirst] = [this.#keys.chunk(last), this.#keys.chunk(first)];
    const [atLast, atFirst] = [this.#keys.within(last), this.#keys.within(first)];
    return compareKeys(chunkOfLast, atLast, lastLength, chunkOfFirst, atFirst, this.#firstKeyLength(next)) < 0;
  }

  /** Main revision of the first and the last key of a leaf of revisions; exact below 2^53. */
  firstMain(run: number): number {
    return this.#main(this.#runs.get(run, KEYS));
  }
  lastMain(run: number): number {
    return this.#main(this.#lastKey(run));
  }

  /** The bytes of a leaf whose keys are names, if they were kept. */
  rawOf(run: number): Buffer | undefined {
    return this.#raw.get(run);
  }

  #isAvailable(taken: boolean): boolean {
    if (!taken) this.#isExhausted = true;
    return taken;
  }

  #firstKeyLength(run: number): number {
    return this.#runs.get(run, KEY_LENGTHS) & 0xffff;
  }

  #lastKey(run: number): number {
    return this.#runs.get(run, KEYS) + this.#firstKeyLength(run);
  }

  #main(offset: number): number {
    const chunk = this.#keys.chunk(offset);
    const at = this.#keys.within(offset);
    let main = 0;
    for (let i = 0; i < 8; i++) main = main * 256 + chunk[at + i]!;
    return main;
  }

  #append(table: Table, rows: Uint32Array, count: number): number {
    const first = table.append(rows, count);
    this.#isAvailable(first >= 0);
    return first;
  }

  #addKeys({ firstKey, firstKeyLength, lastKey, lastKeyLength }: RunReader): number {
    const offset = this.#keys.reserve(firstKeyLength + lastKeyLength);
    if (!this.#isAvailable(offset >= 0)) return 0;
    const chunk = this.#keys.chunk(offset);
    const at = this.#keys.within(offset);
    for (let i = 0; i < firstKeyLength; i++) chunk[at + i] = firstKey[i]!;
    for (let i = 0; i < lastKeyLength; i++) chunk[at + firstKeyLength + i] = lastKey[i]!;
    return offset;
  }

  #addRaw(run: number, raw: Buffer, page: number, buckets: number): void {
    const kind = buckets === NO_BUCKETS ? 0 : 1;
    const size = this.#rawSizes[kind]! + raw.length + RAW_OVERHEAD;
    if ((size > MAX_RAW && page !== this.#root) || !this.take(raw.length + RAW_OVERHEAD)) return;
    this.#rawSizes[kind] = size;
    this.#raw.set(run, raw);
  }

  /** The root bucket is this one leaf: the buckets of other leaves are not needed. */
  #keepRootOnly(root: number): void {
    this.#rootIsLeaf = true;
    for (const [run, raw] of this.#raw) {
      if (run === root || this.run(run).buckets === NO_BUCKETS) continue;
      this.#raw.delete(run);
      this.budget.give(raw.length + RAW_OVERHEAD);
    }
  }
}

import type { KeyHash } from './checksums.ts';
import { REVISIONS } from './leaf-entries.ts';
import { EntryColumns } from './live-keys.ts';
import { type Budget, KeyStore, Table } from './memory-budget.ts';
import { BRANCH_FLAG, type Bytes, compareKeys, LEAF_FLAG } from './page.ts';
import { NO_BUCKETS, RunReader } from './run-reader.ts';
import type { ProblemKind } from './verdict.ts';

/** Why no run begins at a page, in place of the number of a run: all of those are below. */
export const NO_RUN = 0xffff_fff0;
const META = NO_RUN;
const WRONG_ID = NO_RUN + 1;
const WRONG_FLAGS = NO_RUN + 2;
const PAST_END = NO_RUN + 3;
const UNFINISHED = NO_RUN + 4;
const UNTRACKED = NO_RUN + 5;
export const NO_RUN_REASONS: Readonly<Record<number, readonly [ProblemKind, string]>> = {
  [META]: ['tree', 'is a meta page'],
  [WRONG_ID]: ['tree', 'has a different page number in its header'],
  [WRONG_FLAGS]: ['tree', 'is flagged neither as a branch nor as a leaf'],
  [PAST_END]: ['tree', 'extends past the end of the database'],
  [UNFINISHED]: ['tree', 'is cut off by the end of the file'],
  [UNTRACKED]: ['overlap', 'is inside too many other runs to be verified in one pass'],
};

/** Words of a run in the table. */
const PAGE = 0;
const OVERFLOW = 1;
/** Of a branch, the hash of its keys. */
const CRC = 2;
const DATA_LENGTH = 3;
/** count 16 bits, branch 1, keys 2, buckets 2, problem 4. */
const SHAPE = 4;
const KEYS = 5;
const KEY_LENGTHS = 6;
const FIRST_ITEM = 7;
const RUN_WORDS = 8;

/**
 * Runs that are read at the same time. More than one is open only if a run is inside another, which etcd does not write,
 * but the value of a user key can look like pages.
 */
const MAX_OPEN = 16;

/** Bytes of raw leaves, of those with buckets and of the others each. A cluster has a few such pages, and stale copies. */
const MAX_RAW = 16 * 1024 * 1024;
/** Bytes of the objects around the raw bytes of a leaf, approximately. */
const RAW_OVERHEAD = 512;

/** What was found in a run while its bytes passed. */
export interface Run {
  /** By which the index knows it. */
  readonly number: number;
  readonly page: number;
  readonly overflow: number;
  readonly isBranch: boolean;
  /** Elements. */
  readonly count: number;
  /** Of a leaf: REVISIONS or LEASES when all its entries are valid as such. */
  readonly keyKind: number;
  /** Which elements of a leaf are buckets. */
  readonly buckets: number;
  /** What is wrong inside the run; empty when it is valid. */
  readonly problem: string;
  /** CRC32C and bytes of all keys and values of a leaf; the two halves of the hash of a branch's keys. */
  readonly crc: number;
  readonly dataLength: number;
  /** Of a leaf of revisions, its first entry while live keys are tracked; of a branch, its first child. */
  readonly firstItem: number;
}

/**
 * Every run that could be part of a tree, found while the pages pass; which ones are is known only at the end (specification:
 * one streaming pass). A page inside a run can be the start of another one: the outer one can be stale.
 */
export class PageIndex {
  readonly budget: Budget;
  readonly entries: EntryColumns;
  /** By page number: the number of the run that begins there, or why there is none. */
  readonly pages: Table;
  readonly #root: number;
  readonly #pageSize: number;
  readonly #highWaterMark: number;
  readonly #open: RunReader[] = [];
  readonly #idle: RunReader[] = [];
  readonly #runs: Table;
  readonly #row = new Uint32Array(RUN_WORDS);
  readonly #keys: KeyStore;
  readonly #children: Table;
  readonly #raw = new Map<number, Buffer>();
  readonly #rawSizes = [0, 0];
  /** Different problems of runs, by the number in the table. */
  readonly #problems = [''];
  #isExhausted = false;

  /** `root` is the page number of the root bucket's root page. */
  constructor(budget: Budget, root: number, pageSize: number, highWaterMark: number) {
    this.budget = budget;
    this.#root = root;
    this.#pageSize = pageSize;
    this.#highWaterMark = highWaterMark;
    this.entries = new EntryColumns(budget);
    this.pages = new Table(budget, 1);
    this.#runs = new Table(budget, RUN_WORDS);
    this.#keys = new KeyStore(budget);
    this.#children = new Table(budget, 1);
    this.push(this.pages, META);
    this.push(this.pages, META);
  }

  /** The budget is used up: runs are missing from here on. */
  get isExhausted(): boolean {
    return this.#isExhausted;
  }

  /** The next page, `page`, is in `source` at offset `base`. */
  addPage(source: Bytes, base: number, page: number): void {
    if (this.#isExhausted) return;
    for (let i = this.#open.length - 1; i >= 0; i--) {
      const run = this.#open[i]!;
      run.feed(source.bytes, base, base + this.#pageSize);
      if (!run.done) continue;
      this.pages.set(run.page, 0, this.add(run));
      this.#open.splice(i, 1);
      this.#idle.push(run);
    }
    this.push(this.pages, this.#begin(source, base, page));
  }

  /** Keeps what a reader found in its whole run; returns the number of the run, which means nothing when the budget is used up. */
  add(run: RunReader): number {
    const row = this.#row;
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
      (this.#numberOf(run.problem) << 21);
    if (run.problem === '') {
      row[KEY_LENGTHS] = run.firstKeyLength | (run.lastKeyLength << 16);
      row[KEYS] = this.#addKeys(run);
      if (run.isBranch) row[FIRST_ITEM] = this.#append(this.#children, run.children, run.count);
      else if (run.entries.kind === REVISIONS) {
        row[FIRST_ITEM] = this.entries.append(run.entries.entries, run.entries.sums, run.count, run.dataLength);
      }
    }
    const number = this.#append(this.#runs, row, 1);
    if (run.problem === '' && run.raw !== undefined) this.#addRaw(number, run.raw, run.page, run.buckets);
    return number;
  }

  /** Adds to a table that the verdict needs; returns false when the budget is used up. */
  push(table: Table, value: number): boolean {
    return this.#isAvailable(table.push(value));
  }

  /** Charges memory that the verdict needs; returns false when the budget is used up. */
  take(bytes: number): boolean {
    return this.#isAvailable(this.budget.take(bytes));
  }

  run(number: number): Run {
    const shape = this.#runs.get(number, SHAPE);
    return {
      number,
      page: this.#runs.get(number, PAGE),
      overflow: this.#runs.get(number, OVERFLOW),
      count: shape & 0xffff,
      isBranch: ((shape >>> 16) & 1) === 1,
      keyKind: (shape >>> 17) & 3,
      buckets: (shape >>> 19) & 3,
      problem: this.#problems[(shape >>> 21) & 15]!,
      crc: this.#runs.get(number, CRC),
      dataLength: this.#runs.get(number, DATA_LENGTH),
      firstItem: this.#runs.get(number, FIRST_ITEM),
    };
  }

  /** The runs whose numbers a table has. */
  *runs(numbers: Table): Generator<Run, void> {
    for (let i = 0; i < numbers.length; i++) yield this.run(numbers.get(i));
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

  /** The number of the run that begins at `page`, or why there is none yet. */
  #begin(source: Bytes, base: number, page: number): number {
    const { view } = source;
    if (view.getUint32(base, true) !== page || view.getUint32(base + 4, true) !== 0) return WRONG_ID;
    const flags = view.getUint16(base + 8, true);
    if (flags !== BRANCH_FLAG && flags !== LEAF_FLAG) return WRONG_FLAGS;
    const overflow = view.getUint32(base + 12, true);
    if (page + overflow >= this.#highWaterMark) return PAST_END;
    const run = this.#idle.pop() ?? new RunReader(this.entries);
    run.beginRun(source, base, page, this.#pageSize, this.#highWaterMark);
    if (!run.done && this.#open.length < MAX_OPEN) {
      this.#open.push(run);
      return UNFINISHED;
    }
    this.#idle.push(run);
    return run.done ? this.add(run) : UNTRACKED;
  }

  #isAvailable(taken: boolean): boolean {
    if (!taken) this.#isExhausted = true;
    return taken;
  }

  #numberOf(problem: string): number {
    const number = this.#problems.indexOf(problem);
    return number >= 0 ? number : this.#problems.push(problem) - 1;
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
}

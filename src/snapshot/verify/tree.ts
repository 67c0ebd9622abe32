import { Table } from './memory-budget.ts';
import { KeyHash } from './key-hash.ts';
import {
  LOST,
  META,
  NO_RUN,
  PAST_END,
  type PageIndex,
  type Run,
  UNFINISHED,
  UNTRACKED,
  WRONG_FLAGS,
  WRONG_ID,
} from './page-index.ts';
import { RUN_PROBLEMS } from './run-reader.ts';
import type { ProblemKind, Problems } from './verdict.ts';

/** Levels of a tree. Eight are enough for the largest database that etcd supports, even with nearly empty pages. */
const MAX_DEPTH = 16;

const REASONS: ReadonlyMap<number, readonly [ProblemKind, string]> = new Map([
  [WRONG_ID, ['tree', 'has another page number in its header']],
  [WRONG_FLAGS, ['tree', 'is flagged neither as a branch nor as a leaf']],
  [PAST_END, ['tree', 'extends past the end of the database']],
  [UNFINISHED, ['tree', 'is cut off by the end of the file']],
  [META, ['tree', 'is a meta page']],
  [UNTRACKED, ['overlap', 'is inside too many other runs to be verified in one pass']],
  [LOST, ['budget', 'could not be verified in one pass within the memory budget']],
]);

/** The pages that belong to something: each to one thing only. */
export class UsedPages {
  readonly #bits: Uint8Array;
  #count = 0;

  /** `pages` is the number of pages that passed. */
  constructor(pages: number) {
    this.#bits = new Uint8Array(UsedPages.size(pages));
  }

  get count(): number {
    return this.#count;
  }

  /** Bytes of the set for this many pages. */
  static size(pages: number): number {
    return Math.ceil(pages / 8);
  }

  /** Marks an existing page; returns false when it is marked already. */
  add(page: number): boolean {
    const bit = 1 << (page & 7);
    if ((this.#bits[page >>> 3]! & bit) !== 0) return false;
    this.#bits[page >>> 3]! |= bit;
    this.#count++;
    return true;
  }

  /** Marks a run; returns false, with a problem, when one of its pages is in use already. */
  claim(page: number, overflow: number, problems: Problems): boolean {
    for (let at = page; at <= page + overflow; at++) {
      if (this.add(at)) continue;
      problems.add('tree', `page ${at} is used twice`, page);
      return false;
    }
    return true;
  }
}

/**
 * Walks trees through the index only, after the last page (specification: one streaming pass; bbolt's Check). The order of
 * keys holds across the whole tree: each leaf begins after the end of the previous one, and the keys of a branch are the first
 * keys of its children. No key of a child can reach the next key of its parent.
 */
export class TreeWalk {
  readonly #index: PageIndex;
  readonly #used: UsedPages;
  readonly #problems: Problems;
  #leaves: Table;

  constructor(index: PageIndex, used: UsedPages, problems: Problems) {
    this.#index = index;
    this.#used = used;
    this.#problems = problems;
    this.#leaves = new Table(index.budget, 1);
  }

  /** The runs of the leaves in order; undefined when the tree is corrupt, with problems. `name` is for these. */
  leaves(root: number, name: string): Table | undefined {
    this.#leaves = new Table(this.#index.budget, 1);
    const before = this.#problems.count;
    this.#visit(root, name, 0);
    return this.#problems.count === before ? this.#leaves : undefined;
  }

  /** The run of the tree at `page`, or -1 when it is corrupt. */
  #visit(page: number, name: string, depth: number): number {
    const number = page < this.#index.pages.length ? this.#index.pages.get(page) : undefined;
    if (number === undefined) return this.#fail('tree', `page ${page} of ${name} is missing`, page);
    if (number >= NO_RUN) {
      const [kind, reason] = REASONS.get(number)!;
      return this.#fail(kind, `page ${page} of ${name} ${reason}`, page);
    }
    const run = this.#index.run(number);
    if (run.problem !== 0) return this.#fail('page', `page ${page} of ${name} ${RUN_PROBLEMS[run.problem]}`, page);
    if (!this.#used.claim(page, run.overflow, this.#problems)) return -1;
    if (run.isBranch) return this.#branch(number, run, name, depth);
    const { length } = this.#leaves;
    if (length > 0 && !this.#index.isBefore(this.#leaves.get(length - 1), number)) {
      this.#fail('order', `the keys of page ${page} of ${name} do not follow those of the previous page`, page);
    }
    if (this.#index.push(this.#leaves, number)) return number;
    return this.#fail('budget', `${name} has more leaves than fit the memory for one pass`);
  }

  #branch(number: number, run: Run, name: string, depth: number): number {
    const { page, count, crc, dataLength } = run;
    if (depth === MAX_DEPTH) return this.#fail('tree', `${name} has more than ${MAX_DEPTH} levels`, page);
    const keys = new KeyHash();
    keys.begin();
    let isWhole = true;
    for (let i = 0; i < count; i++) {
      const childPage = this.#index.child(run, i);
      const child =
        childPage === 0
          ? this.#fail('tree', `page ${page} of ${name} names a child outside the database`, page)
          : this.#visit(childPage, name, depth + 1);
      if (child < 0) isWhole = false;
      else this.#index.addFirstKeyTo(keys, child);
    }
    keys.end();
    if (isWhole && (crc !== keys.low || dataLength !== keys.high)) {
      this.#fail('order', `the keys of page ${page} of ${name} are not the first keys of its children`, page);
    }
    return number;
  }

  #fail(kind: ProblemKind, message: string, page?: number): -1 {
    this.#problems.add(kind, message, page);
    return -1;
  }
}

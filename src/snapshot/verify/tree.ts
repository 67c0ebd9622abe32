import { Table } from './budget.ts';
import { KeyHash } from './hash-kv.ts';
import {
  type PageIndex,
  LOST,
  META,
  NO_FACT,
  PAST_END,
  UNFINISHED,
  UNTRACKED,
  WRONG_FLAGS,
  WRONG_ID,
} from './page-index.ts';
import type { FaultKind, Faults } from './problems.ts';
import { PROBLEMS } from './run-reader.ts';

/** Levels of a tree. Eight would do for the largest database that etcd supports, were its pages nearly empty. */
const MAX_DEPTH = 16;

const REASONS: ReadonlyMap<number, readonly [FaultKind, string]> = new Map([
  [WRONG_ID, ['tree', 'carries another page number in its header']],
  [WRONG_FLAGS, ['tree', 'is flagged neither as a branch nor as a leaf']],
  [PAST_END, ['tree', 'reaches past the end of the database']],
  [UNFINISHED, ['tree', 'is cut off by the end of the file']],
  [META, ['tree', 'is a meta page, no part of a tree']],
  [UNTRACKED, ['overlap', 'lies inside too many others to be verified in one pass']],
  [LOST, ['budget', 'could not be verified in one pass within the memory for it']],
]);

/** The pages that are part of something, each of one thing only. */
export class UsedPages {
  readonly #bits: Uint8Array;
  #count = 0;

  /** `pages` is the number of pages that passed. */
  constructor(pages: number) {
    this.#bits = new Uint8Array(Math.ceil(pages / 8));
  }

  get count(): number {
    return this.#count;
  }

  /** Bytes that the set for this many pages takes. */
  static size(pages: number): number {
    return Math.ceil(pages / 8);
  }

  /** Marks a page that exists; returns false when it is marked already. */
  add(page: number): boolean {
    const bit = 1 << (page & 7);
    if ((this.#bits[page >>> 3]! & bit) !== 0) return false;
    this.#bits[page >>> 3]! |= bit;
    this.#count++;
    return true;
  }

  /** Marks a run; a fault says which of its pages was in use already. */
  claim(page: number, overflow: number, faults: Faults): boolean {
    for (let at = page; at <= page + overflow; at++) {
      if (this.add(at)) continue;
      faults.add('tree', `page ${at} is used twice`, page);
      return false;
    }
    return true;
  }
}

/**
 * Walks trees through the facts only, after the last page (specification: one streaming pass; bbolt's Check). The order of
 * keys holds across the whole tree: each leaf begins behind the end of the one before, and a branch's keys are the first
 * keys of its children, so no key of a child can reach its parent's next key.
 */
export class TreeWalk {
  readonly #facts: PageIndex;
  readonly #used: UsedPages;
  readonly #faults: Faults;
  #leaves: Table;

  constructor(facts: PageIndex, used: UsedPages, faults: Faults) {
    this.#facts = facts;
    this.#used = used;
    this.#faults = faults;
    this.#leaves = new Table(facts.budget, 1);
  }

  /** The facts of the leaves in order; undefined when the tree is broken, with faults that say how. `name` is for these. */
  leaves(root: number, name: string): Table | undefined {
    this.#leaves = new Table(this.#facts.budget, 1);
    const before = this.#faults.count;
    this.#visit(root, name, 0);
    return this.#faults.count === before ? this.#leaves : undefined;
  }

  /** The fact of the tree at `page`, or -1 when it is broken. */
  #visit(page: number, name: string, depth: number): number {
    const fact = page < this.#facts.pages.length ? this.#facts.pages.get(page, 0) : undefined;
    if (fact === undefined) return this.#fault('tree', `page ${page} of ${name} is not there`, page);
    if (fact >= NO_FACT) {
      const [kind, reason] = REASONS.get(fact)!;
      return this.#fault(kind, `page ${page} of ${name} ${reason}`, page);
    }
    const problem = this.#facts.problem(fact);
    if (problem !== 0) return this.#fault('page', `page ${page} of ${name} ${PROBLEMS[problem]}`, page);
    if (!this.#used.claim(page, this.#facts.overflow(fact), this.#faults)) return -1;
    return this.#facts.isBranch(fact) ? this.#branch(fact, page, name, depth) : this.#leaf(fact, page, name);
  }

  #leaf(fact: number, page: number, name: string): number {
    const { length } = this.#leaves;
    if (length > 0 && !this.#facts.isBefore(this.#leaves.get(length - 1, 0), fact)) {
      this.#fault('order', `the keys of page ${page} of ${name} do not follow those of the page before`, page);
    }
    if (this.#facts.push(this.#leaves, fact)) return fact;
    return this.#fault('budget', `${name} has more leaves than fit the memory for one pass`);
  }

  #branch(fact: number, page: number, name: string, depth: number): number {
    if (depth === MAX_DEPTH) return this.#fault('tree', `${name} has more than ${MAX_DEPTH} levels`, page);
    const keys = new KeyHash();
    keys.begin();
    let isWhole = true;
    for (let i = 0; i < this.#facts.count(fact); i++) {
      const childPage = this.#facts.child(fact, i);
      const child =
        childPage === 0
          ? this.#fault('tree', `page ${page} of ${name} names a child outside the database`, page)
          : this.#visit(childPage, name, depth + 1);
      if (child < 0) isWhole = false;
      else this.#facts.addFirstKeyTo(keys, child);
    }
    keys.end();
    if (isWhole && !this.#facts.hasKeysHash(fact, keys)) {
      this.#fault('order', `the keys of page ${page} of ${name} are not the first keys of its children`, page);
    }
    return fact;
  }

  #fault(kind: FaultKind, message: string, page?: number): -1 {
    this.#faults.add(kind, message, page);
    return -1;
  }
}

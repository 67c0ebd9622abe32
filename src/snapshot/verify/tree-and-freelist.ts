import { KeyHash } from './checksums.ts';
import { Table } from './memory-budget.ts';
import { NO_RUN, NO_RUN_REASONS, type PageIndex, type Run } from './page-index.ts';
import { type Bytes, FREELIST_FLAG, HEADER_SIZE } from './page.ts';
import type { ProblemKind, Problems } from './verdict.ts';

/** Levels of a tree. Eight are enough for the largest database that etcd supports, even with nearly empty pages. */
const MAX_DEPTH = 16;

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
  readonly index: PageIndex;
  readonly problems: Problems;
  readonly #used: UsedPages;

  constructor(index: PageIndex, used: UsedPages, problems: Problems) {
    this.index = index;
    this.#used = used;
    this.problems = problems;
  }

  /** The runs of the leaves in order; undefined when the tree is corrupt, with problems. `name` is for these. */
  leaves(root: number, name: string): Table | undefined {
    const leaves = new Table(this.index.budget, 1);
    const before = this.problems.count;
    this.#visit(root, name, 0, leaves);
    return this.problems.count === before ? leaves : undefined;
  }

  /** The run of the tree at `page`, or -1 when it is corrupt. */
  #visit(page: number, name: string, depth: number, leaves: Table): number {
    const number = page < this.index.pages.length ? this.index.pages.get(page) : undefined;
    if (number === undefined) return this.#fail('tree', `page ${page} of ${name} is missing`, page);
    if (number >= NO_RUN) {
      const [kind, reason] = NO_RUN_REASONS[number]!;
      return this.#fail(kind, `page ${page} of ${name} ${reason}`, page);
    }
    const run = this.index.run(number);
    if (run.problem !== '') return this.#fail('page', `page ${page} of ${name} ${run.problem}`, page);
    if (!this.#used.claim(page, run.overflow, this.problems)) return -1;
    if (run.isBranch) return this.#branch(number, run, name, depth, leaves);
    const { length } = leaves;
    if (length > 0 && !this.index.isBefore(leaves.get(length - 1), number)) {
      this.#fail('order', `the keys of page ${page} of ${name} do not follow those of the previous page`, page);
    }
    if (this.index.push(leaves, number)) return number;
    return this.#fail('budget', `${name} has more leaves than fit into the memory for one pass`);
  }

  #branch(number: number, run: Run, name: string, depth: number, leaves: Table): number {
    const { page, count, crc, dataLength } = run;
    if (depth === MAX_DEPTH) return this.#fail('tree', `${name} has more than ${MAX_DEPTH} levels`, page);
    const keys = new KeyHash();
    keys.begin();
    let isWhole = true;
    for (let i = 0; i < count; i++) {
      const childPage = this.index.child(run, i);
      const child =
        childPage === 0
          ? this.#fail('tree', `page ${page} of ${name} points to a child outside the database`, page)
          : this.#visit(childPage, name, depth + 1, leaves);
      if (child < 0) isWhole = false;
      else this.index.addFirstKeyTo(keys, child);
    }
    keys.end();
    if (isWhole && (crc !== keys.low || dataLength !== keys.high)) {
      this.#fail('order', `the keys of page ${page} of ${name} are not the first keys of its children`, page);
    }
    return number;
  }

  #fail(kind: ProblemKind, message: string, page?: number): -1 {
    this.problems.add(kind, message, page);
    return -1;
  }
}

const ID_SIZE = 8;
/** A count of this means that the first id is the real count (specification: bbolt file, freelist page). */
const COUNT_IN_FIRST_ID = 0xffff;

/** The stored list of free pages; etcd on Linux stores none. It is kept as it passes, and judged when the used pages are known. */
export class Freelist {
  readonly #page: number;
  readonly #pageSize: number;
  readonly #highWaterMark: number;
  readonly #index: PageIndex;
  readonly #kept: Buffer[] = [];
  /** The first page after its run. */
  #end: number;

  /** `page` is named by the meta page. */
  constructor(page: number, pageSize: number, highWaterMark: number, index: PageIndex) {
    this.#page = page;
    this.#pageSize = pageSize;
    this.#highWaterMark = highWaterMark;
    this.#index = index;
    this.#end = page;
  }

  addPage({ bytes, view }: Bytes, base: number, page: number): void {
    if (page === this.#page && view.getUint32(base, true) === page && view.getUint32(base + 4, true) === 0) {
      const end = page + view.getUint32(base + 12, true) + 1;
      if (view.getUint16(base + 8, true) === FREELIST_FLAG && end <= this.#highWaterMark) this.#end = end;
    }
    // Twice: once more when its pages are joined.
    if (page < this.#page || page >= this.#end || !this.#index.take(2 * this.#pageSize)) return;
    this.#kept.push(Buffer.from(bytes.subarray(base, base + this.#pageSize)));
  }

  /** Every page must be either used or free, and free only once. */
  judge(used: UsedPages, problems: Problems): void {
    const fail = (message: string, page = this.#page): void => problems.add('freelist', message, page);
    if (this.#kept.length === 0) return fail('the page that the meta page gives as the freelist is not one');
    if (!used.claim(this.#page, this.#kept.length - 1, problems)) return;
    const list = Buffer.concat(this.#kept);
    let count = list.readUInt16LE(10);
    let at = HEADER_SIZE;
    if (count === COUNT_IN_FIRST_ID) {
      count = Number(list.readBigUInt64LE(at));
      at += ID_SIZE;
    }
    if (count > (list.length - at) / ID_SIZE) return fail('the freelist has more ids than fit into its pages');
    for (; count > 0; count--, at += ID_SIZE) {
      const id = Number(list.readBigUInt64LE(at));
      if (id < 2 || id >= this.#highWaterMark) fail(`the freelist has an invalid page ${id}`);
      else if (!used.add(id)) fail(`page ${id} is in the freelist twice, or in use as well`, id);
    }
    const lost = this.#highWaterMark - used.count;
    if (lost > 0) fail(`${lost} pages are neither used nor free`);
  }
}

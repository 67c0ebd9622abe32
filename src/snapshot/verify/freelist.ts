import { Table } from './budget.ts';
import type { PageIndex } from './page-index.ts';
import { type Bytes, FREELIST_FLAG, HEADER_SIZE } from './page.ts';
import type { Faults } from './problems.ts';
import type { UsedPages } from './tree.ts';

const ID_SIZE = 8;

/** A count of this means that the first id is the real count (specification: bbolt file, freelist page). */
const COUNT_IN_FIRST_ID = 0xffff;

/**
 * The stored list of free pages; etcd on Linux stores none. Reads its run as it passes and judges it once the reachable
 * pages are known.
 */
export class Freelist {
  readonly page: number;
  readonly #pageSize: number;
  readonly #pages: number;
  readonly #facts: PageIndex;
  readonly #ids: Table;
  #overflow = 0;
  /** Why the list cannot be read, until its page was seen. */
  #problem: string | undefined = 'there is no freelist page where the meta pages say';
  #pagesLeft = 0;
  #idsLeft = 0;
  #tooMany = false;
  #impossible = 0;
  /** Bytes of the page that passes before its first id. */
  #start = 0;

  /** `page` is where the meta pages say, `pages` the high-water mark. */
  constructor(page: number, pageSize: number, pages: number, facts: PageIndex) {
    this.page = page;
    this.#pageSize = pageSize;
    this.#pages = pages;
    this.#facts = facts;
    this.#ids = new Table(facts.budget, 1);
  }

  next(source: Bytes, base: number, page: number): void {
    if (page === this.page) this.#header(source.view, base, page);
    if (this.#pagesLeft === 0) return;
    this.#pagesLeft--;
    const end = base + this.#pageSize;
    for (let at = base + this.#start; at < end && this.#idsLeft > 0; at += ID_SIZE, this.#idsLeft--) {
      const id = source.view.getUint32(at, true);
      const isPossible = source.view.getUint32(at + 4, true) === 0 && id > 1 && id < this.#pages;
      if (!isPossible) this.#impossible++;
      else if (!this.#tooMany) this.#tooMany = !this.#facts.push(this.#ids, id);
    }
    this.#start = 0;
    if (this.#pagesLeft === 0 && this.#idsLeft === 0) this.#problem = undefined;
  }

  /** Claims the pages of the list itself; they must be claimed before those of the trees. */
  claim(used: UsedPages, faults: Faults): void {
    if (this.#problem !== undefined) return faults.add('freelist', this.#problem, this.page);
    used.claim(this.page, this.#overflow, faults);
  }

  /** Every page must be used or free, and none be both or free twice. */
  judge(used: UsedPages, faults: Faults): void {
    if (this.#problem !== undefined) return;
    if (this.#tooMany) return faults.add('budget', 'the freelist does not fit the memory for one pass', this.page);
    if (this.#impossible > 0) {
      faults.add('freelist', `the freelist holds ${this.#impossible} impossible page numbers`, this.page);
    }
    for (let i = 0; i < this.#ids.length; i++) {
      const id = this.#ids.get(i, 0);
      if (!used.add(id)) faults.add('freelist', `page ${id} is free, but is used or free twice`, id);
    }
    const lost = this.#pages - used.count;
    if (lost > 0) faults.add('freelist', `${lost} pages are neither used nor free`, this.page);
  }

  #header(view: DataView, base: number, page: number): void {
    const overflow = view.getUint32(base + 12, true);
    if (view.getUint32(base, true) !== page || view.getUint32(base + 4, true) !== 0) return;
    if (view.getUint16(base + 8, true) !== FREELIST_FLAG || page + overflow >= this.#pages) return;
    const room = Math.floor(((overflow + 1) * this.#pageSize - HEADER_SIZE) / ID_SIZE);
    let count = view.getUint16(base + 10, true);
    this.#start = HEADER_SIZE;
    if (count === COUNT_IN_FIRST_ID) {
      count = view.getUint32(base + HEADER_SIZE, true) + view.getUint32(base + HEADER_SIZE + 4, true) * 2 ** 32;
      this.#start += ID_SIZE;
    }
    if (count > room - (this.#start - HEADER_SIZE) / ID_SIZE) {
      this.#problem = 'the freelist counts more ids than fit its pages';
      return;
    }
    this.#problem = 'the freelist is cut off';
    this.#overflow = overflow;
    this.#pagesLeft = overflow + 1;
    this.#idsLeft = count;
  }
}

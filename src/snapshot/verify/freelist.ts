import { Table } from './memory-budget.ts';
import type { PageIndex } from './page-index.ts';
import { type Bytes, FREELIST_FLAG, HEADER_SIZE } from './page.ts';
import type { UsedPages } from './tree.ts';
import type { Problems } from './verdict.ts';

const ID_SIZE = 8;

/** A count of this means that the first id is the real count (specification: bbolt file, freelist page). */
const COUNT_IN_FIRST_ID = 0xffff;

/**
 * The stored list of free pages; etcd on Linux stores none. Its run is read as it passes and judged when the reachable pages
 * are known.
 */
export class Freelist {
  readonly page: number;
  readonly #pageSize: number;
  readonly #pages: number;
  readonly #index: PageIndex;
  readonly #ids: Table;
  #overflow = 0;
  /** Why the list cannot be read; undefined once it was. */
  #problem: string | undefined = 'the page that the meta pages name is not a freelist';
  #pagesLeft = 0;
  #idsLeft = 0;
  #tooMany = false;
  #impossible = 0;
  /** Bytes before the first id of the page that passes. */
  #start = 0;

  /** `page` is named by the meta pages, `pages` is the high-water mark. */
  constructor(page: number, pageSize: number, pages: number, index: PageIndex) {
    this.page = page;
    this.#pageSize = pageSize;
    this.#pages = pages;
    this.#index = index;
    this.#ids = new Table(index.budget, 1);
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
      else if (!this.#tooMany) this.#tooMany = !this.#index.push(this.#ids, id);
    }
    this.#start = 0;
    if (this.#pagesLeft === 0 && this.#idsLeft === 0) this.#problem = undefined;
  }

  /** Claims the pages of the list itself; they must be claimed before those of the trees. */
  claim(used: UsedPages, problems: Problems): void {
    if (this.#problem !== undefined) return problems.add('freelist', this.#problem, this.page);
    used.claim(this.page, this.#overflow, problems);
  }

  /** Every page must be either used or free, and free only once. */
  judge(used: UsedPages, problems: Problems): void {
    if (this.#problem !== undefined) return;
    if (this.#tooMany) return problems.add('budget', 'the freelist does not fit the memory for one pass', this.page);
    if (this.#impossible > 0) {
      problems.add('freelist', `the freelist has ${this.#impossible} impossible page numbers`, this.page);
    }
    for (let i = 0; i < this.#ids.length; i++) {
      const id = this.#ids.get(i);
      if (!used.add(id)) problems.add('freelist', `page ${id} is in the freelist, and used or listed twice`, id);
    }
    const lost = this.#pages - used.count;
    if (lost > 0) problems.add('freelist', `${lost} pages are neither used nor free`, this.page);
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
      this.#problem = 'the freelist has more ids than fit its pages';
      return;
    }
    this.#problem = 'the freelist is cut off';
    this.#overflow = overflow;
    this.#pagesLeft = overflow + 1;
    this.#idsLeft = count;
  }
}

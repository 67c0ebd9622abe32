import { PAST_END, type PageIndex, UNFINISHED, UNTRACKED, WRONG_FLAGS, WRONG_ID } from './page-index.ts';
import { BRANCH_FLAG, type Bytes, LEAF_FLAG } from './page.ts';
import { RunReader } from './run-reader.ts';

/**
 * Runs that are read at the same time. More than one is open only if a run is inside another, which etcd does not write,
 * but the value of a user key can look like pages.
 */
const MAX_OPEN = 16;

/**
 * Takes every page as it passes for the start of a run that can be part of a tree, if its header allows it. A page inside
 * a run can be one too: the run can be a stale one.
 */
export class RunTracker {
  readonly #index: PageIndex;
  readonly #pageSize: number;
  readonly #pages: number;
  readonly #open: RunReader[] = [];
  readonly #idle: RunReader[] = [];

  /** `pages` is the high-water mark. */
  constructor(index: PageIndex, pageSize: number, pages: number) {
    this.#index = index;
    this.#pageSize = pageSize;
    this.#pages = pages;
  }

  /** The next page, `page`, is in `source` at offset `base`. */
  page(source: Bytes, base: number, page: number): void {
    for (let i = this.#open.length - 1; i >= 0; i--) {
      const run = this.#open[i]!;
      run.feed(source.bytes, base, base + this.#pageSize);
      if (!run.done) continue;
      this.#index.setPage(run.page, this.#index.add(run));
      this.#open.splice(i, 1);
      this.#idle.push(run);
    }
    this.#index.addPage(this.#begin(source, base, page));
  }

  /** The number of the run that begins at `page`, or why there is none yet. */
  #begin(source: Bytes, base: number, page: number): number {
    const { view } = source;
    if (view.getUint32(base, true) !== page || view.getUint32(base + 4, true) !== 0) return WRONG_ID;
    const flags = view.getUint16(base + 8, true);
    if (flags !== BRANCH_FLAG && flags !== LEAF_FLAG) return WRONG_FLAGS;
    const overflow = view.getUint32(base + 12, true);
    if (page + overflow >= this.#pages) return PAST_END;
    const run = this.#idle.pop() ?? new RunReader(this.#index);
    run.beginRun(source, base, page, this.#pageSize, this.#pages);
    if (!run.done && this.#open.length < MAX_OPEN) {
      this.#open.push(run);
      return UNFINISHED;
    }
    this.#idle.push(run);
    return run.done ? this.#index.add(run) : UNTRACKED;
  }
}

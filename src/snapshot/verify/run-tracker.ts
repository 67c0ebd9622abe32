import { type PageIndex, PAST_END, UNFINISHED, UNTRACKED, WRONG_FLAGS, WRONG_ID } from './page-index.ts';
import { BRANCH_FLAG, type Bytes, LEAF_FLAG } from './page.ts';
import { RunReader } from './run-reader.ts';

/**
 * Runs that are read at the same time. More than one is open only where a run lies inside another, which no etcd writes,
 * but the value of a user key may look like pages.
 */
const MAX_OPEN = 16;

/**
 * Takes every page as it passes for the start of a run that may be part of a tree, when its header allows it. A page inside
 * a run may be one too: the run may be a stale one.
 */
export class RunTracker {
  readonly #facts: PageIndex;
  readonly #pageSize: number;
  readonly #pages: number;
  readonly #open: RunReader[] = [];
  readonly #idle: RunReader[] = [];

  /** `pages` is the high-water mark: pages from there on do not exist. */
  constructor(facts: PageIndex, pageSize: number, pages: number) {
    this.#facts = facts;
    this.#pageSize = pageSize;
    this.#pages = pages;
  }

  /** The next page, `page`, lies in `source` from offset `base` on. */
  page(source: Bytes, base: number, page: number): void {
    for (const run of this.#open) run.feed(source.bytes, base, base + this.#pageSize);
    if (this.#open.length > 0) this.#close();
    this.#facts.addPage(this.#begin(source, base, page));
  }

  /** The fact of the run that begins at `page`, or why there is none yet. */
  #begin(source: Bytes, base: number, page: number): number {
    const { view } = source;
    if (view.getUint32(base, true) !== page || view.getUint32(base + 4, true) !== 0) return WRONG_ID;
    const flags = view.getUint16(base + 8, true);
    if (flags !== BRANCH_FLAG && flags !== LEAF_FLAG) return WRONG_FLAGS;
    const overflow = view.getUint32(base + 12, true);
    if (page + overflow >= this.#pages) return PAST_END;
    const run = this.#idle.pop() ?? new RunReader(this.#facts);
    run.beginRun(source, base, page, this.#pageSize, this.#pages);
    if (!run.done && this.#open.length < MAX_OPEN) {
      this.#open.push(run);
      return UNFINISHED;
    }
    this.#idle.push(run);
    return run.done ? this.#facts.add(run) : UNTRACKED;
  }

  #close(): void {
    for (let i = this.#open.length - 1; i >= 0; i--) {
      const run = this.#open[i]!;
      if (!run.done) continue;
      this.#facts.setPage(run.page, this.#facts.add(run));
      this.#open.splice(i, 1);
      this.#idle.push(run);
    }
  }
}

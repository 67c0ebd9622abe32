import { createHash } from 'node:crypto';
import { readBuckets } from './buckets.ts';
import { Budget } from './memory-budget.ts';
import { summarize, type Summary } from './etcd-buckets.ts';
import { Freelist } from './freelist.ts';
import { hasTrailer, Header, type Meta, NO_FREELIST, TRAILER_SIZE } from './header.ts';
import { META, PageIndex } from './page-index.ts';
import { type Bytes, bytesOf } from './page.ts';
import { RunTracker } from './run-tracker.ts';
import { TreeWalk, UsedPages } from './tree.ts';
import { Problems, type Verdict, type VerdictWithoutHash, type VerifyReport } from './verdict.ts';
import { type SnapshotFacts, VerifiedSnapshot } from './verified-snapshot.ts';

/*
 * Pages → runs → trees → buckets → keys:
 *
 *   while the bytes pass                              after the last byte
 *   ────────────────────                              ───────────────────
 *   pieces ─┬─► sha256 of all but the trailer ──────► compared with the trailer
 *           ├─► header.ts: the two meta pages ──────► sizes and meta pages are those that a server writes
 *           └─► pages, cut here                            │ root page
 *                 ├─► freelist.ts (rarely stored) ─────────┼──────► every page is used or free
 *                 └─► run-tracker.ts: a page that          ▼
 *                     can begin a run             tree.ts: pages, order of keys, each page used once
 *                       │                                  │ leaves
 *                       ▼                                  ▼
 *                     run-reader.ts: elements     buckets.ts: the ten buckets of etcd, hash, total keys
 *                       │ leaf-entries.ts: keys            │
 *                       │ of etcd (protobuf.ts)            ▼
 *                       ▼                         etcd-buckets.ts: members, alarms, versions, revision
 *                     page-index.ts: what was              │
 *                     found in each run, ────────►         ▼
 *                     within memory-budget.ts     live-keys.ts: live keys, HashKV
 *
 * The result is in verdict.ts, and the permit to store the snapshot in verified-snapshot.ts.
 */

const DEFAULT_MEMORY_BUDGET = 256 * 1024 * 1024;

/** Page numbers are kept in 32 bits; a database with more pages would have 16 TiB. */
const MAX_PAGES = 0xffff_0000n;

export interface VerifierOptions {
  /** Bytes of the index, 256 MiB by default. */
  readonly memoryBudget?: number;
}

/**
 * Verifies a snapshot while its bytes pass, in pieces of any size (specification: one streaming pass). It keeps no piece and
 * changes none, and stays within a hard memory budget.
 */
export class SnapshotVerifier {
  readonly #sha256 = createHash('sha256');
  readonly #budget: Budget;
  readonly #header = new Header();
  #size = 0;
  /** The last bytes seen, at most the length of a trailer: they are the trailer if the stream ends here. */
  #tail: Buffer = Buffer.alloc(0);
  /** A page that is cut by the end of a piece, and how many of its bytes are there. */
  #carry: Bytes = bytesOf(Buffer.alloc(0));
  #carried = 0;
  /** The next page: the header takes the first two. */
  #page = 2;
  #pages = 0;
  #index: PageIndex | undefined;
  #runs: RunTracker | undefined;
  #freelist: Freelist | undefined;
  #isFinished = false;
  #verdict: Verdict | undefined;

  constructor(options: VerifierOptions = {}) {
    this.#budget = new Budget(options.memoryBudget ?? DEFAULT_MEMORY_BUDGET);
  }

  /** Peak of the memory budget in bytes. */
  get peakMemory(): number {
    return this.#budget.peak;
  }

  push(piece: Uint8Array): void {
    if (piece.length === 0 || this.#isFinished) return;
    this.#size += piece.length;
    const source = bytesOf(piece);
    this.#hash(source.bytes);
    if (this.#header.isComplete) return this.#cut(source);
    const taken = this.#header.take(source.bytes);
    if (!this.#header.isComplete) return;
    this.#beginPages();
    this.#cut(bytesOf(piece.subarray(taken)));
  }

  /** After the last piece. */
  finish(): Verdict {
    return (this.#verdict ??= this.#finish(true, (facts) => new VerifiedSnapshot(facts)));
  }

  /**
   * Instead of `finish`, for a copy of a member's database: its sha256, if there is one, is not compared. All else is checked
   * that the newer meta page leads to; the rest of the file can be anything, as a server goes on writing there.
   */
  finishWithoutHash(): VerdictWithoutHash {
    return this.#finish(false, (facts) => ({ facts }));
  }

  /** The sha256 is of everything but the trailer: as many bytes are always held back. */
  #hash(bytes: Buffer): void {
    const held = this.#tail.length + bytes.length - TRAILER_SIZE;
    if (held <= 0) {
      this.#tail = Buffer.concat([this.#tail, bytes]);
      return;
    }
    const fromTail = Math.min(held, this.#tail.length);
    this.#sha256.update(this.#tail.subarray(0, fromTail));
    this.#sha256.update(bytes.subarray(0, held - fromTail));
    this.#tail = Buffer.concat([this.#tail.subarray(fromTail), bytes.subarray(held - fromTail)]);
  }

  /** Cuts pieces into pages. The trailer is not a page: it is shorter than one. */
  #cut(source: Bytes): void {
    const { length } = source.bytes;
    const size = this.#carry.bytes.length;
    for (let at = 0; at < length && this.#page < this.#pages;) {
      if (this.#carried === 0 && length - at >= size) {
        this.#nextPage(source, at);
        at += size;
        continue;
      }
      const end = Math.min(length, at + size - this.#carried);
      this.#carried += source.bytes.copy(this.#carry.bytes, this.#carried, at, end);
      at = end;
      if (this.#carried < size) continue;
      this.#carried = 0;
      this.#nextPage(this.#carry, 0);
    }
  }

  #nextPage(source: Bytes, base: number): void {
    const page = this.#page++;
    this.#runs?.page(source, base, page);
    this.#freelist?.next(source, base, page);
  }

  /** From here on the pages are those of the newer meta page. */
  #beginPages(): void {
    const { meta, pageSize } = this.#header;
    const rest = bytesOf(this.#header.takeRest());
    if (meta === undefined || pageSize === undefined) return;
    if (meta.highWaterMark > MAX_PAGES || meta.root >= meta.highWaterMark) return;
    this.#carry = bytesOf(Buffer.alloc(pageSize));
    this.#pages = Number(meta.highWaterMark);
    this.#index = new PageIndex(this.#budget, Number(meta.root));
    this.#index.addPage(META);
    this.#index.addPage(META);
    this.#runs = new RunTracker(this.#index, pageSize, this.#pages);
    if (meta.freelist !== NO_FREELIST && meta.freelist < meta.highWaterMark) {
      this.#freelist = new Freelist(Number(meta.freelist), pageSize, this.#pages, this.#index);
    }
    this.#cut(rest);
  }

  #finish<S extends { readonly facts: SnapshotFacts }>(
    hashChecked: boolean,
    accept: (facts: SnapshotFacts) => S,
  ): Verdict<S> {
    if (!this.#header.isComplete) {
      this.#header.end();
      this.#beginPages();
    }
    this.#isFinished = true;
    const problems = new Problems();
    const { meta } = this.#header;
    const size = this.#size;
    const kind = hashChecked ? this.#header.judge(size, problems) : this.#header.judgeDatabase(size, problems);
    const isHashEqual = this.#sha256.copy().digest().equals(this.#tail);
    if (hashChecked && kind === undefined && !isHashEqual) {
      problems.add('trailer', 'the sha256 at its end does not match the bytes before it');
    }
    const sha256 = this.#sha256.update(this.#tail).digest('hex');
    const content = meta && this.#judgeContent(meta, problems);
    const totalSize = meta && Number(meta.highWaterMark) * meta.pageSize;
    const facts = factsOf(size, sha256, totalSize, content);
    // Whatever is missing is a problem already. But nothing must pass because of a defect here.
    if (facts === undefined && problems.count === 0)
      problems.add('budget', 'its content could not be read in one pass');
    const report: VerifyReport = {
      ok: problems.count === 0,
      size,
      sha256,
      trailer: hashChecked || hasTrailer(size) ? this.#tail.toString('hex') : '',
      hashChecked,
      hash: content?.hash ?? null,
      revision: content?.revision ?? null,
      effectiveRevision: content?.effectiveRevision ?? null,
      totalKeys: content?.totalKeys ?? null,
      liveKeys: content?.liveKeys ?? null,
      totalSize: totalSize ?? null,
      faults: problems.listed,
      faultCount: problems.count,
    };
    const [first, ...others] = problems.listed;
    const checksum = isHashEqual ? 'valid' : hasTrailer(size) ? 'wrong' : 'missing';
    return first === undefined && facts !== undefined
      ? { ok: true, snapshot: accept(facts), report, checksum }
      : { ok: false, problems: [first!, ...others], undecided: !problems.certain, kind, report };
  }

  /** The content of the trees; undefined when they are corrupt. */
  #judgeContent(meta: Meta, problems: Problems): Summary | undefined {
    const index = this.#index;
    if (index === undefined) return undefined;
    const { length } = index.pages;
    if (index.isExhausted || !index.take(UsedPages.size(length))) {
      const { limit } = this.#budget;
      problems.add('budget', `its structure takes more than ${limit} bytes of memory to verify in one pass`);
      return undefined;
    }
    const used = new UsedPages(length);
    used.add(0);
    used.add(1);
    this.#freelist?.claim(used, problems);
    const walk = new TreeWalk(index, used, problems);
    const buckets = readBuckets(index, Number(meta.root), walk, problems);
    if (buckets === undefined) return undefined;
    this.#freelist?.judge(used, problems);
    return summarize(index, buckets, meta.pageSize, problems);
  }
}

function factsOf(
  size: number,
  sha256: string,
  totalSize: number | undefined,
  content: Summary | undefined,
): SnapshotFacts | undefined {
  if (totalSize === undefined || content === undefined) return undefined;
  const { revision, effectiveRevision, keyPages } = content;
  if (revision === undefined || effectiveRevision === undefined || keyPages === undefined) return undefined;
  return { ...content, size, sha256, totalSize, revision, effectiveRevision, keyPages };
}

import { createHash } from 'node:crypto';
import { readBuckets } from './buckets.ts';
import { summarize, type Summary } from './etcd-buckets.ts';
import { Budget } from './memory-budget.ts';
import { PageIndex } from './page-index.ts';
import { type Bytes, bytesOf, hasTrailer, Header, HEADER_BYTES, type Meta, NO_FREELIST, TRAILER_SIZE } from './page.ts';
import { Freelist, TreeWalk, UsedPages } from './tree-and-freelist.ts';
import {
  Problems,
  type SnapshotFacts,
  type Verdict,
  type VerdictWithoutHash,
  VerifiedSnapshot,
  type VerifyReport,
} from './verdict.ts';

/*
 * Pages → runs → trees → buckets → keys:
 *
 *   while the bytes pass                              after the last byte
 *   ────────────────────                              ───────────────────
 *   pieces ─┬─► sha256 of all but the trailer ──────► compared with the trailer
 *           ├─► page.ts: the two meta pages ────────► sizes and meta pages are those that a server writes
 *           └─► pages, cut here                            │ root page
 *                 │                                        ▼
 *                 ├─► freelist (rarely stored) ──────► tree-and-freelist.ts: pages, order of keys,
 *                 └─► page-index.ts: a page that           │ each page is used once, or free
 *                     can begin a run                      │ leaves
 *                       │                                  ▼
 *                       ▼                              buckets.ts: the ten buckets of etcd
 *                     run-reader.ts: elements              │
 *                       │ leaf-entries.ts: keys            ▼
 *                       │ of etcd                      etcd-buckets.ts: hash, members, alarms, versions, revision
 *                       ▼                                  │
 *                     page-index.ts: what was              ▼
 *                     found in each run, ────────────► live-keys.ts: live keys, HashKV
 *                     within memory-budget.ts
 *
 * The result, and the permit to store the snapshot, are in verdict.ts.
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
  #size = 0;
  /** The last bytes seen, at most the length of a trailer: they are the trailer if the stream ends here. */
  #tail: Buffer = Buffer.alloc(0);
  readonly #head = Buffer.alloc(HEADER_BYTES);
  #header: Header | undefined;
  /** A page that is cut by the end of a piece, and how many of its bytes are there. */
  #carry: Bytes = bytesOf(Buffer.alloc(0));
  #carried = 0;
  /** The next page: the header takes the first two. */
  #page = 2;
  #pages = 0;
  #index: PageIndex | undefined;
  #freelist: Freelist | undefined;
  #isFinished = false;
  #verdict: Verdict | undefined;

  constructor({ memoryBudget = DEFAULT_MEMORY_BUDGET }: VerifierOptions = {}) {
    this.#budget = new Budget(memoryBudget);
  }

  /** Peak of the memory budget in bytes. */
  get peakMemory(): number {
    return this.#budget.peak;
  }

  push(piece: Uint8Array): void {
    if (piece.length === 0 || this.#isFinished) return;
    const source = bytesOf(piece);
    this.#hash(source.bytes);
    const taken = this.#header === undefined ? source.bytes.copy(this.#head, this.#size) : 0;
    this.#size += piece.length;
    if (this.#header === undefined && this.#size >= HEADER_BYTES) this.#beginPages(this.#head);
    if (taken < piece.length) this.#cut(taken === 0 ? source : bytesOf(piece.subarray(taken)));
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

  /** The sha256 covers everything but the trailer, so the last 32 bytes are always held back. */
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

  /** From here on the pages are those of the newer meta page. */
  #beginPages(head: Buffer): Header {
    const header = new Header(head);
    const { meta, pageSize } = header;
    this.#header = header;
    if (meta === undefined || meta.highWaterMark > MAX_PAGES || meta.root >= meta.highWaterMark) return header;
    this.#carry = bytesOf(Buffer.alloc(pageSize));
    this.#pages = Number(meta.highWaterMark);
    this.#index = new PageIndex(this.#budget, Number(meta.root), pageSize, this.#pages);
    if (meta.freelist !== NO_FREELIST && meta.freelist < meta.highWaterMark) {
      this.#freelist = new Freelist(Number(meta.freelist), pageSize, this.#pages, this.#index);
    }
    this.#cut(bytesOf(head.subarray(2 * pageSize)));
    return header;
  }

  /** Cuts pieces into pages. The trailer is not a page: it is shorter than one. */
  #cut(source: Bytes): void {
    const { length } = source.bytes;
    const size = this.#carry.bytes.length;
    for (let at = 0; at < length && this.#page < this.#pages;) {
      if (this.#carried === 0 && length - at >= size) {
        this.#addPage(source, at);
        at += size;
        continue;
      }
      const end = Math.min(length, at + size - this.#carried);
      this.#carried += source.bytes.copy(this.#carry.bytes, this.#carried, at, end);
      at = end;
      if (this.#carried < size) continue;
      this.#carried = 0;
      this.#addPage(this.#carry, 0);
    }
  }

  #addPage(source: Bytes, base: number): void {
    const page = this.#page++;
    this.#index?.addPage(source, base, page);
    this.#freelist?.addPage(source, base, page);
  }

  #finish<S extends { readonly facts: SnapshotFacts }>(
    hashChecked: boolean,
    accept: (facts: SnapshotFacts) => S,
  ): Verdict<S> {
    this.#isFinished = true;
    const size = this.#size;
    const header = this.#header ?? this.#beginPages(this.#head.subarray(0, size));
    const { meta } = header;
    const problems = new Problems();
    const kind = hashChecked ? header.judge(size, problems) : header.judgeDatabase(size, problems);
    const isHashEqual = this.#sha256.copy().digest().equals(this.#tail);
    if (hashChecked && kind === undefined && !isHashEqual) {
      problems.add('trailer', 'the sha256 at its end does not match the bytes before it');
    }
    const sha256 = this.#sha256.update(this.#tail).digest('hex');
    const content = meta && this.#judgeContent(meta, header.pageSize, problems);
    const totalSize = meta && Number(meta.highWaterMark) * header.pageSize;
    const facts = factsOf(size, sha256, totalSize, content);
    // Whatever is missing is a problem already. But nothing must pass because of a defect here.
    if (facts === undefined && problems.count === 0)
      problems.add('budget', 'its content could not be read in one pass');
    const known: Partial<Summary> = content ?? {};
    const { hash = null, revision = null, effectiveRevision = null, totalKeys = null, liveKeys = null } = known;
    const report: VerifyReport = {
      ok: problems.count === 0,
      size,
      sha256,
      trailer: hashChecked || hasTrailer(size) ? this.#tail.toString('hex') : '',
      hashChecked,
      ...{ hash, revision, effectiveRevision, totalKeys, liveKeys, totalSize: totalSize ?? null },
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
  #judgeContent(meta: Meta, pageSize: number, problems: Problems): Summary | undefined {
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
    const buckets = readBuckets(new TreeWalk(index, used, problems), Number(meta.root));
    if (buckets === undefined) return undefined;
    this.#freelist?.judge(used, problems);
    return summarize(index, buckets, pageSize, problems);
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

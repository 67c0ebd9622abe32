import { createHash } from 'node:crypto';
import type { FileKind } from './file-kind.ts';
import type { KeyPages } from './keys.ts';
import { summarize, type Summary } from './summary.ts';
import { readBuckets } from './buckets.ts';
import { Budget } from './budget.ts';
import { Freelist } from './freelist.ts';
import { hasTrailer, Header, TRAILER_SIZE } from './header.ts';
import { type Meta, NO_FREELIST } from './meta.ts';
import { PageIndex, META } from './page-index.ts';
import { type Bytes, bytesOf } from './page.ts';
import { type Fault, Faults } from './problems.ts';
import { RunTracker } from './run-tracker.ts';
import { TreeWalk, UsedPages } from './tree.ts';

const DEFAULT_MEMORY_BUDGET = 256 * 1024 * 1024;

/** Page numbers are kept in 32 bits; a database with more pages would have 16 TiB. */
const MAX_PAGES = 0xffff_0000n;

/** What is known of a snapshot that passed. Sizes are bytes. */
export interface SnapshotFacts extends Summary {
  /** Of the whole file, trailer included. */
  readonly size: number;
  /** Of the whole file in lower-case hex, as `sha256sum` prints it. */
  readonly sha256: string;
  /** Of the database without the trailer: `TOTAL SIZE` of `etcdctl snapshot status`. */
  readonly totalSize: number;
  readonly revision: number;
  readonly effectiveRevision: number;
  readonly keyPages: KeyPages;
}

/** Only a verifier makes one, after every check passed: what demands it cannot be given an unverified snapshot. */
class Verified {
  readonly #facts: SnapshotFacts;

  constructor(facts: SnapshotFacts) {
    this.#facts = Object.freeze({ ...facts });
  }

  get facts(): SnapshotFacts {
    return this.#facts;
  }
}

export type VerifiedSnapshot = Verified;

/** The JSON document of `verify`: everything that could be computed of a sound or broken snapshot, null what could not. */
interface VerifyReport {
  readonly ok: boolean;
  readonly size: number;
  readonly sha256: string;
  /** The last 32 bytes in hex, fewer when there are not so many; none of a database that has no sha256. */
  readonly trailer: string;
  /** Whether the sha256 at its end was compared; false only with `--skip-hash-check`. */
  readonly hashChecked: boolean;
  readonly hash: string | null;
  readonly revision: number | null;
  readonly effectiveRevision: number | null;
  readonly totalKeys: number | null;
  readonly liveKeys: number | null;
  readonly totalSize: number | null;
  /** At most a hundred; `faultCount` says how many there are. */
  readonly faults: readonly Fault[];
  readonly faultCount: number;
}

/** `S` is what a passed snapshot is given as. */
export type Verdict<S extends { readonly facts: SnapshotFacts } = VerifiedSnapshot> =
  { readonly ok: true; readonly snapshot: S; readonly report: VerifyReport } | Rejected;

/** Nothing proves that its bytes are those that etcd wrote: it can be read and restored, and never stored. */
export type VerdictWithoutHash = Verdict<{ readonly facts: SnapshotFacts }>;

interface Rejected {
  readonly ok: false;
  readonly faults: readonly [Fault, ...Fault[]];
  /** Nothing wrong was found, but one pass was not enough to tell: verify the snapshot another way. */
  readonly undecided: boolean;
  /** What it seems to be instead, where that is known. */
  readonly kind: FileKind | undefined;
  readonly report: VerifyReport;
}

export interface VerifierOptions {
  /** Bytes that all facts together may take, 256 MiB unless told. */
  readonly memoryBudget?: number;
}

/**
 * Judges a snapshot while its bytes pass, in pieces of any size (specification: one streaming pass). It keeps no piece and
 * changes none, and holds facts of pages instead of pages, within a hard budget of memory.
 */
export class SnapshotVerifier {
  readonly #sha256 = createHash('sha256');
  readonly #budget: Budget;
  readonly #header = new Header();
  #size = 0;
  /** The last bytes seen, at most a trailer's length: the trailer, should the stream end here. */
  #tail: Buffer = Buffer.alloc(0);
  /** A page that straddles pieces. */
  #carry: Bytes = bytesOf(Buffer.alloc(0));
  #carried = 0;
  /** The next page that passes: the header takes the first two. */
  #page = 2;
  #pages = 0;
  #facts: PageIndex | undefined;
  #candidates: RunTracker | undefined;
  #freelist: Freelist | undefined;
  #isFinished = false;
  #verdict: Verdict | undefined;

  constructor(options: VerifierOptions = {}) {
    this.#budget = new Budget(options.memoryBudget ?? DEFAULT_MEMORY_BUDGET);
  }

  /** Bytes that the facts took at the most. */
  get peakMemory(): number {
    return this.#budget.peak;
  }

  push(piece: Uint8Array): void {
    if (piece.length === 0 || this.#isFinished) return;
    this.#size += piece.length;
    const { bytes } = bytesOf(piece);
    this.#hash(bytes);
    if (this.#header.isComplete) return this.#cut(bytesOf(piece));
    const taken = this.#header.take(bytes);
    if (!this.#header.isComplete) return;
    this.#beginFacts();
    this.#cut(bytesOf(piece.subarray(taken)));
  }

  /** Call once, after the last piece. */
  finish(): Verdict {
    return (this.#verdict ??= this.#finish(true, (facts) => new Verified(facts)));
  }

  /**
   * The same instead of `finish`, for a copy of a member's database: its sha256, if there is one, is not looked at. All else is
   * checked that the newer meta page leads to; what else is in the file may be anything, as a server goes on writing there.
   */
  finishWithoutHash(): VerdictWithoutHash {
    return this.#finish(false, (facts) => ({ facts }));
  }

  /** The sum covers everything but the trailer, so as many bytes are always held back. */
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

  /** Cuts pieces into pages. The trailer makes no page: it is less than one. */
  #cut(source: Bytes): void {
    const { length } = source.bytes;
    const size = this.#carry.bytes.length;
    let at = 0;
    while (at < length && this.#candidates !== undefined && this.#page < this.#pages) {
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
    this.#candidates?.page(source, base, page);
    this.#freelist?.next(source, base, page);
  }

  /** From here on the pages are taken to be what the newer meta page says. */
  #beginFacts(): void {
    const { meta, pageSize } = this.#header;
    const rest = bytesOf(this.#header.takeRest());
    if (meta === undefined || pageSize === undefined) return;
    if (meta.highWaterMark > MAX_PAGES || meta.root >= meta.highWaterMark) return;
    this.#carry = bytesOf(Buffer.alloc(pageSize));
    this.#pages = Number(meta.highWaterMark);
    this.#facts = new PageIndex(this.#budget, Number(meta.root));
    this.#facts.addPage(META);
    this.#facts.addPage(META);
    this.#candidates = new RunTracker(this.#facts, pageSize, this.#pages);
    if (meta.freelist !== NO_FREELIST && meta.freelist < meta.highWaterMark) {
      this.#freelist = new Freelist(Number(meta.freelist), pageSize, this.#pages, this.#facts);
    }
    this.#cut(rest);
  }

  #finish<S extends { readonly facts: SnapshotFacts }>(
    hashChecked: boolean,
    pass: (facts: SnapshotFacts) => S,
  ): Verdict<S> {
    if (!this.#header.isComplete) {
      this.#header.end();
      this.#beginFacts();
    }
    this.#isFinished = true;
    const faults = new Faults();
    const { meta } = this.#header;
    const kind = hashChecked ? this.#header.judge(this.#size, faults) : this.#header.judgeDatabase(this.#size, faults);
    const isSum = this.#sha256.copy().digest().equals(this.#tail);
    if (hashChecked && kind === undefined && !isSum) {
      faults.add('trailer', 'the sha256 at its end does not match the bytes before it');
    }
    const sha256 = this.#sha256.update(this.#tail).digest('hex');
    const content = meta === undefined ? undefined : this.#judgeContent(meta, faults);
    const totalSize = meta === undefined ? undefined : Number(meta.highWaterMark) * meta.pageSize;
    const report: VerifyReport = {
      ok: faults.count === 0,
      size: this.#size,
      sha256,
      trailer: hashChecked || hasTrailer(this.#size) ? this.#tail.toString('hex') : '',
      hashChecked,
      hash: content?.hash ?? null,
      revision: content?.revision ?? null,
      effectiveRevision: content?.effectiveRevision ?? null,
      totalKeys: content?.totalKeys ?? null,
      liveKeys: content?.liveKeys ?? null,
      totalSize: totalSize ?? null,
      faults: faults.listed,
      faultCount: faults.count,
    };
    const [first, ...others] = faults.listed;
    if (first !== undefined) {
      return { ok: false, faults: [first, ...others], undecided: !faults.certain, kind, report };
    }
    const { revision, effectiveRevision, keyPages } = content ?? {};
    const isWhole = revision !== undefined && effectiveRevision !== undefined && keyPages !== undefined;
    if (content === undefined || totalSize === undefined || !isWhole) {
      // Cannot be, as whatever is missing is a fault. But nothing must pass by a mistake of ours.
      const fault: Fault = { kind: 'content', message: 'its content could not be read' };
      const nothing: VerifyReport = { ...report, ok: false, faults: [fault], faultCount: 1 };
      return { ok: false, faults: [fault], undecided: true, kind, report: nothing };
    }
    const facts = { ...content, size: this.#size, sha256, totalSize, revision, effectiveRevision, keyPages };
    return { ok: true, snapshot: pass(facts), report };
  }

  /** Everything that hangs on the trees; undefined when they are broken. */
  #judgeContent(meta: Meta, faults: Faults): Summary | undefined {
    const facts = this.#facts;
    if (facts === undefined) return undefined;
    if (facts.exhausted || !facts.take(UsedPages.size(facts.pages.length))) {
      faults.add('budget', `its structure takes more than ${this.#budget.limit} bytes of memory to verify in one pass`);
      return undefined;
    }
    const used = new UsedPages(facts.pages.length);
    used.add(0);
    used.add(1);
    this.#freelist?.claim(used, faults);
    const walk = new TreeWalk(facts, used, faults);
    const buckets = readBuckets(facts, Number(meta.root), walk, faults);
    if (buckets === undefined) return undefined;
    this.#freelist?.judge(used, faults);
    return summarize(facts, buckets, meta.pageSize, faults);
  }
}

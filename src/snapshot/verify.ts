import { createHash } from 'node:crypto';
import { Budget } from './budget.ts';
import { readBuckets } from './buckets.ts';
import { Candidates } from './candidates.ts';
import { FactStore, META } from './facts.ts';
import { type Fault, Faults } from './faults.ts';
import { Freelist } from './freelist.ts';
import type { KeyPages } from './keys.ts';
import { claimedPageSize, type Meta, META_END, metasAgree, NO_FREELIST, readMeta } from './meta.ts';
import { type Bytes, bytesOf } from './page.ts';
import { summarize, type Summary } from './summary.ts';
import { TreeWalk, UsedPages } from './tree.ts';

/** Bytes of the sha256 that an etcd server appends to the database. */
const TRAILER_SIZE = 32;

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
export interface VerifyReport {
  readonly ok: boolean;
  readonly size: number;
  readonly sha256: string;
  /** The last 32 bytes in hex, fewer when there are not so many. */
  readonly trailer: string;
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

export type Verdict =
  | { readonly ok: true; readonly snapshot: VerifiedSnapshot; readonly report: VerifyReport }
  | {
      readonly ok: false;
      readonly faults: readonly [Fault, ...Fault[]];
      /** Nothing wrong was found, but one pass was not enough to tell: verify the snapshot another way. */
      readonly undecided: boolean;
      readonly report: VerifyReport;
    };

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
  #size = 0;
  /** The last bytes seen, at most a trailer's length: the trailer, should the stream end here. */
  #tail: Buffer = Buffer.alloc(0);
  /** A page that straddles pieces; its size is known once its first bytes are. */
  #carry: Bytes = bytesOf(Buffer.alloc(META_END));
  #carried = 0;
  #pageSize: number | undefined;
  #page = 0;
  #pages = 0;
  #meta0: Meta | string | undefined;
  #meta1: Meta | string | undefined;
  #facts: FactStore | undefined;
  #candidates: Candidates | undefined;
  #freelist: Freelist | undefined;
  #verdict: Verdict | undefined;

  constructor(options: VerifierOptions = {}) {
    this.#budget = new Budget(options.memoryBudget ?? DEFAULT_MEMORY_BUDGET);
  }

  /** Bytes that the facts took at the most. */
  get peakMemory(): number {
    return this.#budget.peak;
  }

  push(piece: Uint8Array): void {
    if (piece.length === 0 || this.#verdict !== undefined) return;
    this.#size += piece.length;
    const source = bytesOf(piece);
    this.#hash(source.bytes);
    this.#cut(source);
  }

  /** Call once, after the last piece. */
  finish(): Verdict {
    return (this.#verdict ??= this.#judge());
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
    let at = 0;
    while (at < length && this.#wantsMore()) {
      const size = this.#carry.bytes.length;
      if (this.#carried === 0 && this.#pageSize !== undefined && length - at >= size) {
        this.#nextPage(source, at);
        at += size;
        continue;
      }
      const end = Math.min(length, at + size - this.#carried);
      this.#carried += source.bytes.copy(this.#carry.bytes, this.#carried, at, end);
      at = end;
      if (this.#carried < size) continue;
      if (this.#pageSize === undefined) this.#learnPageSize();
      else {
        this.#carried = 0;
        this.#nextPage(this.#carry, 0);
      }
    }
  }

  #wantsMore(): boolean {
    if (this.#page < 2) return typeof this.#meta0 !== 'string';
    return this.#candidates !== undefined && this.#page < this.#pages;
  }

  #learnPageSize(): void {
    const head = this.#carry.bytes;
    this.#pageSize = claimedPageSize(head);
    if (this.#pageSize === undefined) {
      this.#meta0 = 'meta page 0 names an impossible page size';
      return;
    }
    this.#carry = bytesOf(Buffer.alloc(this.#pageSize));
    head.copy(this.#carry.bytes);
  }

  #nextPage(source: Bytes, base: number): void {
    const page = this.#page++;
    if (page === 0) this.#meta0 = readMeta(source.bytes.subarray(base, base + this.#carry.bytes.length), 0);
    else if (page === 1) {
      this.#meta1 = readMeta(source.bytes.subarray(base, base + this.#carry.bytes.length), 1);
      this.#beginFacts();
    } else {
      this.#candidates?.page(source, base, page);
      this.#freelist?.next(source, base, page);
    }
  }

  /** From here on the pages are taken to be what meta page 0 says. */
  #beginFacts(): void {
    const meta = this.#meta0;
    const pageSize = this.#pageSize;
    if (meta === undefined || typeof meta === 'string' || pageSize === undefined) return;
    if (meta.highWaterMark > MAX_PAGES || meta.root >= meta.highWaterMark) return;
    this.#pages = Number(meta.highWaterMark);
    this.#facts = new FactStore(this.#budget, Number(meta.root));
    this.#facts.addPage(META);
    this.#facts.addPage(META);
    this.#candidates = new Candidates(this.#facts, pageSize, this.#pages);
    if (meta.freelist === NO_FREELIST || meta.freelist >= meta.highWaterMark) return;
    this.#freelist = new Freelist(Number(meta.freelist), pageSize, this.#pages, this.#facts);
  }

  #judge(): Verdict {
    const faults = new Faults();
    const meta = this.#judgeFile(faults);
    const bodySha256 = this.#sha256.copy().digest();
    if (!bodySha256.equals(this.#tail)) {
      faults.add('trailer', 'the sha256 at its end does not match the bytes before it');
    }
    const sha256 = this.#sha256.update(this.#tail).digest('hex');
    const content = meta === undefined ? undefined : this.#judgeContent(meta, faults);
    const totalSize = meta === undefined ? undefined : Number(meta.highWaterMark) * meta.pageSize;
    const report: VerifyReport = {
      ok: faults.count === 0,
      size: this.#size,
      sha256,
      trailer: this.#tail.toString('hex'),
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
    if (first !== undefined) return { ok: false, faults: [first, ...others], undecided: !faults.certain, report };
    const { revision, effectiveRevision, keyPages } = content ?? {};
    const isWhole = revision !== undefined && effectiveRevision !== undefined && keyPages !== undefined;
    if (content === undefined || totalSize === undefined || !isWhole) {
      // Cannot be, as whatever is missing is a fault. But nothing must pass by a mistake of ours.
      const fault: Fault = { kind: 'content', message: 'its content could not be read' };
      const nothing: VerifyReport = { ...report, ok: false, faults: [fault], faultCount: 1 };
      return { ok: false, faults: [fault], undecided: true, report: nothing };
    }
    const facts = { ...content, size: this.#size, sha256, totalSize, revision, effectiveRevision, keyPages };
    return { ok: true, snapshot: new Verified(facts), report };
  }

  /** Length and meta pages; the meta when page 0 can be believed. */
  #judgeFile(faults: Faults): Meta | undefined {
    const meta0 = this.#meta0;
    const meta1 = this.#meta1;
    if (typeof meta0 === 'string') faults.add('meta', meta0, 0);
    if (typeof meta1 === 'string') faults.add('meta', meta1, 1);
    if (meta0 === undefined || (typeof meta0 !== 'string' && meta1 === undefined)) {
      faults.add('length', `${this.#size} bytes are too few for a database`);
    }
    if (meta0 === undefined || typeof meta0 === 'string') return undefined;
    const expected = meta0.highWaterMark * BigInt(meta0.pageSize) + BigInt(TRAILER_SIZE);
    if (expected !== BigInt(this.#size)) {
      faults.add('length', `${this.#size} bytes, but its meta pages demand ${expected}`);
    }
    if (meta1 !== undefined && typeof meta1 !== 'string' && !metasAgree(meta0, meta1)) {
      faults.add('meta', 'the two meta pages are not of one transaction', 1);
    }
    if (meta0.root < 2n || meta0.root >= meta0.highWaterMark) {
      faults.add('meta', `meta page 0 names an impossible root page ${meta0.root}`, 0);
    }
    if (meta0.freelist !== NO_FREELIST && (meta0.freelist < 2n || meta0.freelist >= meta0.highWaterMark)) {
      faults.add('meta', `meta page 0 names an impossible freelist page ${meta0.freelist}`, 0);
    }
    return meta0;
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

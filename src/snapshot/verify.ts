import { createHash } from 'node:crypto';
import { claimedPageSize, type Meta, META_END, metasAgree, readMeta } from './meta.ts';

/** Bytes of the sha256 that an etcd server appends to the database. */
const TRAILER_SIZE = 32;

/** One thing that is wrong with a snapshot. `page` is the bbolt page number where it was found. */
export interface Fault {
  readonly kind: 'length' | 'meta' | 'trailer';
  readonly page?: number;
  readonly message: string;
}

/** What is known of a snapshot that passed. Sizes are bytes. */
export interface SnapshotFacts {
  /** Of the whole file, trailer included. */
  readonly size: number;
  /** Of the whole file in lower-case hex, as `sha256sum` prints it. */
  readonly sha256: string;
  /** Of the database without the trailer: `TOTAL SIZE` of `etcdctl snapshot status`. */
  readonly totalSize: number;
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

export type Verdict =
  | { readonly ok: true; readonly snapshot: VerifiedSnapshot }
  | { readonly ok: false; readonly faults: readonly [Fault, ...Fault[]] };

/**
 * Judges a snapshot while its bytes pass, in pieces of any size (specification: one streaming pass). It keeps no piece
 * and changes none, and holds two pages at most.
 */
export class SnapshotVerifier {
  readonly #sha256 = createHash('sha256');
  #size = 0;
  /** The last bytes seen, at most a trailer's length: the trailer, should the stream end here. */
  #tail: Buffer = Buffer.alloc(0);
  /** The first two pages, while they are being collected. */
  #head: Buffer = Buffer.alloc(0);
  #metas: { meta0: Meta | string; meta1: Meta | string } | undefined;

  push(piece: Uint8Array): void {
    this.#size += piece.length;
    const bytes = Buffer.from(piece.buffer, piece.byteOffset, piece.length);
    const held = this.#tail.length + bytes.length - TRAILER_SIZE;
    if (held <= 0) {
      this.#tail = Buffer.concat([this.#tail, bytes]);
      return;
    }
    const fromTail = Math.min(held, this.#tail.length);
    this.#database(this.#tail.subarray(0, fromTail));
    this.#database(bytes.subarray(0, held - fromTail));
    this.#tail = Buffer.concat([this.#tail.subarray(fromTail), bytes.subarray(held - fromTail)]);
  }

  /** Call once, after the last piece. */
  finish(): Verdict {
    const faults: Fault[] = [];
    const totalSize = this.#size - TRAILER_SIZE;
    const meta = this.#judgeMetas(faults);
    if (meta !== undefined && meta.highWaterMark * BigInt(meta.pageSize) !== BigInt(totalSize)) {
      const expected = meta.highWaterMark * BigInt(meta.pageSize) + BigInt(TRAILER_SIZE);
      faults.push({ kind: 'length', message: `${this.#size} bytes, but its meta pages demand ${expected}` });
    }
    const expected = this.#sha256.copy().digest();
    if (!expected.equals(this.#tail)) {
      faults.push({ kind: 'trailer', message: 'the sha256 at its end does not match the bytes before it' });
    }
    const [first, ...others] = faults;
    if (first !== undefined) return { ok: false, faults: [first, ...others] };
    const sha256 = this.#sha256.update(this.#tail).digest('hex');
    return { ok: true, snapshot: new Verified({ size: this.#size, sha256, totalSize }) };
  }

  #database(bytes: Buffer): void {
    if (bytes.length === 0) return;
    this.#sha256.update(bytes);
    if (this.#metas === undefined) this.#collectHead(bytes);
  }

  #collectHead(bytes: Buffer): void {
    this.#head = Buffer.concat([this.#head, bytes]);
    if (this.#head.length < META_END) return;
    const pageSize = claimedPageSize(this.#head);
    if (pageSize === undefined) {
      const message = 'meta page 0 names an impossible page size';
      this.#metas = { meta0: message, meta1: message };
    } else if (this.#head.length >= 2 * pageSize) {
      const meta0 = readMeta(this.#head.subarray(0, pageSize), 0);
      const meta1 = readMeta(this.#head.subarray(pageSize, 2 * pageSize), 1);
      this.#metas = { meta0, meta1 };
    } else return;
    this.#head = Buffer.alloc(0);
  }

  #judgeMetas(faults: Fault[]): Meta | undefined {
    if (this.#metas === undefined) {
      faults.push({ kind: 'length', message: `${this.#size} bytes are too few for a database` });
      return undefined;
    }
    const { meta0, meta1 } = this.#metas;
    if (typeof meta0 === 'string') faults.push({ kind: 'meta', page: 0, message: meta0 });
    if (typeof meta1 === 'string') faults.push({ kind: 'meta', page: 1, message: meta1 });
    if (typeof meta0 === 'string' || typeof meta1 === 'string') return undefined;
    if (!metasAgree(meta0, meta1)) {
      faults.push({ kind: 'meta', page: 1, message: 'the two meta pages are not of one transaction' });
    }
    return meta0;
  }
}

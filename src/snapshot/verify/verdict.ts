import type { FileKind } from '../file-kind.ts';
import type { Summary } from './etcd-buckets.ts';

/**
 * `format`: it is something else; `length`, `trailer` and `meta`: the file as a whole; `page`: inside one page; `tree`, `order`
 * and `freelist`: between pages; `bucket` and `content`: what etcd stores in them. `budget` and `overlap`: one pass could not
 * decide; the snapshot can be valid and must be verified in another way.
 */
export type ProblemKind =
  | 'format'
  | 'length'
  | 'trailer'
  | 'meta'
  | 'page'
  | 'tree'
  | 'order'
  | 'freelist'
  | 'bucket'
  | 'content'
  | 'budget'
  | 'overlap';

/** `page` is the bbolt page number where it was found. */
interface Problem {
  readonly kind: ProblemKind;
  readonly page?: number;
  readonly message: string;
}

/** A corrupt file can have a problem on every page: this many are listed, the others counted. */
const LISTED = 100;

export class Problems {
  /** The first hundred. */
  readonly listed: Problem[] = [];
  count = 0;
  /** Whether any is certain: not only a limit of one pass. */
  certain = false;

  add(kind: ProblemKind, message: string, page?: number): void {
    this.count++;
    if (kind !== 'budget' && kind !== 'overlap') this.certain = true;
    if (this.listed.length < LISTED) this.listed.push(page === undefined ? { kind, message } : { kind, page, message });
  }
}

/** The JSON document of `verify`: everything that could be computed of a valid or corrupt snapshot, otherwise null. */
export interface VerifyReport {
  readonly ok: boolean;
  readonly size: number;
  readonly sha256: string;
  /** The last 32 bytes in hex, fewer of a shorter file; empty for a database without sha256. */
  readonly trailer: string;
  /** Whether the sha256 at its end was compared; false only with `--skip-hash-check`. */
  readonly hashChecked: boolean;
  readonly hash: string | null;
  readonly revision: number | null;
  readonly effectiveRevision: number | null;
  readonly totalKeys: number | null;
  readonly liveKeys: number | null;
  readonly totalSize: number | null;
  /** At most a hundred of `faultCount`. */
  readonly faults: readonly Problem[];
  readonly faultCount: number;
}

/** `S`: how a valid snapshot is returned. */
export type Verdict<S extends { readonly facts: SnapshotFacts } = VerifiedSnapshot> =
  { readonly ok: true; readonly snapshot: S; readonly report: VerifyReport; readonly checksum: Checksum } | Rejected;

/** Whether the sha256 at the end of the file matches the bytes before it. */
type Checksum = 'valid' | 'wrong' | 'missing';

/** Without the sha256 nothing proves that etcd wrote these bytes: they can be read and restored, and never stored. */
export type VerdictWithoutHash = Verdict<{ readonly facts: SnapshotFacts }>;

interface Rejected {
  readonly ok: false;
  readonly problems: readonly [Problem, ...Problem[]];
  /** No problem is certain, but one pass could not decide: verify the snapshot in another way. */
  readonly undecided: boolean;
  /** What it seems to be instead, if that is known. */
  readonly kind: FileKind | undefined;
  readonly report: VerifyReport;
}

/** What is known of a valid snapshot. Sizes are bytes. */
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

/** Where the entries of the `key` bucket are, for a second pass. */
export interface KeyPages {
  /** Bytes. */
  readonly pageSize: number;
  /** Page number and overflow of each leaf, in pairs, in the order of the file. */
  readonly runs: Uint32Array;
  /** The only leaf of a bucket that is small enough to be in its parent. */
  readonly image: Uint8Array | undefined;
}

/** The permit to store a snapshot: only a verifier issues it, after every check passed. */
export class VerifiedSnapshot {
  readonly #facts: SnapshotFacts;

  constructor(facts: SnapshotFacts) {
    this.#facts = Object.freeze({ ...facts });
  }

  get facts(): SnapshotFacts {
    return this.#facts;
  }
}

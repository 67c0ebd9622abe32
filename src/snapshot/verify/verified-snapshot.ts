import type { Summary } from './etcd-buckets.ts';

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

/**
 * What kind of thing is wrong: `format` when it is something else; `length`, `trailer` and `meta` of the file as a whole; `page` inside one page; `tree`,
 * `order` and `freelist` between pages; `bucket` and `content` in what etcd keeps in them. `budget` and `overlap` say that
 * one pass could not tell: the snapshot may be sound and must be verified another way.
 */
export type FaultKind =
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

/** One thing that is wrong with a snapshot. `page` is the bbolt page number where it was found. */
export interface Fault {
  readonly kind: FaultKind;
  readonly page?: number;
  readonly message: string;
}

/** A broken file can have a fault on every page; this many are told, the others counted. */
const LISTED = 100;

export class Faults {
  readonly #listed: Fault[] = [];
  #count = 0;
  #certain = false;

  add(kind: FaultKind, message: string, page?: number): void {
    this.#count++;
    if (kind !== 'budget' && kind !== 'overlap') this.#certain = true;
    if (this.#listed.length < LISTED)
      this.#listed.push(page === undefined ? { kind, message } : { kind, page, message });
  }

  /** At most the first hundred. */
  get listed(): readonly Fault[] {
    return this.#listed;
  }

  /** All of them, listed or not. */
  get count(): number {
    return this.#count;
  }

  /** Something is wrong for certain, beyond what one pass could not tell. */
  get certain(): boolean {
    return this.#certain;
  }
}

import { type Budget, Table } from './budget.ts';
import { ENTRY_WORDS, type EntryReader, RESOURCE_WORDS, SUM_WORDS, type Tracking } from './leaf-entries.ts';
import { Resources } from './resources.ts';

/** Set in the number of an entry's resource when a later entry has the same user key. */
const SUPERSEDED = 0x8000_0000;

/**
 * HashKV costs a call for the sum of each entry, more than all else where entries are small. So it is given up in a database
 * of many entries when these have fewer bytes than this on average; those of Kubernetes have more.
 */
const MANY_ENTRIES = 131_072;
const SMALL_ENTRY = 512;

/**
 * The entries of all leaves of revisions, by a number each; those of a leaf follow one another. None is needed for the
 * verdict: when the memory is needed, sums (for HashKV) go first, then resources, then the entries themselves.
 */
export class EntryColumns implements Tracking {
  readonly names = new Resources();
  readonly #entries: Table;
  readonly #resources: Table;
  readonly #sums: Table;
  #live = true;
  #perResource = true;
  #hashKV = true;
  #bytes = 0;

  constructor(budget: Budget) {
    this.#entries = new Table(budget, ENTRY_WORDS);
    this.#resources = new Table(budget, RESOURCE_WORDS);
    this.#sums = new Table(budget, SUM_WORDS);
  }

  /** Live keys can still be counted. */
  get live(): boolean {
    return this.#live;
  }

  /** Live keys can still be counted per resource. */
  get resources(): boolean {
    return this.#perResource;
  }

  /** HashKV can still be computed. */
  get sums(): boolean {
    return this.#hashKV;
  }

  /** Keeps the entries of a leaf with so many bytes of data, as far as there is room; returns the number of the first. */
  append(leaf: EntryReader, count: number, bytes: number): number {
    this.#bytes += bytes;
    const { length } = this.#entries;
    if (this.#hashKV && length > MANY_ENTRIES && this.#bytes < length * SMALL_ENTRY) this.giveUp();
    while (this.names.full && this.#perResource) this.giveUp();
    while (this.#live && this.#entries.append(leaf.entries, count) < 0) this.giveUp();
    while (this.#perResource && this.#resources.append(leaf.resources, count) < 0) this.giveUp();
    while (this.#hashKV && this.#sums.append(leaf.sums, count) < 0) this.giveUp();
    return this.#entries.length - (this.#live ? count : 0);
  }

  /** Frees what is needed least; returns false when nothing is left. */
  giveUp(): boolean {
    if (this.#hashKV) {
      this.#hashKV = false;
      this.#sums.clear();
    } else if (this.#perResource) {
      this.#perResource = false;
      this.#resources.clear();
    } else if (this.#live) {
      this.#live = false;
      this.#entries.clear();
    } else return false;
    return true;
  }

  /** The two halves of the hash of an entry's user key; the last bit of the high one says that it is a tombstone. */
  low(entry: number): number {
    return this.#entries.get(entry, 0);
  }
  high(entry: number): number {
    return this.#entries.get(entry, 1);
  }
  isTombstone(entry: number): boolean {
    return (this.high(entry) & 1) === 1;
  }

  resource(entry: number): number {
    return this.#resources.get(entry, 0) & ~SUPERSEDED;
  }
  /** Bytes of an entry's record. */
  recordSize(entry: number): number {
    return this.#resources.get(entry, 1);
  }
  supersede(entry: number): void {
    this.#resources.set(entry, 0, this.#resources.get(entry, 0) | SUPERSEDED);
  }
  isSuperseded(entry: number): boolean {
    return (this.#resources.get(entry, 0) & SUPERSEDED) !== 0;
  }

  /** CRC32C of its leaf's data up to the end of an entry. */
  sum(entry: number): number {
    return this.#sums.get(entry, 0);
  }
  /** Low half of an entry's main revision. */
  mainLow(entry: number): number {
    return this.#sums.get(entry, 1);
  }
}

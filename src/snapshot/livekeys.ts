import { crc32c } from './crc32c.ts';
import type { KeyEntry } from './keys.ts';

/** The last revision of a user key. */
export interface LiveKey {
  /** As a latin1 string, one character a byte: keys are bytes. */
  readonly key: string;
  readonly modRevision: number;
  readonly version: number;
  /** Bytes of the value. */
  readonly size: number;
  /** CRC32C of the value, to tell whether two are the same. */
  readonly crc: number;
}

interface LastEntry extends LiveKey {
  readonly sub: number;
  readonly isTombstone: boolean;
}

/** Finds the live keys among entries in any order: the last revision of each key, unless it is a tombstone. */
export class LiveKeys {
  readonly #last = new Map<string, LastEntry>();

  visit(entry: KeyEntry): void {
    const key = entry.key.toString('latin1');
    // The entry that a restore with a higher revision leaves behind has no key.
    if (key === '') return;
    const before = this.#last.get(key);
    if (before !== undefined && !isLater(entry, before.modRevision, before.sub)) return;
    const { main, sub, version, isTombstone, value } = entry;
    const found = { key, modRevision: main, sub, version, isTombstone, size: value.length, crc: crc32c(value) };
    this.#last.set(key, found);
  }

  /** By key, in the order of their bytes. */
  sorted(): LiveKey[] {
    const live = [...this.#last.values()].filter(({ isTombstone }) => !isTombstone);
    return live.toSorted((a, b) => (a.key < b.key ? -1 : 1));
  }
}

/**
 * Chooses about `wanted` of `count` keys, all over the key space: by a hash of the key, so that all revisions of a key are
 * chosen or none.
 */
export function sampler(wanted: number, count: number): (key: Buffer) => boolean {
  const limit = count > wanted ? (2 ** 32 / count) * wanted : Infinity;
  return (key) => crc32c(key) < limit;
}

/** Finds the last value of one key among entries in any order. */
export class OneKey {
  readonly #key: Buffer;
  #main = -1;
  #sub = -1;
  #value: Buffer | undefined;

  constructor(key: string) {
    this.#key = Buffer.from(key);
  }

  visit(entry: KeyEntry): void {
    if (!entry.key.equals(this.#key) || !isLater(entry, this.#main, this.#sub)) return;
    this.#main = entry.main;
    this.#sub = entry.sub;
    this.#value = entry.isTombstone ? undefined : Buffer.from(entry.value);
  }

  /** Undefined when the key is not live. */
  get value(): Buffer | undefined {
    return this.#value;
  }
}

/** What differs between the live keys of two snapshots, each list in the order of the keys. */
export interface Difference {
  readonly added: readonly LiveKey[];
  readonly removed: readonly LiveKey[];
  readonly changed: readonly LiveKey[];
}

export function differenceOf(before: readonly LiveKey[], after: readonly LiveKey[]): Difference {
  const earlier = new Map(before.map((live) => [live.key, live]));
  const later = new Set(after.map(({ key }) => key));
  return {
    added: after.filter(({ key }) => !earlier.has(key)),
    removed: before.filter(({ key }) => !later.has(key)),
    changed: after.filter((live) => isChanged(earlier.get(live.key), live)),
  };
}

function isChanged(before: LiveKey | undefined, after: LiveKey): boolean {
  return before !== undefined && (before.crc !== after.crc || before.size !== after.size);
}

function isLater({ main, sub }: KeyEntry, thanMain: number, thanSub: number): boolean {
  return main > thanMain || (main === thanMain && sub > thanSub);
}

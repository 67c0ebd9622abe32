import { isLater, type KeyEntry } from '../snapshot/keys.ts';
import type { StoredValue } from './stored-value.ts';

interface Last extends Pick<KeyEntry, 'main' | 'sub' | 'isTombstone'> {
  /** Undefined where there is no memory for it. */
  value: Buffer | undefined;
  /** Bytes of the value. */
  readonly size: number;
}

/** Bytes of values that are kept. More of them are read once more. */
export const MAX_KEPT = 48 * 1024 * 1024;

/**
 * The live values of some keys, among entries in any order. One pass over the snapshot finds them; where they are too large
 * to be kept, a second pass reads them one after the other.
 */
export class LiveValues {
  readonly #last = new Map<string, Last>();
  #kept = 0;
  #isComplete = true;

  /** Whether no second pass is needed. */
  get isComplete(): boolean {
    return this.#isComplete;
  }

  visit({ keyText: key, value, main, sub, isTombstone }: KeyEntry): void {
    const before = this.#last.get(key);
    if (key === '' || !isLater({ main, sub }, before)) return;
    this.#kept += value.length - (before?.size ?? 0);
    if (this.#kept > MAX_KEPT && this.#isComplete) {
      this.#isComplete = false;
      for (const last of this.#last.values()) last.value = undefined;
    }
    const { length: size } = value;
    this.#last.set(key, { main, sub, isTombstone, size, value: this.#isComplete ? Buffer.from(value) : undefined });
  }

  /** The live keys in their order, and the bytes of their values. */
  keys(): { readonly key: string; readonly size: number }[] {
    const live = [...this.#last].filter(([, { isTombstone }]) => !isTombstone);
    return live.map(([key, { size }]) => ({ key, size })).toSorted((a, b) => (a.key < b.key ? -1 : 1));
  }

  /** In the order of the keys. */
  *values(): Generator<StoredValue> {
    for (const [key, { value, main, isTombstone }] of [...this.#last].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
      if (!isTombstone && value !== undefined) yield { key: Buffer.from(key, 'latin1'), value, modRevision: main };
    }
  }

  /** Whether there were entries of a key. @param key as a latin1 string */
  has(key: string): boolean {
    return this.#last.has(key);
  }

  /** For the second pass: whether an entry is the live one of a key. */
  isLive({ keyText, main, sub, isTombstone }: KeyEntry): boolean {
    const last = this.#last.get(keyText);
    return !isTombstone && last?.main === main && last.sub === sub;
  }
}

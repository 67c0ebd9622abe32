import { crc32c } from './verify/checksums.ts';
import { REVISION_SIZE } from './verify/live-keys.ts';
import { bytesOf, ELEMENT_SIZE, HEADER_SIZE } from './verify/page.ts';
import type { KeyPages } from './verify/verdict.ts';

/** One revision of a user key (specification: content). Its buffers are valid during the call only. */
export interface KeyEntry {
  readonly key: Buffer;
  /** Empty for a tombstone. */
  readonly value: Buffer;
  readonly isTombstone: boolean;
  /** Main revision, the key's `mod_revision`, and the place within its transaction. */
  readonly main: number;
  readonly sub: number;
  /** How often the key was written since it was created. */
  readonly version: number;
  /** Bytes of the stored record: user key, value, and some bytes of bookkeeping. */
  readonly recordSize: number;
}

/**
 * Reads the entries of a verified snapshot's `key` bucket while its bytes pass a second time. They come in the order of the
 * file, which is not that of their revisions.
 */
export class KeyScanner {
  readonly #pages: KeyPages;
  readonly #visit: (entry: KeyEntry, run: number) => void;
  readonly #wants: ((key: string) => boolean) | undefined;
  readonly #record = new RecordReader();
  /** Offset in the file of the next byte. */
  #offset = 0;
  /** Index into `runs` of the next leaf. */
  #run = 0;
  /** A leaf that is cut by the end of a piece, and how many of its bytes are there. */
  #leaf: Buffer | undefined;
  #filled = 0;

  /**
   * @param visit also told where the entry's leaf is in the runs of `pages`
   * @param wants whether a key is visited, by default all; keys are latin1 strings, one character a byte
   */
  constructor(pages: KeyPages, visit: (entry: KeyEntry, run: number) => void, wants?: (key: string) => boolean) {
    this.#pages = pages;
    this.#visit = visit;
    this.#wants = wants;
    if (pages.image !== undefined) this.#read(bytesOf(pages.image).bytes);
  }

  push(piece: Uint8Array): void {
    const { bytes } = bytesOf(piece);
    const { runs, pageSize } = this.#pages;
    const end = this.#offset + bytes.length;
    while (this.#run < runs.length) {
      const begin = (runs[this.#run] ?? 0) * pageSize;
      const size = ((runs[this.#run + 1] ?? 0) + 1) * pageSize;
      const from = Math.max(begin + this.#filled, this.#offset);
      if (from >= end) break;
      const at = from - this.#offset;
      if (this.#filled === 0 && from + size <= end) this.#read(bytes.subarray(at, at + size));
      else {
        this.#leaf ??= Buffer.alloc(size);
        this.#filled += bytes.copy(this.#leaf, this.#filled, at, Math.min(begin + size, end) - this.#offset);
        if (this.#filled < size) break;
        this.#read(this.#leaf);
        this.#leaf = undefined;
        this.#filled = 0;
      }
      this.#run += 2;
    }
    this.#offset = end;
  }

  /** A file has millions of entries: nothing is made of those that are not visited but the text of their key. */
  #read(leaf: Buffer): void {
    const record = this.#record;
    const count = leaf.readUInt16LE(10);
    for (let i = 0; i < count; i++) {
      const element = HEADER_SIZE + i * ELEMENT_SIZE;
      const revision = element + leaf.readUInt32LE(element + 4);
      const begin = revision + leaf.readUInt32LE(element + 8);
      const end = begin + leaf.readUInt32LE(element + 12);
      record.read(leaf, begin, end);
      if (this.#wants?.(leaf.toString('latin1', record.keyFrom, record.keyTo)) === false) continue;
      const entry = {
        key: leaf.subarray(record.keyFrom, record.keyTo),
        value: leaf.subarray(record.valueFrom, record.valueTo),
        version: record.version,
        recordSize: end - begin,
        isTombstone: begin - revision > REVISION_SIZE,
        main: Number(leaf.readBigUInt64BE(revision)),
        sub: Number(leaf.readBigUInt64BE(revision + 9)),
      };
      this.#visit(entry, this.#run);
    }
  }
}

/** Finds the fields of one mvccpb.KeyValue after another: 1 key, 4 version, 5 value. The verifier found them well-formed. */
class RecordReader {
  keyFrom = 0;
  keyTo = 0;
  valueFrom = 0;
  valueTo = 0;
  version = 0;
  #at = 0;

  read(bytes: Buffer, from: number, to: number): void {
    this.keyFrom = this.keyTo = this.valueFrom = this.valueTo = this.version = 0;
    this.#at = from;
    while (this.#at < to) {
      const tag = this.#varint(bytes);
      if (tag % 8 === 1 || tag % 8 === 5) {
        this.#at += tag % 8 === 1 ? 8 : 4;
        continue;
      }
      const number = this.#varint(bytes);
      if (tag === 4 << 3) this.version = number;
      if (tag % 8 !== 2) continue;
      const begin = this.#at;
      this.#at += number;
      if (tag === ((1 << 3) | 2)) [this.keyFrom, this.keyTo] = [begin, this.#at];
      if (tag === ((5 << 3) | 2)) [this.valueFrom, this.valueTo] = [begin, this.#at];
    }
  }

  #varint(bytes: Buffer): number {
    let number = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes.readUInt8(this.#at++);
      number += (byte & 0x7f) * scale;
      if (byte < 0x80) return number;
    }
  }
}

/** Only the leaves at these places in the runs of some pages. */
export function someOf({ runs, ...pages }: KeyPages, places: ReadonlySet<number>): KeyPages {
  const sorted = Uint32Array.from(places).toSorted();
  const some = new Uint32Array(2 * sorted.length);
  sorted.forEach((place, i) => some.set(runs.subarray(place, place + 2), 2 * i));
  return { ...pages, runs: some };
}

/** The last revision of a user key. */
export interface LiveKey {
  /** As a latin1 string, one character a byte: keys are bytes. */
  readonly key: string;
  readonly modRevision: number;
  readonly version: number;
  /** Bytes of the value. */
  readonly size: number;
  /** CRC32C of the value, to compare two. */
  readonly crc: number;
  /** Bytes of the stored record. */
  readonly recordSize: number;
}

/** Whether an entry is a later revision than another of the same key. */
export function isLater({ main, sub }: Revision, than: Revision | undefined): boolean {
  return than === undefined || main > than.main || (main === than.main && sub > than.sub);
}
type Revision = Pick<KeyEntry, 'main' | 'sub'>;

/** Finds the live keys among entries in any order: the last revision of each key, unless it is a tombstone. */
export class LiveKeys {
  readonly #last = new Map<string, LiveKey & Pick<KeyEntry, 'main' | 'sub' | 'isTombstone'>>();

  visit(entry: KeyEntry): void {
    const key = entry.key.toString('latin1');
    // The entry with which a restore raises the revision has no key.
    if (key === '') return;
    if (!isLater(entry, this.#last.get(key))) return;
    const { value, key: _, ...rest } = entry;
    this.#last.set(key, { ...rest, key, modRevision: entry.main, size: value.length, crc: crc32c(value) });
  }

  /** By key, in the order of their bytes. */
  sorted(): LiveKey[] {
    const live = [...this.#last.values()].filter(({ isTombstone }) => !isTombstone);
    return live.toSorted((a, b) => (a.key < b.key ? -1 : 1));
  }
}

/** Live keys of one Kubernetes resource, such as `pods` or `apps.example.com/widgets`; `(other)` are those of none. */
interface ResourceCount {
  readonly name: string;
  readonly keys: number;
  /** Of the stored records. */
  readonly bytes: number;
}

/** A cluster has some hundreds; further names are counted as `(other)`. */
const MAX_RESOURCES = 4096;
const OTHER = '(other)';

/**
 * A key of the API server under its default prefix: the resource is the first segment, and also the second where the first is
 * `services` or an API group, which has a dot (specification: content). The last segment is the name of the object.
 */
const RESOURCE = /^\/registry\/((?:services|[^/]*\.[^/]*)\/[^/]*|[^/]+)\//;

/** Counts keys by resource, the largest resource first. */
export function countResources(keys: readonly LiveKey[]): ResourceCount[] {
  const counts = new Map<string, { keys: number; bytes: number }>();
  for (const { key, recordSize } of keys) {
    let name = RESOURCE.exec(key)?.[1] ?? OTHER;
    if (!counts.has(name) && counts.size >= MAX_RESOURCES) name = OTHER;
    const count = counts.get(name) ?? { keys: 0, bytes: 0 };
    counts.set(name, { keys: count.keys + 1, bytes: count.bytes + recordSize });
  }
  return Array.from(counts, ([name, count]) => ({ name: Buffer.from(name, 'latin1').toString(), ...count })).toSorted(
    (a, b) => b.bytes - a.bytes || (a.name < b.name ? -1 : 1),
  );
}

/**
 * Chooses about `wanted` of `count` keys from the whole key space: by a hash of the key, to choose all revisions of a key or
 * none.
 */
export function sampler(wanted: number, count: number): (key: Buffer) => boolean {
  const limit = count > wanted ? (2 ** 32 / count) * wanted : Infinity;
  return (key) => crc32c(key) < limit;
}

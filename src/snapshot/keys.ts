import type { Place } from '../files.ts';
import { crc32c } from './verify/checksums.ts';
import { REVISION_SIZE } from './verify/live-keys.ts';
import { bytesOf, ELEMENT_SIZE, HEADER_SIZE } from './verify/page.ts';
import type { KeyPages } from './verify/verdict.ts';

/** One revision of a user key (specification: content). It is valid during the call only. */
export interface KeyEntry {
  readonly key: Buffer;
  /** The key as a latin1 string, one character a byte: keys are bytes. */
  readonly keyText: string;
  /** The same up to its last slash. */
  readonly directoryText: string;
  /** Empty for a tombstone. */
  readonly value: Buffer;
  /** Bytes of the value. */
  readonly valueSize: number;
  readonly isTombstone: boolean;
  /** Main revision, the key's `mod_revision`, and the place within its transaction. */
  readonly main: number;
  readonly sub: number;
  /** How often the key was written since it was created. */
  readonly version: number;
  /** Bytes of the stored record: user key, value, and some bytes of bookkeeping. */
  readonly recordSize: number;
  valueStartsWith(bytes: Uint8Array): boolean;
}

/**
 * Reads the entries of a verified snapshot's `key` bucket while its bytes pass a second time. They come in the order of the
 * file, which is not that of their revisions.
 */
export class KeyScanner {
  readonly #pages: KeyPages;
  readonly #visit: (entry: KeyEntry, run: number) => void;
  readonly #wants: ((key: string) => boolean) | undefined;
  readonly #entry = new EntryReader();
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

  /** Where the leaves are: with `pushLeaf` instead of `push`, the rest of the file need not be read. */
  *places(): Generator<Place, void> {
    const { runs, pageSize } = this.#pages;
    for (let i = 0; i < runs.length; i += 2) yield { at: runs[i]! * pageSize, size: (runs[i + 1]! + 1) * pageSize };
  }

  /** The bytes at the next one of the places. */
  pushLeaf(leaf: Buffer): void {
    this.#read(leaf);
    this.#run += 2;
  }

  #read(leaf: Buffer): void {
    const entry = this.#entry;
    const count = leaf.readUInt16LE(10);
    for (let i = 0; i < count; i++) {
      entry.read(leaf, HEADER_SIZE + i * ELEMENT_SIZE);
      if (this.#wants?.(entry.keyText) !== false) this.#visit(entry, this.#run);
    }
  }
}

/**
 * One entry of a leaf after another. A file has millions of them: what nobody asks for is not made. The fields of a record,
 * which is one mvccpb.KeyValue, are 1 key, 4 version, 5 value. The verifier found all well-formed.
 */
class EntryReader implements KeyEntry {
  version = 0;
  recordSize = 0;
  isTombstone = false;
  #leaf: Buffer = Buffer.alloc(0);
  #revision = 0;
  #keyFrom = 0;
  #keyTo = 0;
  #valueFrom = 0;
  #valueTo = 0;
  #keyText: string | undefined;
  /** Where the record is read. */
  #at = 0;

  get key(): Buffer {
    return this.#leaf.subarray(this.#keyFrom, this.#keyTo);
  }

  get keyText(): string {
    return (this.#keyText ??= this.#leaf.toString('latin1', this.#keyFrom, this.#keyTo));
  }

  get directoryText(): string {
    let end = this.#keyTo;
    while (end > this.#keyFrom && this.#leaf[end - 1] !== SLASH) end--;
    return this.#leaf.toString('latin1', this.#keyFrom, end);
  }

  get value(): Buffer {
    return this.#leaf.subarray(this.#valueFrom, this.#valueTo);
  }

  get valueSize(): number {
    return this.#valueTo - this.#valueFrom;
  }

  get main(): number {
    return this.#int64(this.#revision);
  }

  get sub(): number {
    return this.#int64(this.#revision + 9);
  }

  valueStartsWith(bytes: Uint8Array): boolean {
    if (this.valueSize < bytes.length) return false;
    for (let i = 0; i < bytes.length; i++) if (this.#leaf[this.#valueFrom + i] !== bytes[i]) return false;
    return true;
  }

  /** @param element where it is in the table of the leaf */
  read(leaf: Buffer, element: number): void {
    this.#leaf = leaf;
    this.#revision = element + leaf.readUInt32LE(element + 4);
    const begin = this.#revision + leaf.readUInt32LE(element + 8);
    this.recordSize = leaf.readUInt32LE(element + 12);
    this.isTombstone = begin - this.#revision > REVISION_SIZE;
    this.#keyText = undefined;
    this.#readRecord(begin, begin + this.recordSize);
  }

  #readRecord(from: number, to: number): void {
    this.#keyFrom = this.#keyTo = this.#valueFrom = this.#valueTo = this.version = 0;
    this.#at = from;
    while (this.#at < to) {
      const tag = this.#varint();
      if (tag % 8 === 1 || tag % 8 === 5) {
        this.#at += tag % 8 === 1 ? 8 : 4;
        continue;
      }
      const number = this.#varint();
      if (tag === 4 << 3) this.version = number;
      if (tag % 8 !== 2) continue;
      const begin = this.#at;
      this.#at += number;
      if (tag === ((1 << 3) | 2)) [this.#keyFrom, this.#keyTo] = [begin, this.#at];
      if (tag === ((5 << 3) | 2)) [this.#valueFrom, this.#valueTo] = [begin, this.#at];
    }
  }

  #varint(): number {
    let number = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = this.#leaf.readUInt8(this.#at++);
      number += (byte & 0x7f) * scale;
      if (byte < 0x80) return number;
    }
  }

  /** Big-endian. The verifier refused those that a number cannot hold. */
  #int64(at: number): number {
    return this.#leaf.readUInt32BE(at) * 2 ** 32 + this.#leaf.readUInt32BE(at + 4);
  }
}

const SLASH = '/'.charCodeAt(0);

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
    const { keyText: key, main, sub, isTombstone, version, recordSize, valueSize: size } = entry;
    // The entry with which a restore raises the revision has no key.
    if (key === '' || !isLater(entry, this.#last.get(key))) return;
    const crc = crc32c(entry.value);
    this.#last.set(key, { key, main, sub, isTombstone, version, recordSize, size, crc, modRevision: main });
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

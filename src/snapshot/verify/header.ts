import { DATABASE_WITHOUT_CHECKSUM, type FileKind, recognize, RECOGNIZED_BYTES } from './file-kind.ts';
import {
  findPageSize,
  intactMeta,
  lacksChecksum,
  type Meta,
  META_END,
  metaProblem,
  metasAgree,
  NO_FREELIST,
  SEARCHED_BYTES,
} from './meta.ts';
import type { Faults } from './problems.ts';

/** Bytes of the sha256 that an etcd server appends to the database. */
export const TRAILER_SIZE = 32;

/** The database consists of whole pages, and these of whole sectors: a file of such a length plus a trailer has one. */
const SECTOR_SIZE = 512;

export function hasTrailer(size: number): boolean {
  return size % SECTOR_SIZE === TRAILER_SIZE;
}

/**
 * The start of a file up to the end of both meta pages, which say how to read the rest. The page size is known from page 0, or
 * from page 1 where page 0 is damaged.
 */
export class Header {
  #bytes: Buffer = Buffer.alloc(RECOGNIZED_BYTES);
  #filled = 0;
  #isComplete = false;
  #pageSize: number | string | undefined;
  #meta: Meta | undefined;
  readonly #metas: (Meta | undefined)[] = [];
  readonly #problems: (string | undefined)[] = [];
  #lacksChecksum = false;

  /** Nothing more is wanted: both meta pages are there, or the file is none of bbolt's. */
  get isComplete(): boolean {
    return this.#isComplete;
  }

  /** Bytes, once the header is complete; undefined when the file is none of bbolt's. */
  get pageSize(): number | undefined {
    return typeof this.#pageSize === 'number' && this.#meta !== undefined ? this.#pageSize : undefined;
  }

  /** The meta that bbolt goes by: the newer one of those that are intact. */
  get meta(): Meta | undefined {
    return this.#meta;
  }

  /** Takes the next bytes of the file, as many as it wants, and returns their number. */
  take(bytes: Buffer): number {
    let taken = 0;
    while (!this.#isComplete && taken < bytes.length) {
      const copied = bytes.copy(this.#bytes, this.#filled, taken);
      this.#filled += copied;
      taken += copied;
      if (this.#filled === this.#bytes.length) this.#goOn();
    }
    return taken;
  }

  /** The file has no more bytes. */
  end(): void {
    if (this.#isComplete) return;
    this.#pageSize ??= findPageSize(this.#bytes.subarray(0, this.#filled));
    this.#complete();
  }

  /** Hands out what was taken of the pages behind the meta pages. */
  takeRest(): Buffer {
    const pages = this.#bytes.subarray(0, this.#filled);
    // What is kept is enough to recognize the file.
    this.#bytes = Buffer.from(pages.subarray(0, RECOGNIZED_BYTES));
    this.#filled = this.#bytes.length;
    return this.pageSize === undefined ? Buffer.alloc(0) : pages.subarray(2 * this.pageSize);
  }

  /**
   * Judges the length of a whole file and its meta pages, as an etcd server writes them into a snapshot.
   * @returns what the file seems to be instead of a snapshot
   */
  judge(size: number, faults: Faults): FileKind | undefined {
    const [meta0, meta1] = this.#metas;
    const meta = this.#meta;
    if (meta === undefined) return this.#judgeNoDatabase(size, faults);
    const isSnapshot = meta0 !== undefined && meta1 !== undefined && metasAgree(meta0, meta1);
    if (size % SECTOR_SIZE === 0 && size >= databaseSize(meta)) {
      const name = isSnapshot ? 'a snapshot that lost its sha256' : "a copy of a member's database";
      faults.add('trailer', `there is no sha256 at its end: it seems to be ${name}`);
      this.#judgePointers(meta, faults);
      return DATABASE_WITHOUT_CHECKSUM;
    }
    this.#problems.forEach((problem, id) => {
      if (problem !== undefined) faults.add('meta', problem, id);
    });
    const expected = databaseSize(meta) + BigInt(TRAILER_SIZE);
    if (expected > BigInt(size)) {
      faults.add('length', `it ends after ${size} of ${expected} bytes, as an unfinished download or save does`);
    }
    if (expected < BigInt(size)) faults.add('length', `${size} bytes, but its meta pages demand ${expected}`);
    const hasProblem = this.#problems.some((problem) => problem !== undefined);
    if (!hasProblem && !isSnapshot) faults.add('meta', 'the two meta pages are not of one transaction', 1);
    this.#judgePointers(meta, faults);
    return undefined;
  }

  /**
   * The same for a file that may be a copy of a member's database: it may go on behind its last page, its meta pages are of
   * two transactions, and one of them may be damaged.
   */
  judgeDatabase(size: number, faults: Faults): FileKind | undefined {
    const meta = this.#meta;
    if (meta === undefined) return this.#judgeNoDatabase(size, faults);
    const there = hasTrailer(size) ? size - TRAILER_SIZE : size;
    if (there < databaseSize(meta)) faults.add('length', `it ends after ${there} of ${databaseSize(meta)} bytes`);
    const id = this.#metas.indexOf(meta);
    const problem = this.#problems[id];
    if (problem !== undefined) faults.add('meta', problem, id);
    if (this.#lacksChecksum) faults.add('meta', 'a meta page has no checksum');
    this.#judgePointers(meta, faults);
    return undefined;
  }

  #goOn(): void {
    this.#pageSize ??= findPageSize(this.#bytes);
    const { length } = this.#bytes;
    if (typeof this.#pageSize === 'number') {
      if (length >= 2 * this.#pageSize) this.#complete();
      else this.#grow(2 * this.#pageSize);
    } else if (typeof this.#pageSize === 'string' || length >= SEARCHED_BYTES) this.#complete();
    else this.#grow(SEARCHED_BYTES);
  }

  #grow(size: number): void {
    const grown = Buffer.alloc(size);
    this.#bytes.copy(grown);
    this.#bytes = grown;
  }

  #complete(): void {
    this.#isComplete = true;
    const size = this.#pageSize;
    if (typeof size !== 'number' || this.#filled < 2 * size) return;
    for (const id of [0, 1] as const) {
      const page = this.#bytes.subarray(id * size, (id + 1) * size);
      this.#metas[id] = intactMeta(page);
      this.#problems[id] = metaProblem(page, id);
      this.#lacksChecksum ||= lacksChecksum(page);
    }
    const [meta0, meta1] = this.#metas;
    this.#meta = meta0 === undefined || (meta1 !== undefined && meta1.txid > meta0.txid) ? meta1 : meta0;
  }

  #judgeNoDatabase(size: number, faults: Faults): FileKind | undefined {
    const head = this.#bytes.subarray(0, this.#filled);
    const kind = recognize(head);
    if (kind !== undefined) faults.add('format', `it is ${kind.name}`);
    else if (this.#filled < META_END || typeof this.#pageSize === 'number') {
      faults.add('length', `${size} bytes are too few for a database`);
    } else faults.add('meta', metaProblem(head, 0) ?? 'there is no intact meta page', 0);
    return kind;
  }

  /** The pages that the meta names must be in the database. */
  #judgePointers({ root, freelist, highWaterMark }: Meta, faults: Faults): void {
    if (root < 2n || root >= highWaterMark) faults.add('meta', `its meta page names an impossible root page ${root}`);
    if (freelist !== NO_FREELIST && (freelist < 2n || freelist >= highWaterMark)) {
      faults.add('meta', `its meta page names an impossible freelist page ${freelist}`);
    }
  }
}

/** Bytes up to the high-water mark. */
function databaseSize({ highWaterMark, pageSize }: Meta): bigint {
  return highWaterMark * BigInt(pageSize);
}

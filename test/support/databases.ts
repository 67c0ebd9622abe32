/** Copies of the databases of running members: made here, and the committed ones under test/fixtures/etcd-databases. */
import { readdirSync, readFileSync } from 'node:fs';
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { gunzipSync } from 'node:zlib';
import { META, PAGE } from './bbolt.ts';
import type { EtcdCluster } from './etcd.ts';
import type { Status } from './vectors.ts';

export const DATABASES = new URL('../fixtures/etcd-databases/', import.meta.url);

/** A committed copy, and what the real tools say about it (README there). */
export interface DatabaseVector {
  readonly name: string;
  readonly serverVersion: string;
  readonly scenario: string;
  /** Of the unpacked file. */
  readonly fileSize: number;
  readonly sha256: string;
  /** Number of the newer meta page; the pages that the database has by it, and by the other one. */
  readonly newerMeta: 0 | 1;
  readonly highWaterMarks: readonly [newer: number, older: number];
  readonly verdict: 'accept' | 'reject';
  /** By tool: `snapshot status -w json`, null where it refuses. */
  readonly status: Readonly<Record<string, Status | null>>;
  /** By tool: whether `snapshot restore --skip-hash-check` succeeds. */
  readonly restores: Readonly<Record<string, boolean>>;
}

export function databaseVectors(): DatabaseVector[] {
  return readdirSync(DATABASES)
    .filter((name) => name.endsWith('.json'))
    .toSorted()
    .map((name) => JSON.parse(readFileSync(new URL(name, DATABASES), 'utf8')) as DatabaseVector);
}

export function databaseOf({ name }: Pick<DatabaseVector, 'name'>): Buffer {
  return gunzipSync(readFileSync(new URL(`${name}.db.gz`, DATABASES)));
}

/** What both meta pages of an intact file say. */
export function metasOf(file: Buffer): Pick<DatabaseVector, 'newerMeta' | 'highWaterMarks'> & { roots: bigint[] } {
  const [txid0, txid1] = [0, 1].map((page) => file.readBigUInt64LE(page * PAGE + META.txid));
  const newerMeta = (txid1 ?? 0n) > (txid0 ?? 0n) ? 1 : 0;
  const [newer = 0, older = 0] = [newerMeta, 1 - newerMeta].map((page) =>
    Number(file.readBigUInt64LE(page * PAGE + META.highWaterMark)),
  );
  const roots = [0, 1].map((page) => file.readBigUInt64LE(page * PAGE + META.root));
  return { newerMeta, highWaterMarks: [newer, older], roots };
}

/** Where a member of a test cluster keeps its database. */
export function databasePath(clusterDir: string, member = 'm1'): string {
  return join(clusterDir, member, 'member', 'snap', 'db');
}

/** The database once nothing has been written to it for some commit intervals, which are 100 ms. */
export async function idleCopy(path: string): Promise<Buffer> {
  for (let before = await readFile(path); ;) {
    await sleep(350);
    const now = await readFile(path);
    if (now.equals(before)) return now;
    before = now;
  }
}

/**
 * Reads the database in small pieces, each after the server has written more: it is torn, unless the server wrote elsewhere.
 * @param written resolves when more was written
 */
export async function slowCopy(path: string, written: () => Promise<unknown>): Promise<Buffer> {
  const file = await open(path);
  const pieces: Buffer[] = [];
  try {
    const { size } = await file.stat();
    for (let at = 0; at < size;) {
      const piece = Buffer.alloc(at < 2_000_000 ? 16 * PAGE : 1_000_000);
      const { bytesRead } = await file.read(piece, 0, piece.length, at);
      if (bytesRead === 0) break;
      pieces.push(piece.subarray(0, bytesRead));
      at += bytesRead;
      if (at < 2_000_000) await written();
    }
  } finally {
    await file.close();
  }
  return Buffer.concat(pieces);
}

export interface WriterOptions {
  /** Bytes. */
  readonly valueSize?: number;
  /** False where old revisions are asked for later. */
  readonly compacts?: boolean;
}

/** A writer that puts, overwrites, deletes and compacts until it is stopped. */
export class Writer {
  readonly #cluster: EtcdCluster;
  readonly #done: Promise<void>;
  #rounds = 0;
  #isStopped = false;
  #waiting: (() => void)[] = [];

  constructor(cluster: EtcdCluster, { valueSize = 500, compacts = true }: WriterOptions = {}) {
    this.#cluster = cluster;
    this.#done = this.#run(valueSize, compacts);
  }

  /** Resolves after so many more rounds of it. */
  async rounds(count: number): Promise<void> {
    for (let i = 0; i < count; i++) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#done;
  }

  async #run(valueSize: number, compacts: boolean): Promise<void> {
    for (; !this.#isStopped; this.#rounds++) {
      const value = Buffer.from(`${this.#rounds} `.repeat(valueSize).slice(0, valueSize)).toString('base64');
      const keyOf = (i: number): string =>
        Buffer.from(`/registry/leases/kube-node-lease/node-${(this.#rounds * 7 + i) % 60}`).toString('base64');
      const success = Array.from({ length: 20 }, (_, i) =>
        i % 10 === 9 ? { requestDeleteRange: { key: keyOf(i) } } : { requestPut: { key: keyOf(i), value } },
      );
      await this.#cluster.gateway('/v3/kv/txn', { success });
      if (compacts && this.#rounds % 25 === 24) {
        await this.#cluster.gateway('/v3/kv/compaction', { revision: String(this.#rounds - 10) });
      }
      for (const resolve of this.#waiting.splice(0)) resolve();
    }
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

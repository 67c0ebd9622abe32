/** The real snapshots under test/fixtures/etcd-snapshots and what the real tools say about them (README there). */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';

const FOLDER = new URL('../fixtures/etcd-snapshots/', import.meta.url);

export interface Status {
  readonly hash: number;
  readonly revision: number;
  readonly totalKey: number;
  readonly totalSize: number;
}

export interface Vector {
  readonly name: string;
  readonly file: string;
  readonly gzip: boolean;
  readonly serverVersion: string;
  readonly fileSize: number;
  readonly dbSize: number;
  readonly sha256File: string;
  readonly trailer: string;
  readonly status: Readonly<Record<string, Status>>;
  readonly statusText: Readonly<Record<string, string>>;
  readonly server: {
    readonly revision: number;
    readonly liveKeys: number;
    readonly liveKeysByPrefix: Readonly<Record<string, number>>;
    readonly hashKV: readonly { readonly HashKV: { readonly hash: number; readonly compact_revision: number } }[];
  };
  readonly expected36: { readonly totalKey: number };
  /** What etcdutl 3.6 prints, in the vectors of etcd 3.6 only. */
  readonly status36?: Status & { readonly version: string };
  readonly hashkv36?: { readonly hash: number; readonly hashRevision: number; readonly compactRevision: number };
  /** The JSON text itself: its ids exceed 2^53. */
  readonly text: string;
}

export interface Mutation {
  readonly id: string;
  readonly base: string;
  readonly description: string;
  readonly recommended: 'accept' | 'reject';
  readonly reseal: boolean;
  readonly replaceWith?: {
    readonly type: 'empty' | 'zeros' | 'concat' | 'sha256-stream';
    readonly length?: number;
    readonly label?: string;
    readonly ranges?: readonly (readonly [number, number])[];
  };
  readonly edits?: readonly { readonly offset: number; readonly hex: string }[];
  readonly truncateTo?: number;
  readonly appendHex?: string;
  readonly appendZeros?: number;
  readonly resultSize: number;
  readonly resultSha256: string;
  readonly toolsReject: Readonly<Record<string, boolean>>;
}

const read = (name: string): Buffer => readFileSync(new URL(name, FOLDER));

export function vectors(): Vector[] {
  return readdirSync(FOLDER)
    .filter((name) => name.endsWith('.json'))
    .toSorted()
    .map((name) => {
      const text = read(name).toString();
      const vector: Omit<Vector, 'text'> = JSON.parse(text);
      return Object.assign(vector, { text });
    });
}

export function snapshot(vector: Pick<Vector, 'file' | 'gzip'>): Buffer {
  return vector.gzip ? gunzipSync(read(vector.file)) : read(vector.file);
}

/** A vector's bytes by its name. */
export function snapshotOf(name: string): Buffer {
  const vector: Vector = JSON.parse(read(`${name}.json`).toString());
  return snapshot(vector);
}

export function mutations(): Mutation[] {
  const document: { mutations: Mutation[] } = JSON.parse(read('corrupt/corrupt.json').toString());
  return document.mutations;
}

export const sha256 = (bytes: Uint8Array): Buffer => createHash('sha256').update(bytes).digest();

/** A database with its right trailer. */
export const seal = (database: Uint8Array): Buffer => Buffer.concat([database, sha256(database)]);

/** Builds a mutation from its base's bytes, as the vectors' README describes. */
export function mutate(base: Buffer, mutation: Mutation): Buffer {
  const { replaceWith, edits = [], truncateTo, appendHex, appendZeros = 0, reseal } = mutation;
  let bytes = Buffer.from(reseal ? base.subarray(0, -32) : base);
  if (replaceWith !== undefined) bytes = replacement(base, replaceWith);
  for (const { offset, hex } of edits) Buffer.from(hex, 'hex').copy(bytes, offset);
  if (truncateTo !== undefined) bytes = bytes.subarray(0, truncateTo);
  bytes = Buffer.concat([bytes, Buffer.from(appendHex ?? '', 'hex'), Buffer.alloc(appendZeros)]);
  return reseal ? seal(bytes) : bytes;
}

function replacement(base: Buffer, { type, length = 0, label, ranges = [] }: NonNullable<Mutation['replaceWith']>) {
  if (type === 'concat') return Buffer.concat(ranges.map(([from, to]) => base.subarray(from, to)));
  const bytes = Buffer.alloc(length);
  if (type !== 'sha256-stream') return bytes;
  for (let at = 0, i = 0; at < length; at += 32, i++) sha256(Buffer.from(`${label}-${i}`)).copy(bytes, at);
  return bytes;
}

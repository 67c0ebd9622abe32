import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { brotliCompressSync, brotliDecompressSync, gunzipSync } from 'node:zlib';
import { parseJson } from '../../src/objects/json-text.ts';
import { isObject, type Json, type JsonObject } from '../../src/objects/object-values.ts';
import type { StoredValue } from '../../src/objects/stored-value.ts';
import { isLater, type KeyEntry, KeyScanner } from '../../src/snapshot/keys.ts';
import { OBJECTS } from './stored-objects.ts';
import { factsOf, verify } from './verify.ts';

/** A snapshot of a real cluster. */
export function clusterSnapshot(): Buffer {
  return gunzipSync(readFileSync(join(OBJECTS, 'cluster.snap.gz')));
}

export function fixtureLines(name: string): JsonObject[] {
  const text = brotliDecompressSync(readFileSync(join(OBJECTS, name))).toString();
  return text
    .trim()
    .split(/\n+/)
    .map((line) => parseJson(Buffer.from(line)) as JsonObject);
}

/** The live values of a snapshot. */
export function liveValues(snapshot: Buffer): StoredValue[] {
  const last = new Map<string, StoredValue & Pick<KeyEntry, 'main' | 'sub' | 'isTombstone'>>();
  const scanner = new KeyScanner(factsOf(verify(snapshot)).keyPages, (entry) => {
    const { keyText, main, sub, isTombstone } = entry;
    if (!isLater(entry, last.get(keyText))) return;
    const [key, value] = [Buffer.from(entry.key), Buffer.from(entry.value)];
    last.set(keyText, { key, value, modRevision: main, main, sub, isTombstone });
  });
  scanner.push(snapshot);
  const live = [...last.values()].filter(({ isTombstone }) => !isTombstone);
  return live.map(({ key, value, modRevision }) => ({ key, value, modRevision }));
}

/** What an API server shows of an object in its columns. */
export interface Recorded {
  readonly object: JsonObject;
  readonly cells: readonly unknown[];
}

const COLUMNS = join(OBJECTS, 'columns.json.br');

/** Writes the fixture that `recordedColumns` reads: ages are those of now. */
export function recordColumns(tables: readonly Recorded[]): void {
  writeFileSync(COLUMNS, brotliCompressSync(JSON.stringify({ now: Date.now(), tables })));
}

export function recordedColumns(): { readonly now: number; readonly tables: readonly Recorded[] } {
  return JSON.parse(brotliDecompressSync(readFileSync(COLUMNS)).toString()) as ReturnType<typeof recordedColumns>;
}

/** Without times that are null: API servers before 1.34 write them, newer ones and this program do not. */
export function withoutNullTimes(value: Json): Json {
  if (Array.isArray(value)) return value.map(withoutNullTimes);
  if (!isObject(value)) return value;
  const kept = Object.entries(value).filter(([name, element]) => name !== 'creationTimestamp' || element !== null);
  return Object.fromEntries(kept.map(([name, element]) => [name, withoutNullTimes(element)]));
}

// Writes src/objects/type-table.ts: the types of the newest Kubernetes, and of older ones what the newer ones dropped. Needs Go.
// A newer version: (cd test/tools/objects && go get k8s.io/{api,apiextensions-apiserver,apimachinery,client-go,kube-aggregator}@v0.38.0
// && go mod tidy), then run this file.
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { brotliCompressSync, constants } from 'node:zlib';

const HERE = import.meta.dirname;
const TARGET = join(HERE, '..', '..', '..', 'src', 'objects', 'type-table.ts');

/** As in main.go. */
const OMIT_EMPTY = 1;

type FieldRow = readonly [number: number, name: string, form: string, flags: number];

export interface TypeTable {
  readonly types: Readonly<Record<string, string>>;
  readonly messages: Readonly<Record<string, readonly FieldRow[]>>;
}

/** The files that pin versions, the newest first. */
export function pins(): { readonly modfile: string; readonly version: string }[] {
  const modfiles = readdirSync(HERE).filter((name) => name.endsWith('.mod'));
  return modfiles
    .map((modfile) => {
      const text = readFileSync(join(HERE, modfile), 'utf8');
      return { modfile, version: /k8s\.io\/apimachinery v([\d.]+)/.exec(text)?.[1] ?? '' };
    })
    .toSorted((a, b) => b.version.localeCompare(a.version, 'en', { numeric: true }));
}

/** Runs the program for one pin. */
export function objects(modfile: string, ...args: readonly string[]): string {
  const command = ['run', `-modfile=${modfile}`, '.', ...args];
  return execFileSync('go', command, { cwd: HERE, encoding: 'utf8', maxBuffer: 2 ** 30, stdio: ['ignore', 'pipe', 'inherit'] });
}

export function makeTable(): TypeTable {
  const types: Record<string, string> = {};
  const messages: Record<string, FieldRow[]> = {};
  for (const { modfile } of pins()) {
    const table = JSON.parse(objects(modfile, 'table')) as TypeTable;
    for (const [type, message] of Object.entries(table.types)) types[type] ??= message;
    for (const [message, fields] of Object.entries(table.messages)) {
      const known = messages[message];
      if (known === undefined) messages[message] = [...fields];
      else known.push(...dropped(fields, known));
    }
  }
  return { types: sorted(types), messages: sorted(messages) };
}

/** The fields that newer versions lack. They are in the JSON only where they are in the value. */
function dropped(fields: readonly FieldRow[], newer: readonly FieldRow[]): FieldRow[] {
  return fields
    .filter(([number, name]) => !newer.some(([other, otherName]) => other === number || otherName === name))
    .map(([number, name, form, flags]) => [number, name, form, flags | OMIT_EMPTY]);
}

function sorted<T>(record: Readonly<Record<string, T>>): Record<string, T> {
  return Object.fromEntries(Object.entries(record).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

if (process.argv[1] === import.meta.filename) {
  const text = JSON.stringify(makeTable());
  const params = { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_LGWIN]: 22, [constants.BROTLI_PARAM_SIZE_HINT]: text.length };
  const data = brotliCompressSync(text, { params }).toString('base64');
  const versions = pins().map(({ version }) => `v${version}`);
  writeFileSync(
    TARGET,
    `// Made by test/tools/objects/make-table.ts from the tags of the Go structs of k8s.io/api, apimachinery, apiextensions-apiserver and
// kube-aggregator (Apache-2.0, The Kubernetes Authors): ${versions[0]}, and what it dropped of ${versions.slice(1).join(', ')}.

/** JSON, compressed with Brotli, in base64. */
export const TYPE_TABLE =
  '${data}';
`,
  );
}

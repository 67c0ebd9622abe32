import { isShown, quoted, sortedEntries } from './json-text.ts';
import { type Json, type JsonObject } from './object-values.ts';

/** Text that no YAML parser takes for anything else, unless it is a word of RESERVED. */
const PLAIN = /^[A-Za-z/](?:[\w ./@+=-]|:(?=[\w/]))*$/;

/** YAML 1.1, which kubectl reads, has more words for booleans and null than YAML 1.2. */
const RESERVED = /^(?:y|yes|n|no|true|false|on|off|null|e[-+]?\d+)$/i;

/** Text of several lines without space at its edges, where a parser would not know what is indentation. */
const BLOCK = /^\S(?:[^]*\S)?\n+$|^\S[^]*\n[^]*\S$/;

/** A name that is longer must be marked as one. */
const MAX_SIMPLE_KEY = 500;

/** A document as `kubectl get -o yaml` prints it: names in alphabetical order. Ends with a line feed. */
export function yamlText(value: JsonObject): string {
  return `${node(value, '')}\n`;
}

/** @param indent of the lines of a map or a list; those of a list have it as well */
function node(value: Json, indent: string): string {
  if (typeof value === 'string') return scalar(value, indent);
  if (typeof value !== 'object' || value === null) return String(value);
  if (Array.isArray(value)) {
    if (value.length === 0) return '[]';
    return value.map((element) => `- ${node(element, `${indent}  `)}`).join(`\n${indent}`);
  }
  const entries = sortedEntries(value);
  if (entries.length === 0) return '{}';
  return entries.map(([name, element]) => entry(name, element, indent)).join(`\n${indent}`);
}

function entry(name: string, value: Json, indent: string): string {
  const key = isPlain(name) ? name : quoted(name, 'yaml');
  const start = key.length > MAX_SIMPLE_KEY ? `? ${key}\n${indent}:` : `${key}:`;
  if (typeof value !== 'object' || value === null) return `${start} ${node(value, `${indent}  `)}`;
  if (Array.isArray(value)) {
    return value.length === 0 ? `${start} []` : `${start}\n${indent}${node(value, indent)}`;
  }
  return Object.keys(value).length === 0 ? `${start} {}` : `${start}\n${indent}  ${node(value, `${indent}  `)}`;
}

function scalar(text: string, indent: string): string {
  if (isPlain(text)) return text;
  if (!BLOCK.test(text) || !isShown(text.replaceAll('\n', ''))) return quoted(text, 'yaml');
  const [, end = ''] = /(\n*)$/.exec(text) ?? [];
  const chomping = end === '' ? '-' : end === '\n' ? '' : '+';
  const body = (end === '' ? text : text.slice(0, -1)).split('\n').map((line) => (line === '' ? '' : indent + line));
  return `|${chomping}\n${body.join('\n')}`;
}

function isPlain(text: string): boolean {
  return PLAIN.test(text) && !RESERVED.test(text) && !text.endsWith(' ') && !text.includes(' #');
}

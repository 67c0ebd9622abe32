import { UNPRINTABLE } from '../text.ts';
import { exactInteger, type Json, MAX_DEPTH, UnreadableValue } from './object-values.ts';

const INT64 = 64;

/** Only then can a number lose digits: parsing with a reviver takes ten times as long. */
const HAS_LONG_NUMBER = /\d{16}/;

/** Parses JSON with integers that stay exact, as the API server reads it. @throws UnreadableValue */
export function parseJson(bytes: Buffer): Json {
  assertShallow(bytes);
  const text = bytes.toString();
  try {
    return HAS_LONG_NUMBER.test(text) ? (JSON.parse(text, withExactIntegers) as Json) : (JSON.parse(text) as Json);
  } catch {
    throw new UnreadableValue('is not valid JSON');
  }
}

/** @param context with the text of a number, which TypeScript does not know yet */
function withExactIntegers(_: string, value: unknown, context?: { readonly source?: string }): unknown {
  const source = context?.source;
  if (typeof value !== 'number' || source === undefined || !/^-?\d+$/.test(source)) return value;
  const integer = BigInt(source);
  return BigInt.asIntN(INT64, integer) === integer ? exactInteger(integer) : value;
}

/** Parsing and printing are recursive. */
function assertShallow(bytes: Buffer): void {
  let [depth, isInText] = [0, false];
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at];
    if (isInText) {
      if (byte === 0x5c) at++;
      else if (byte === 0x22) isInText = false;
    } else if (byte === 0x22) isInText = true;
    else if (byte === 0x7b || byte === 0x5b) {
      if (++depth > MAX_DEPTH) throw new UnreadableValue(`has more than ${MAX_DEPTH} levels`);
    } else if (byte === 0x7d || byte === 0x5d) depth--;
  }
}

/** As `kubectl get -o json` prints it: names in alphabetical order. */
export function jsonText(value: Json, indent = ''): string {
  const inner = `${indent}    `;
  if (Array.isArray(value)) {
    if (value.length === 0) return '[]';
    return `[\n${value.map((element) => inner + jsonText(element, inner)).join(',\n')}\n${indent}]`;
  }
  if (typeof value === 'object' && value !== null) {
    const entries = sortedEntries(value);
    if (entries.length === 0) return '{}';
    const lines = entries.map(([name, element]) => `${inner}${quoted(name, 'json')}: ${jsonText(element, inner)}`);
    return `{\n${lines.join(',\n')}\n${indent}}`;
  }
  return typeof value === 'string' ? quoted(value, 'json') : String(value);
}

/** For programs: on one line if it has no number that only a bigint can hold. */
export function shortJson(value: Json): string {
  try {
    return JSON.stringify(value);
  } catch {
    return jsonText(value);
  }
}

export function isShown(text: string): boolean {
  return text.search(UNPRINTABLE) === -1;
}

/** Text in quotes, with escapes for all that a terminal does not show. A YAML parser refuses some of it otherwise. */
export function quoted(text: string, language: 'json' | 'yaml'): string {
  return JSON.stringify(text.toWellFormed()).replace(UNPRINTABLE, (char) => {
    const code = char.codePointAt(0) ?? 0;
    if (language === 'yaml' && code > 0xffff) return `\\U${code.toString(16).padStart(8, '0')}`;
    return [...Array(char.length).keys()]
      .map((at) => `\\u${char.charCodeAt(at).toString(16).padStart(4, '0')}`)
      .join('');
  });
}

export function sortedEntries(value: Readonly<Record<string, Json>>): [string, Json][] {
  return Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
}

import { UsageError } from '../errors.ts';
import { printable } from '../text.ts';
import { type JsonObject, valueAt } from './object-values.ts';

interface Requirement {
  readonly name: string;
  /** Undefined: any value, or none. */
  readonly isWanted: ((value: string) => boolean) | undefined;
  readonly isNegated: boolean;
}

/** One requirement, or a set of values with its own commas. */
const PART = /^\s*(!?)\s*([\w./-]+)\s*(?:(=|==|!=)\s*([\w.-]*)|([<>])\s*(\d+)|\s(in|notin)\s*\(([^()]*)\))?\s*$/;

/**
 * The selector of labels that kubectl takes: `a=b,c!=d,e,!f,g in (h,i),j notin (k),l>1,m<5`.
 * @throws UsageError
 */
export function parseSelector(text: string): (object: JsonObject) => boolean {
  const requirements = text.trim() === '' ? [] : text.split(/,(?![^(]*\))/).map(parseRequirement);
  return (object) =>
    requirements.every((requirement) => isMet(requirement, valueAt(object, 'metadata', 'labels') as JsonObject));
}

function parseRequirement(text: string): Requirement {
  const [all, not = '', name = '', operator, value = '', order, bound = '', word, set = ''] = PART.exec(text) ?? [];
  const limit = order === undefined ? undefined : integerIn(bound);
  const isNumber = order === undefined || limit !== undefined;
  if (all === undefined || !isNumber || (not === '!' && (operator ?? order ?? word) !== undefined)) {
    throw new UsageError(
      `${printable(text.slice(0, 300))} is not a selector of labels.`,
      'Write it as for kubectl, such as app=web,tier!=back',
    );
  }
  if (operator !== undefined) return { name, isWanted: (label) => label === value, isNegated: operator === '!=' };
  if (limit !== undefined) return { name, isWanted: (label) => isBeyond(label, order, limit), isNegated: false };
  if (word === undefined) return { name, isWanted: undefined, isNegated: not === '!' };
  const values = new Set(set.split(',').map((part) => part.trim()));
  return { name, isWanted: (label) => values.has(label), isNegated: word === 'notin' };
}

function isBeyond(label: string, order: string | undefined, limit: bigint): boolean {
  const number = integerIn(label);
  return number !== undefined && (order === '>' ? number > limit : number < limit);
}

/** The values of labels have at most 63 characters, and no sign. An API server compares them as int64. */
function integerIn(text: string): bigint | undefined {
  const number = /^\d{1,63}$/.test(text) ? BigInt(text) : undefined;
  return number === undefined || number >= 2n ** 63n ? undefined : number;
}

function isMet({ name, isWanted, isNegated }: Requirement, labels: JsonObject | undefined): boolean {
  const label = valueAt(labels, name);
  const isMatch = typeof label === 'string' && (isWanted === undefined || isWanted(label));
  return isMatch !== isNegated;
}

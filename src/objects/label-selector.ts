import { UsageError } from '../errors.ts';
import { printable } from '../text.ts';
import { type JsonObject, valueAt } from './object-values.ts';

interface Requirement {
  readonly name: string;
  /** Undefined: any value, or none. */
  readonly values: readonly string[] | undefined;
  readonly isNegated: boolean;
}

/** One requirement, or a set of values with its own commas. */
const PART = /^\s*(!?)\s*([\w./-]+)\s*(?:(=|==|!=)\s*([\w.-]*)|\s(in|notin)\s*\(([^()]*)\))?\s*$/;

/**
 * The selector of labels that kubectl takes: `a=b,c!=d,e,!f,g in (h,i),j notin (k)`.
 * @throws UsageError
 */
export function parseSelector(text: string): (object: JsonObject) => boolean {
  const requirements = text.trim() === '' ? [] : text.split(/,(?![^(]*\))/).map(parseRequirement);
  return (object) =>
    requirements.every((requirement) => isMet(requirement, valueAt(object, 'metadata', 'labels') as JsonObject));
}

function parseRequirement(text: string): Requirement {
  const [all, not = '', name = '', operator, value = '', word, set = ''] = PART.exec(text) ?? [];
  if (all === undefined || (not === '!' && (operator ?? word) !== undefined)) {
    throw new UsageError(
      `${printable(text.slice(0, 300))} is not a selector of labels.`,
      'Write it as for kubectl, such as app=web,tier!=back',
    );
  }
  if (operator !== undefined) return { name, values: [value], isNegated: operator === '!=' };
  if (word === undefined) return { name, values: undefined, isNegated: not === '!' };
  return { name, values: set.split(',').map((part) => part.trim()), isNegated: word === 'notin' };
}

function isMet({ name, values, isNegated }: Requirement, labels: JsonObject | undefined): boolean {
  const label = valueAt(labels, name);
  const isMatch = typeof label === 'string' && (values === undefined || values.includes(label));
  return isMatch !== isNegated;
}

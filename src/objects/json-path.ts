import { scalar } from './cells.ts';
import { isObject, type Json, valueAt } from './object-values.ts';

/** One step: from each value to those below it. */
type Step = (value: Json) => readonly (Json | undefined)[];

/** A field name, in which a backslash makes the next character part of it. */
const FIELD = String.raw`\.((?:[^\\.,[\]$@{}()\s=!<>|]|\\.)+)`;
const STEP = new RegExp(
  [
    FIELD,
    String.raw`\['([^']*)'\]`,
    String.raw`\[(-?\d+)\]`,
    String.raw`(\.\*|\[\*\])`,
    String.raw`\[\?\(@((?:${FIELD.replace('((?:', '(?:(?:')})+)\s*(?:(==|!=)\s*("[^"]*"|'[^']*'|[\w.+-]+)\s*)?\)\]`,
  ].join('|'),
  'y',
);

/**
 * The JSONPath of a column of a CustomResourceDefinition: fields, places in lists, `*`, and filters that compare one field.
 * @returns what finds the first value at the path; undefined for a path with anything else
 */
export function parsePath(path: string): ((value: Json) => Json | undefined) | undefined {
  const steps: Step[] = [];
  for (let at = path.startsWith('$') ? 1 : 0; at < path.length; at = STEP.lastIndex) {
    STEP.lastIndex = at;
    const found = STEP.exec(path);
    if (found === null) return undefined;
    steps.push(stepOf(found));
  }
  return (value) => {
    let values: readonly Json[] = [value];
    for (const step of steps) values = values.flatMap((each) => step(each).filter((next) => next !== undefined));
    return values[0];
  };
}

function stepOf([, field, key, index, all, filtered, operator, literal]: RegExpExecArray): Step {
  if (index !== undefined) return (value) => (Array.isArray(value) ? [value.at(Number(index))] : []);
  if (all !== undefined) return (value) => (isObject(value) ? Object.values(value) : Array.isArray(value) ? value : []);
  // The API server takes dots in quotation marks for steps as well, unless they have a backslash.
  const names = namesIn(filtered ?? `.${key ?? field}`);
  if (filtered === undefined) return (value) => [valueAt(value, ...names)];
  const wanted = literal?.replace(/^(["'])(.*)\1$/, '$2');
  const isMet = (element: Json): boolean => {
    const found = valueAt(element, ...names);
    if (wanted === undefined || found === undefined) return found !== undefined;
    return (scalar(found) === wanted) === (operator === '==');
  };
  return (value) => (Array.isArray(value) ? value.filter(isMet) : []);
}

/** Those of `.a.b`. */
function namesIn(fields: string): string[] {
  return [...fields.matchAll(new RegExp(FIELD, 'g'))].map(([, name = '']) => name.replaceAll(/\\(.)/g, '$1'));
}

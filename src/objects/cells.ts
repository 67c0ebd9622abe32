import { isObject, type Json, type JsonObject, listAt, textAt, valueAt } from './object-values.ts';

/* Parts of the tables that kubectl shows, which several types have in common. The words are those of the API server. */

/** @param now of ages, in milliseconds */
export type Cell = (object: JsonObject, now: number) => string;
export type Cells = Readonly<Record<string, Cell>>;

export function text(...path: readonly string[]): Cell {
  return (object) => scalar(valueAt(object, ...path));
}

/** A number, a text or a truth value; empty for anything else. */
export function scalar(value: Json | undefined): string {
  return value === undefined || value === null || typeof value === 'object' ? '' : String(value);
}

/** An absent number is 0: the API server omits zeros. */
export function count(object: Json | undefined, ...path: readonly string[]): string {
  const value = valueAt(object, ...path);
  return typeof value === 'number' ? String(value) : '0';
}

export function counter(...path: readonly string[]): Cell {
  return (object) => count(object, ...path);
}

export function lengthOf(...path: readonly string[]): Cell {
  return (object) => String(listAt(object, ...path).length);
}

/** @param fallback for an empty cell */
export function or(fallback: string, cell: Cell): Cell {
  return (object, now) => cell(object, now) || fallback;
}

export function orNone(cell: Cell): Cell {
  return or('<none>', cell);
}

export function isDeleted(object: JsonObject): boolean {
  return textAt(object, 'metadata', 'deletionTimestamp') !== '';
}

export function condition(object: JsonObject, type: string): Json | undefined {
  return listAt(object, 'status', 'conditions').find((each) => textAt(each, 'type') === type);
}

export function hasCondition(object: JsonObject, type: string): boolean {
  return textAt(condition(object, type), 'status') === 'True';
}

/** How long ago a time was. */
export function since(...path: readonly string[]): Cell {
  return (object, now) => ago(textAt(object, ...path), now) || '<unknown>';
}

/** Empty where there is no time. */
export function ago(time: string, now: number): string {
  const ms = now - Date.parse(time);
  return Number.isNaN(ms) ? '' : humanDuration(ms);
}

/** As the API server rounds durations: `90s`, `3m20s`, `5h`, `2d3h`. */
export function humanDuration(ms: number): string {
  const seconds = Math.trunc(ms / 1000);
  if (seconds < -1) return '<invalid>';
  if (seconds < 120) return `${Math.max(0, seconds)}s`;
  const [minutes, hours] = [Math.floor(seconds / 60), Math.floor(seconds / 3600)];
  const [days, years] = [Math.floor(hours / 24), Math.floor(hours / 24 / 365)];
  if (minutes < 10) return withRest(`${minutes}m`, seconds % 60, 's');
  if (minutes < 3 * 60) return `${minutes}m`;
  if (hours < 8) return withRest(`${hours}h`, minutes % 60, 'm');
  if (hours < 2 * 24) return `${hours}h`;
  if (days < 8) return withRest(`${days}d`, hours % 24, 'h');
  if (years < 2) return `${days}d`;
  return years < 8 ? withRest(`${years}y`, days % 365, 'd') : `${years}y`;
}

function withRest(large: string, small: number, unit: string): string {
  return large + (small === 0 ? '' : `${small}${unit}`);
}

/** The first three. @param all how many there are */
export function firstThree(texts: readonly string[], all = texts.length): string {
  return texts.slice(0, 3).join(',') + (all > 3 ? ` + ${all - 3} more...` : '');
}

/** Such as `app=web,tier=back`. */
export function labels(...path: readonly string[]): Cell {
  return orNone((object) =>
    pairs(valueAt(object, ...path))
      .toSorted()
      .join(','),
  );
}

function pairs(map: Json | undefined): string[] {
  return isObject(map) ? Object.entries(map).map(([name, value]) => `${name}=${scalar(value)}`) : [];
}

/** Such as `app=web,tier in (a,b)`. @param invalid for a selector that is none @param empty for one that selects everything */
export function selector(path: readonly string[], invalid = '<error>', empty = '<none>'): Cell {
  return (object) => {
    const parts = pairs(valueAt(object, ...path, 'matchLabels')).map((pair) => ({
      key: pair.slice(0, pair.indexOf('=')),
      shown: pair,
    }));
    for (const each of listAt(object, ...path, 'matchExpressions')) {
      const [key, operator] = [textAt(each, 'key'), textAt(each, 'operator')];
      const values = listAt(each, 'values').map(scalar).toSorted();
      const isSet = operator === 'In' || operator === 'NotIn';
      if (!/^(?:In|NotIn|Exists|DoesNotExist)$/.test(operator) || isSet !== values.length > 0) return invalid;
      const set = ` ${operator.toLowerCase()} (${values.join(',')})`;
      parts.push({ key, shown: isSet ? key + set : `${operator === 'Exists' ? '' : '!'}${key}` });
    }
    const sorted = parts.toSorted((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
    return sorted.map(({ shown }) => shown).join(',') || empty;
  };
}

/** Names and images of the containers of a pod template. @param path of the template */
export function containers(...path: readonly string[]): Cells {
  const listed =
    (field: string): Cell =>
    (object) =>
      listAt(object, ...path, 'spec', 'containers')
        .map((container) => textAt(container, field))
        .join(',');
  return { Containers: listed('name'), Images: listed('image') };
}

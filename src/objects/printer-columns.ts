import { ago, type Cell, scalar } from './cells.ts';
import { type Column, columnsOf, NAME_COLUMN } from './columns.ts';
import { parsePath } from './json-path.ts';
import { shortJson } from './json-text.ts';
import { type Json, type JsonObject, listAt, textAt, valueAt } from './object-values.ts';

/** The columns that a CustomResourceDefinition has for its objects, by version. */
export function columnsInDefinition(definition: JsonObject): ReadonlyMap<string, readonly Column[]> {
  const versions = listAt(definition, 'spec', 'versions');
  return new Map(versions.map((version) => [textAt(version, 'name'), columnsIn(version)]));
}

function columnsIn(version: Json): readonly Column[] {
  const own = listAt(version, 'additionalPrinterColumns');
  // Without columns of its own, a type has a name and an age.
  return own.length === 0 ? columnsOf({ kind: '', group: '' }) : [NAME_COLUMN, ...own.map(columnOf)];
}

function columnOf(column: Json): Column {
  const priority = valueAt(column, 'priority');
  const isWide = typeof priority === 'number' && priority > 0;
  return { heading: textAt(column, 'name'), cell: cellOf(textAt(column, 'type'), textAt(column, 'jsonPath')), isWide };
}

/** Empty where the value does not exist or is not of the type of the column. */
function cellOf(type: string, path: string): Cell {
  const find = parsePath(path);
  return (object, now) => {
    const value = find?.(object);
    if (value === undefined || value === null) return '';
    switch (type) {
      case 'string':
        return typeof value === 'object' ? shortJson(value) : scalar(value);
      case 'date':
        return typeof value === 'string' ? ago(value, now) || '<invalid>' : '';
      case 'boolean':
        return typeof value === 'boolean' ? String(value) : '';
      case 'integer':
        return typeof value === 'number' ? String(Math.trunc(value)) : typeof value === 'bigint' ? String(value) : '';
      default:
        return typeof value === 'number' || typeof value === 'bigint' ? String(value) : '';
    }
  };
}

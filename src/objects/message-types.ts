import { brotliDecompressSync } from 'node:zlib';
import { TYPE_TABLE } from './type-table.ts';

/** A field of a message, as test/tools/objects found it in the Go struct. */
export interface Field {
  readonly number: number;
  /** In JSON; empty for a message whose fields are those of its parent. */
  readonly name: string;
  /**
   * Of its value: `s` text, `b` boolean, `i` int32, `l` int64, `d` double, `B` bytes, `L` a list of texts, `:NAME` a message, `[` before
   * the form of a list's elements, `{` before that of a map's values. Types with a JSON form of their own: `Q` Quantity,
   * `I` IntOrString, `T` Time, `U` MicroTime, `D` Duration, `F` FieldsV1, `R` RawExtension, `J` JSON, and `A`, `O`, `S` before the schema
   * in a schema that can also be an array, a boolean or an array of texts.
   */
  readonly form: string;
  /** Left out of the JSON where it is the zero value of Go; a struct never is. */
  readonly omitEmpty: boolean;
  /** Nil, not the zero value, where it is absent. */
  readonly isPointer: boolean;
  /** Left out also where it is a struct that is zero. */
  readonly omitZero: boolean;
}

interface Table {
  /** Names of messages, by apiVersion and kind with a space between. */
  readonly types: Readonly<Record<string, string>>;
  readonly messages: Readonly<Record<string, readonly (readonly [number, string, string, number])[]>>;
}

let table: Table | undefined;
const known = new Map<string, readonly Field[]>();

function loaded(): Table {
  table ??= JSON.parse(brotliDecompressSync(Buffer.from(TYPE_TABLE, 'base64')).toString()) as Table;
  return table;
}

/** The message of a built-in type; undefined for a type that no version in the table has. */
export function messageOf(apiVersion: string, kind: string): string | undefined {
  const { types } = loaded();
  const type = `${apiVersion} ${kind}`;
  return Object.hasOwn(types, type) ? types[type] : undefined;
}

export function fieldsOf(message: string): readonly Field[] {
  let fields = known.get(message);
  if (fields === undefined) {
    fields = (loaded().messages[message] ?? []).map(([number, name, form, flags]) => ({
      number,
      name,
      form,
      omitEmpty: (flags & 1) !== 0,
      isPointer: (flags & 2) !== 0,
      omitZero: (flags & 4) !== 0,
    }));
    known.set(message, fields);
  }
  return fields;
}

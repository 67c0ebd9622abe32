import { durationText, timeText } from './go-forms.ts';
import { parseJson } from './json-text.ts';
import { type Field, fieldsOf } from './message-types.ts';
import { Budget, exactInteger, type Json, type JsonObject, UnreadableValue } from './object-values.ts';
import { Fixed, readFields, type Wire } from './wire-format.ts';

const NOTHING: Buffer = Buffer.alloc(0);

/**
 * A protobuf message as the JSON that Go makes of it, the rules of `omitempty` included.
 * @param name in the table of types
 * @throws UnreadableValue
 */
export function decodeMessage(bytes: Buffer, name: string): JsonObject {
  return new Decoder().message(bytes, name, 0);
}

class Decoder {
  readonly #budget = new Budget();

  message(bytes: Buffer, name: string, depth: number): JsonObject {
    this.#budget.enter(depth);
    const wires = readFields(bytes);
    // Names of fields are those of the table of types.
    const object: JsonObject = {};
    for (const field of fieldsOf(name)) {
      const found = wires.get(field.number);
      if (field.name !== '') {
        const value = this.#field(field, found, depth + 1);
        if (value !== undefined) object[field.name] = value;
      } else if (found !== undefined) {
        Object.assign(object, this.message(bytesOf(found), field.form.slice(1), depth + 1));
      }
    }
    return object;
  }

  /** Undefined where the JSON leaves it out. */
  #field({ form, omitEmpty, isPointer, omitZero }: Field, wires: Wire[] | undefined, depth: number): Json | undefined {
    if (wires === undefined) {
      // Of other fields the API server stores also the zero value: it did not know one that is absent.
      const canBeNil = isPointer || /^[[{B]/.test(form);
      return canBeNil && !omitEmpty ? null : undefined;
    }
    if (form.startsWith('[')) return this.#list(form.slice(1), wires, depth);
    if (form.startsWith('{')) return this.#map(form.slice(1), wires, depth);
    const value = this.#value(form, wires, depth);
    if (isPointer) return value;
    if (omitEmpty && /^[sbildB]$/.test(form) && (value === '' || value === false || value === 0)) return undefined;
    return omitZero && form === 'T' && value === null ? undefined : value;
  }

  #list(form: string, wires: readonly Wire[], depth: number): Json[] {
    return wires.map((wire) => {
      this.#budget.enter(depth);
      return this.#value(form, [wire], depth);
    });
  }

  /** Each entry is a message: 1 key, 2 value. */
  #map(form: string, wires: readonly Wire[], depth: number): JsonObject {
    const entries = wires.map((wire): [string, Json] => {
      this.#budget.enter(depth);
      const entry = readFields(bytesOf([wire]));
      return [textOf(entry.get(1)), this.#value(form, entry.get(2), depth)];
    });
    return Object.fromEntries(entries);
  }

  /** @param wires undefined where it is absent: then it is the zero value */
  #value(form: string, wires: Wire[] | undefined, depth: number): Json {
    switch (form[0]) {
      case 's':
        return textOf(wires);
      case 'b':
        return numberOf(wires) !== 0;
      case 'i':
        return int32(numberOf(wires));
      case 'l':
        return int64(numberOf(wires));
      case 'd':
        return doubleOf(wires);
      case 'B':
        return lastBytes(wires).toString('base64');
      case ':':
        return this.message(bytesOf(wires), form.slice(1), depth);
      default:
        return this.#special(form, readFields(bytesOf(wires)), depth);
    }
  }

  /** The types of message-types.ts with a JSON form of their own. */
  #special(form: string, fields: ReadonlyMap<number, Wire[]>, depth: number): Json {
    const [first, second] = [fields.get(1), fields.get(2)];
    const isZero = fields.size === 0;
    switch (form[0]) {
      case 'L':
        return first === undefined ? null : first.map((wire) => textOf([wire]));
      case 'Q':
        return textOf(first) || '0';
      case 'I':
        return numberOf(first) === 0 ? int32(numberOf(second)) : textOf(fields.get(3));
      case 'T':
        return isZero ? null : timeText(int64(numberOf(first)), 0, 0);
      case 'U':
        return isZero
          ? null
          : timeText(int64(numberOf(first)), Number(BigInt.asUintN(30, BigInt(numberOf(second)))), 6);
      case 'D':
        return durationText(BigInt(int64(numberOf(first))));
      case 'F':
      case 'R':
      case 'J':
        return lastBytes(first).length === 0 ? null : parseJson(lastBytes(first));
      case 'A':
        return second === undefined ? this.#schema(form, first, depth) : this.#list(form.slice(1), second, depth);
      case 'O':
        return second === undefined ? numberOf(first) !== 0 : this.#schema(form, second, depth);
      case 'S':
        return second === undefined ? this.#schema(form, first, depth) : second.map((wire) => textOf([wire]));
      default:
        throw new Error(`the table of types has a form that is not known: ${form}`);
    }
  }

  #schema(form: string, wires: Wire[] | undefined, depth: number): Json {
    return wires === undefined ? null : this.message(bytesOf(wires), form.slice(2), depth);
  }
}

/** Of a message: several occurrences of it are one. */
function bytesOf(wires: readonly Wire[] = []): Buffer {
  const parts = wires.map(asBytes);
  return parts.length <= 1 ? (parts[0] ?? NOTHING) : Buffer.concat(parts);
}

/** Of text and bytes: the last occurrence counts. */
function lastBytes(wires: readonly Wire[] | undefined): Buffer {
  return asBytes(wires?.at(-1) ?? NOTHING);
}

function asBytes(wire: Wire): Buffer {
  if (Buffer.isBuffer(wire)) return wire;
  throw new UnreadableValue('is corrupt: a field has a number in place of bytes');
}

function textOf(wires: readonly Wire[] | undefined): string {
  return lastBytes(wires).toString();
}

function numberOf(wires: readonly Wire[] | undefined): number | bigint {
  const wire = wires?.at(-1) ?? 0;
  if (typeof wire === 'number' || typeof wire === 'bigint') return wire;
  throw new UnreadableValue('is corrupt: a field has bytes in place of a number');
}

function int32(value: number | bigint): number {
  return typeof value === 'number' && value < 2 ** 31 ? value : Number(BigInt.asIntN(32, BigInt(value)));
}

function int64(value: number | bigint): number | bigint {
  return typeof value === 'number' ? value : exactInteger(BigInt.asIntN(64, value));
}

function doubleOf(wires: readonly Wire[] | undefined): number {
  const wire = wires?.at(-1);
  if (wire === undefined) return 0;
  const value = wire instanceof Fixed && wire.bytes.length === 8 ? wire.bytes.readDoubleLE() : Number.NaN;
  if (!Number.isFinite(value)) throw new UnreadableValue('is corrupt: a field is not a finite number');
  return value;
}

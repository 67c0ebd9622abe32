import { fieldsOf, messageOf } from '../src/objects/message-types.ts';

/* Objects as an API server stores them: in protobuf where their type has one. */

type Json = Readonly<Record<string, unknown>>;

/** The value of an object's key. @param text its JSON */
export function storedForm(text: string): Buffer {
  const object = JSON.parse(text) as Json & { readonly apiVersion: string; readonly kind: string };
  const { apiVersion, kind } = object;
  const message = messageOf(apiVersion, kind);
  if (message === undefined) return Buffer.from(text);
  const type = [...bytes(1, Buffer.from(apiVersion)), ...bytes(2, Buffer.from(kind))];
  return Buffer.concat([Buffer.from('k8s\0'), ...bytes(1, ...type), ...bytes(2, ...messageParts(object, message))]);
}

function messageParts(object: Json, message: string): Buffer[] {
  return fieldsOf(message).flatMap(({ number, name, form }) => {
    if (name === '') return bytes(number, ...messageParts(object, form.slice(1)));
    const value = object[name];
    return value === undefined || value === null ? [] : fieldParts(number, form, value);
  });
}

function fieldParts(number: number, form: string, value: unknown): Buffer[] {
  if (form.startsWith('[')) return (value as unknown[]).flatMap((each) => fieldParts(number, form.slice(1), each));
  if (form.startsWith('{')) {
    return Object.entries(value as Json).flatMap(([key, each]) =>
      bytes(number, ...bytes(1, Buffer.from(key)), ...fieldParts(2, form.slice(1), each)),
    );
  }
  switch (form[0]) {
    case 's':
      return bytes(number, Buffer.from(String(value)));
    case 'b':
    case 'i':
    case 'l':
      return [tag(number, 0), varint(Number(value))];
    case 'B':
      return bytes(number, Buffer.from(String(value), 'base64'));
    case ':':
      return bytes(number, ...messageParts(value as Json, form.slice(1)));
    case 'Q':
      return bytes(number, ...bytes(1, Buffer.from(String(value))));
    case 'I':
      return typeof value === 'number'
        ? bytes(number, tag(1, 0), varint(0), tag(2, 0), varint(value))
        : bytes(number, tag(1, 0), varint(1), ...bytes(3, Buffer.from(String(value))));
    case 'T':
    case 'U':
      return bytes(number, tag(1, 0), varint(Math.floor(Date.parse(String(value)) / 1000)));
    case 'F':
      return bytes(number, ...bytes(1, Buffer.from(JSON.stringify(value))));
    default:
      throw new Error(`the objects of the bench have no field of the form ${form}`);
  }
}

/** A field of bytes, of which the parts follow one another. */
function bytes(number: number, ...parts: readonly Buffer[]): Buffer[] {
  return [tag(number, 2), varint(parts.reduce((sum, { length }) => sum + length, 0)), ...parts];
}

function tag(number: number, type: number): Buffer {
  return varint(number * 8 + type);
}

function varint(value: number): Buffer {
  const digits: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    digits.push((rest % 128) + (rest >= 128 ? 128 : 0));
    if (rest < 128) return Buffer.from(digits);
  }
}

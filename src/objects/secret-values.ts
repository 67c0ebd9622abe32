import { createHmac, randomBytes } from 'node:crypto';
import { jsonText } from './json-text.ts';
import { isObject, type Json, type JsonObject } from './object-values.ts';

/** Of this run, so that nobody can find a short value by trying. */
const key = randomBytes(32);

/** A Secret with digests in place of its values: equal ones show that two values are equal. Other objects are not changed. */
export function withoutSecrets(object: JsonObject): JsonObject {
  if (object['kind'] !== 'Secret' || object['apiVersion'] !== 'v1') return object;
  const { data, stringData, metadata } = object;
  return {
    ...object,
    ...(isObject(data) && { data: digested(data) }),
    ...(isObject(stringData) && { stringData: digested(stringData) }),
    // What was applied with kubectl is there once more.
    ...(isObject(metadata) &&
      isObject(metadata['annotations']) && {
        metadata: { ...metadata, annotations: digested(metadata['annotations']) },
      }),
  };
}

function digested(values: JsonObject): JsonObject {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, digest(value)]));
}

function digest(value: Json): string {
  return `(hidden ${createHmac('sha256', key).update(jsonText(value)).digest('hex').slice(0, 12)})`;
}

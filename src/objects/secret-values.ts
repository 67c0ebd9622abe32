import { createHmac, randomBytes } from 'node:crypto';
import { jsonText } from './json-text.ts';
import { isObject, type Json, type JsonObject, textAt } from './object-values.ts';

/** Of this run, so that nobody can find a short value by trying. */
const key = randomBytes(32);

/** A Secret with digests in place of its values: equal ones show that two values are equal. Other objects are not changed. */
export function withoutSecrets(object: JsonObject): JsonObject {
  if (textAt(object, 'kind').toLowerCase() !== 'secret' || object['apiVersion'] !== 'v1') return object;
  const { data, stringData, metadata } = object;
  return {
    ...object,
    ...(data !== undefined && { data: hidden(data) }),
    ...(stringData !== undefined && { stringData: hidden(stringData) }),
    // What was applied with kubectl is there once more.
    ...(isObject(metadata) &&
      isObject(metadata['annotations']) && {
        metadata: { ...metadata, annotations: digested(metadata['annotations']) },
      }),
  };
}

/** Somebody can have written a value in which it is no object. */
function hidden(values: Json): Json {
  return isObject(values) ? digested(values) : digest(values);
}

function digested(values: JsonObject): JsonObject {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, digest(value)]));
}

function digest(value: Json): string {
  return `(hidden ${createHmac('sha256', key).update(jsonText(value)).digest('hex').slice(0, 12)})`;
}

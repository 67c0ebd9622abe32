/* Objects of Kubernetes as the API server's JSON has them. */

/** An int64 beyond 2^53 is a bigint, so that it stays exact. */
export type Json = null | boolean | number | bigint | string | Json[] | JsonObject;
export interface JsonObject {
  [name: string]: Json;
}

/** A value that cannot be read: the message is the end of a sentence about it. */
export class UnreadableValue extends Error {
  override readonly name = 'UnreadableValue';
}

/** Levels of nesting. A schema of a CustomResourceDefinition has some dozens. */
export const MAX_DEPTH = 500;

/** Objects, lists and their elements in one value; etcd refuses values of more than some megabytes. */
const MAX_NODES = 2_000_000;

/** Bounds what a small value can expand to. @throws UnreadableValue */
export class Budget {
  #nodes = 0;

  enter(depth: number): void {
    if (depth > MAX_DEPTH) throw new UnreadableValue(`has more than ${MAX_DEPTH} levels`);
    if (++this.#nodes > MAX_NODES) throw new UnreadableValue(`has more than ${MAX_NODES} elements`);
  }
}

export function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The value at a path of names; undefined where a part of it does not exist or is no object. */
export function valueAt(value: Json | undefined, ...path: readonly string[]): Json | undefined {
  let found = value;
  for (const name of path) found = isObject(found) && Object.hasOwn(found, name) ? found[name] : undefined;
  return found;
}

/** The text at a path; empty where there is none. */
export function textAt(value: Json | undefined, ...path: readonly string[]): string {
  const found = valueAt(value, ...path);
  return typeof found === 'string' ? found : '';
}

/** The elements of a list; none for anything else. */
export function listAt(value: Json | undefined, ...path: readonly string[]): Json[] {
  const found = valueAt(value, ...path);
  return Array.isArray(found) ? found : [];
}

/** As a number where it is exact, else as a bigint. */
export function exactInteger(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

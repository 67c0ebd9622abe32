import type { EncryptionKey } from '../bundle/encryption-config.ts';
import { isEncryptedValue } from '../snapshot/encrypted-secrets.ts';
import { printable } from '../text.ts';
import { CBOR_MARK, parseCbor } from './cbor.ts';
import { withServedVersion } from './crd-version.ts';
import { decodeMessage } from './decode-message.ts';
import { decrypt } from './decryption.ts';
import { parseJson } from './json-text.ts';
import { messageOf } from './message-types.ts';
import { isObject, type Json, type JsonObject, textAt, UnreadableValue } from './object-values.ts';
import { readFields, type Wire } from './wire-format.ts';

/** Before a message that wraps an object in protobuf (runtime.Unknown). */
const PROTOBUF_MARK = Buffer.from('k8s\0');

/** Of field 1 of that message, the type. */
const TYPE_TAG = (1 << 3) | 2;

const JSON_MARK = Buffer.from('{');

const MARKS = [PROTOBUF_MARK, JSON_MARK, CBOR_MARK];

/** The value of a key of etcd that can be an object of Kubernetes. */
export interface StoredValue {
  readonly key: Buffer;
  readonly value: Buffer;
  /** The revision of its last change: the API server's resourceVersion. */
  readonly modRevision: number;
}

/**
 * The object in a value, as the API server returns it in the version in which it is stored; a CustomResourceDefinition as v1.
 * @param keys for encrypted values
 * @returns undefined where it is no object of Kubernetes
 * @throws UnreadableValue
 */
export function readObject(
  { key, value, modRevision }: StoredValue,
  keys: readonly EncryptionKey[],
): JsonObject | undefined {
  const object = decode(plainValue({ key, value }, keys));
  if (object === undefined) return undefined;
  const metadata = isObject(object['metadata']) ? object['metadata'] : {};
  return { ...withServedVersion(object), metadata: { ...metadata, resourceVersion: String(modRevision) } };
}

/** The value that the API server encrypted, if it did. @param keys for encrypted values @throws UnreadableValue */
export function plainValue({ key, value }: Pick<StoredValue, 'key' | 'value'>, keys: readonly EncryptionKey[]): Buffer {
  return isEncryptedValue(value) ? decrypt(value, key, keys, isMarked) : value;
}

/** How the API server begins an object in JSON. */
const JSON_TYPE = /^\{"(?:apiVersion":"[^"\\]*","kind|kind":"[^"\\]*","apiVersion)":"[^"\\]*"/;

/** Bytes that have the type, where it is at the beginning. */
const MAX_TYPE = 300;

/** The first bytes of a value that say its type, as a latin1 string: equal ones are of equal types. Undefined where they do not say it. */
export function typeMark(value: Buffer): string | undefined {
  if (value[0] === JSON_MARK[0]) return JSON_TYPE.exec(value.toString('latin1', 0, MAX_TYPE))?.[0];
  // Made of millions of values: no part of them is compared as a buffer.
  if (!PROTOBUF_MARK.every((byte, at) => value[at] === byte)) return undefined;
  const start = PROTOBUF_MARK.length;
  const size = value[start + 1] ?? MAX_TYPE;
  return value[start] === TYPE_TAG && size < 128 ? value.toString('latin1', 0, start + 2 + size) : undefined;
}

function isMarked(value: Buffer): boolean {
  return MARKS.some((mark) => startsWith(value, mark));
}

/** @returns undefined where it is no object of Kubernetes @throws UnreadableValue */
export function decode(value: Buffer): JsonObject | undefined {
  if (startsWith(value, PROTOBUF_MARK)) return decodeWrapped(value.subarray(PROTOBUF_MARK.length));
  if (startsWith(value, CBOR_MARK)) return objectOf(parseCbor(value));
  return startsWith(value, JSON_MARK) ? objectOf(parseJson(value)) : undefined;
}

/** Fields of runtime.Unknown: 1 the type (1 apiVersion, 2 kind), 2 the object, 3 its encoding, 4 its content type. */
function decodeWrapped(wrapped: Buffer): JsonObject {
  const fields = readFields(wrapped);
  const type = readFields(bytesOf(fields.get(1)));
  const [apiVersion, kind] = [bytesOf(type.get(1)).toString(), bytesOf(type.get(2)).toString()];
  if (bytesOf(fields.get(3)).length > 0) throw new UnreadableValue('has an encoding that is not known');
  const message = messageOf(apiVersion, kind);
  if (message === undefined) {
    throw new UnreadableValue(`has a type that is not known: ${printable(`${kind} of ${apiVersion}`.slice(0, 300))}`);
  }
  return withServerValues({ apiVersion, kind, ...decodeMessage(bytesOf(fields.get(2)), message) });
}

/** What the API server fills in when it reads: the types of a StatefulSet's templates, and the phase of a claim that has none yet. */
function withServerValues(object: JsonObject): JsonObject {
  const { kind, spec, status } = object;
  if (kind === 'PersistentVolumeClaim' && isObject(status))
    return { ...object, status: { phase: 'Pending', ...status } };
  if (kind !== 'StatefulSet' || !isObject(spec) || !Array.isArray(spec['volumeClaimTemplates'])) return object;
  const templates = spec['volumeClaimTemplates'].map((template): Json =>
    isObject(template) ? { apiVersion: 'v1', kind: 'PersistentVolumeClaim', ...template } : template,
  );
  return { ...object, spec: { ...spec, volumeClaimTemplates: templates } };
}

/** Other programs store JSON as well: an object of Kubernetes has a type. */
function objectOf(value: Json): JsonObject | undefined {
  return isObject(value) && textAt(value, 'apiVersion') !== '' && textAt(value, 'kind') !== '' ? value : undefined;
}

function startsWith(value: Buffer, mark: Buffer): boolean {
  return value.subarray(0, mark.length).equals(mark);
}

function bytesOf(wires: readonly Wire[] = []): Buffer {
  const last = wires.at(-1) ?? Buffer.alloc(0);
  if (Buffer.isBuffer(last)) return last;
  throw new UnreadableValue('is corrupt: its type is not text');
}

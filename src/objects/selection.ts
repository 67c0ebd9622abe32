import { UsageError } from '../errors.ts';
import { SHORT_NAMES } from './api-answers.ts';
import { groupOf, type Identity, namespaceOfKey } from './identity.ts';
import { parseSelector } from './label-selector.ts';
import { type JsonObject, listAt, textAt, valueAt } from './object-values.ts';

/** Which objects are asked for; empty lists and undefined mean all. */
export interface Selection {
  readonly namespaces: readonly string[];
  /** Names of types in lower case, as kubectl takes them. */
  readonly kinds: readonly string[];
  readonly name: RegExp | undefined;
  readonly hasLabels: (object: JsonObject) => boolean;
  /** Keys under this one only. */
  readonly etcdPrefix: string;
}

/** @throws UsageError */
export function selectionOf(options: Readonly<Record<string, unknown>>): Selection {
  const { namespace, kind, name, selector, 'etcd-prefix': prefix } = options;
  const kinds = texts(kind).flatMap((list) => list.split(',').map((one) => one.trim().toLowerCase()));
  if (kinds.includes('')) throw new UsageError('--kind has an empty name.', 'Write it as Deployment,ConfigMap');
  return {
    namespaces: texts(namespace),
    kinds,
    name: typeof name === 'string' ? globOf(name) : undefined,
    hasLabels: parseSelector(typeof selector === 'string' ? selector : ''),
    etcdPrefix: typeof prefix === 'string' ? prefix.replace(/\/*$/, '/') : '',
  };
}

/** The values of an option that can be repeated. */
function texts(option: unknown): string[] {
  return option === undefined ? [] : [option].flat().map(String);
}

/** `*` is any text, `?` any character. */
function globOf(glob: string): RegExp {
  const source = glob
    .replaceAll(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.');
  return new RegExp(`^${source}$`, 'su');
}

/** Whether the value of a key can be an object that is asked for. The namespace itself has its name at the end of its key. */
export function canHaveKey({ namespaces, etcdPrefix }: Selection, key: string): boolean {
  if (!key.startsWith(etcdPrefix)) return false;
  if (namespaces.length === 0) return true;
  const parent = namespaceOfKey(key);
  return (
    namespaces.includes(parent) || (parent === 'namespaces' && namespaces.includes(key.slice(key.lastIndexOf('/') + 1)))
  );
}

/** @param key of its value: of a custom resource it has the plural, which need not be that of its kind */
export function isSelected(selection: Selection, identity: Identity, object: JsonObject, key: string): boolean {
  const { namespaces, kinds, name, hasLabels } = selection;
  const isNamespace = identity.kind === 'Namespace' && identity.group === '';
  const where = isNamespace ? identity.name : identity.namespace;
  if (namespaces.length > 0 && !namespaces.includes(where)) return false;
  return (
    (kinds.length === 0 || isNamed(kinds, identity, pluralOfKey(key, identity.namespace !== ''))) &&
    (name === undefined || name.test(identity.name)) &&
    hasLabels(object)
  );
}

/** Whether a list of types names that of an object: `Deployment`, `deployments` or `deployment.apps`. */
function isNamed(kinds: readonly string[], { kind, group }: Pick<Identity, 'kind' | 'group'>, plural: string): boolean {
  const names = [...namesOf(kind), plural];
  return kinds.some(
    (asked) => names.includes(asked) || names.some((name) => group !== '' && asked === `${name}.${group}`),
  );
}

/** The part of a key that is the plural of its type. */
function pluralOfKey(key: string, isNamespaced: boolean): string {
  return key.split('/').at(isNamespaced ? -3 : -2) ?? '';
}

/** Whether a value that cannot be read can be of a type that is asked for: one part of its key is the plural of its type. */
export function canBeNamed({ kinds }: Selection, key: string): boolean {
  if (kinds.length === 0) return true;
  const plurals = kinds.map((asked) => asked.split('.')[0] ?? '');
  const asked = new Set(plurals.flatMap((word) => [word, pluralOf(word), longNameOf(word)]));
  return key.split('/').some((part) => asked.has(part));
}

function longNameOf(short: string): string {
  return Object.entries(SHORT_NAMES).find(([, name]) => name === short)?.[0] ?? short;
}

/** Of a kind: singular, plural, and the short name that kubectl knows. */
function namesOf(kind: string): string[] {
  const plural = pluralOf(kind);
  const short = Object.hasOwn(SHORT_NAMES, plural) ? SHORT_NAMES[plural] : undefined;
  return [kind.toLowerCase(), plural, ...(short === undefined ? [] : [short])];
}

/** As the API server makes it for almost all types. */
export function pluralOf(kind: string): string {
  const word = kind.toLowerCase();
  if (word === 'endpoints') return word;
  if (/(?:s|x|z|ch|sh)$/.test(word)) return `${word}es`;
  return /[^aeiou]y$/.test(word) ? `${word.slice(0, -1)}ies` : `${word}s`;
}

/** Of these an object that belongs to another one is made again by the controller of that one. */
const OWNED = new Set(['Pod', 'ReplicaSet', 'Endpoints', 'EndpointSlice', 'ControllerRevision', 'Job']);

/** They say what runs where at the time of the snapshot: programs of the cluster make them for what runs now. */
const OF_CLUSTER = new Set(['Lease', 'Node', 'CSINode', 'VolumeAttachment', 'IPAddress']);

const OF_API_SERVER = new Set(['Service', 'Endpoints', 'EndpointSlice']);

/** Whether nobody added anything to the account that each namespace gets. */
function isBare(object: JsonObject): boolean {
  const { apiVersion: _, kind: __, metadata, ...rest } = object;
  const hasMore = ['labels', 'annotations'].some((field) => valueAt(metadata, field) !== undefined);
  return Object.keys(rest).length === 0 && !hasMore;
}

/** Why an object is not extracted unless its type is asked for; undefined where it is. */
export function whyLeftOut({ kind, apiVersion, namespace, name }: Identity, object: JsonObject): string | undefined {
  if (kind === 'Event' && /^$|^events\.k8s\.io$/.test(groupOf(apiVersion))) return 'events';
  // In each namespace, and with the certificate of that cluster: kubectl fails where both create it.
  if (kind === 'ConfigMap' && name === 'kube-root-ca.crt') return 'made again by a controller';
  if (kind === 'ServiceAccount' && name === 'default' && isBare(object)) return 'made again by a controller';
  // With the addresses of the snapshot, all clients of the API would be led to other hosts.
  if (namespace === 'default' && name === 'kubernetes' && OF_API_SERVER.has(kind))
    return 'made again by the API server';
  if (OF_CLUSTER.has(kind) || isAutomanaged(object)) return 'made again by the cluster';
  if (!OWNED.has(kind)) return undefined;
  const isOwned = listAt(object, 'metadata', 'ownerReferences').length > 0;
  // They have no owner; those that somebody made by hand have addresses, and no mark of the controller.
  const isOfController = kind === 'Endpoints' && (listAt(object, 'subsets').length === 0 || isMarked(object));
  if (isOwned || isOfController) return 'made again by a controller';
  return kind === 'Job' && isFinished(object) ? 'finished, and would run again' : undefined;
}

/** The API server makes those for its own API again. */
function isAutomanaged(object: JsonObject): boolean {
  return valueAt(object, 'metadata', 'labels', 'kube-aggregator.kubernetes.io/automanaged') !== undefined;
}

function isFinished(job: JsonObject): boolean {
  return listAt(job, 'status', 'conditions').some(
    (condition) => textAt(condition, 'status') === 'True' && /^(?:Complete|Failed)$/.test(textAt(condition, 'type')),
  );
}

function isMarked(object: JsonObject): boolean {
  const time = valueAt(object, 'metadata', 'annotations', 'endpoints.kubernetes.io/last-change-trigger-time');
  return (time ?? valueAt(object, 'metadata', 'labels', 'endpoints.kubernetes.io/managed-by')) !== undefined;
}

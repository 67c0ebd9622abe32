import { type JsonObject, textAt } from './object-values.ts';

/** What identifies an object in a cluster, whichever version of its API it is in. */
export interface Identity {
  readonly apiVersion: string;
  /** Empty for the core types. */
  readonly group: string;
  readonly kind: string;
  /** Empty for an object of the whole cluster. */
  readonly namespace: string;
  readonly name: string;
}

/** Undefined for what has no name. */
export function identityOf(object: JsonObject): Identity | undefined {
  const [apiVersion, kind] = [textAt(object, 'apiVersion'), textAt(object, 'kind')];
  const [namespace, name] = [textAt(object, 'metadata', 'namespace'), textAt(object, 'metadata', 'name')];
  if (name === '') return undefined;
  return { apiVersion, group: groupOf(apiVersion), kind, namespace, name };
}

export function groupOf(apiVersion: string): string {
  return apiVersion.includes('/') ? apiVersion.slice(0, apiVersion.indexOf('/')) : '';
}

/** As kubectl writes types: `deployment.apps`, `configmap`. */
export function typeName({ kind, group }: Pick<Identity, 'kind' | 'group'>): string {
  return group === '' ? kind.toLowerCase() : `${kind.toLowerCase()}.${group}`;
}

/** For maps and messages: `deployment.apps/web in namespace shop` is `shop/deployment.apps/web`. */
export function pathName(identity: Identity): string {
  const path = `${typeName(identity)}/${identity.name}`;
  return identity.namespace === '' ? path : `${identity.namespace}/${path}`;
}

/** A key up to its last slash: objects of one type and one namespace have it in common. */
export function directoryOf(key: string): string {
  return key.slice(0, key.lastIndexOf('/') + 1);
}

/** The namespace in a key: the part before the last one. A key of an object of the whole cluster has another word there. */
export function namespaceOfKey(key: string): string {
  const end = key.lastIndexOf('/');
  return end > 0 ? key.slice(key.lastIndexOf('/', end - 1) + 1, end) : '';
}

/** Whether an object without a name is one that the API server keeps for itself: allocations of addresses, and leases of servers. */
export function isOfServer(object: JsonObject): boolean {
  return /^(?:RangeAllocation|Endpoints)$/.test(textAt(object, 'kind'));
}

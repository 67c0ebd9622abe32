import { createHash } from 'node:crypto';
import { printable } from '../text.ts';
import { type Identity, typeName } from './identity.ts';
import type { JsonObject } from './object-values.ts';
import { yamlText } from './yaml-text.ts';

/** Bytes of a name on a file system. */
const MAX_NAME = 255;
const YAML = '.yaml';

/** Hex digits of the digest in a name that was too long. */
const DIGEST = 16;

/** Where objects of the whole cluster are; no namespace can have this name. */
const CLUSTER = '_cluster';

/** The path of an object's file: `shop/deployment.apps/web.yaml`. Nothing in it leads elsewhere, whatever the names are. */
export function filePath(identity: Identity): string {
  // A real one has no dot; with one it could be the name of the kustomization.
  const namespace =
    identity.namespace === '' ? CLUSTER : fileName(identity.namespace, MAX_NAME / 3).replaceAll('.', '%2E');
  return [
    namespace,
    fileName(typeName(identity), MAX_NAME),
    fileName(identity.name, MAX_NAME - YAML.length) + YAML,
  ].join('/');
}

/** All but letters, digits and `._-` as in a URL. A name that is too long ends with a digest. */
function fileName(name: string, max: number): string {
  const safe = name
    .toWellFormed()
    .replaceAll(/[^\w.-]|^\.|^_/gu, (char) => Buffer.from(char).toString('hex').toUpperCase().replaceAll(/../g, '%$&'));
  if (safe.length <= max) return safe === '' ? '%' : safe;
  const digest = createHash('sha256').update(name).digest('hex').slice(0, DIGEST);
  return `${safe.slice(0, max - DIGEST - 1)}-${digest}`;
}

/** An object as a document for kubectl. */
export function documentOf(object: JsonObject, comments: readonly string[]): string {
  return comments.map((comment) => `# ${printable(comment)}\n`).join('') + yamlText(object);
}

/** Kinds in the order in which they can be created; others come before the last ones. */
const FIRST = [
  ...['Namespace', 'CustomResourceDefinition', 'PriorityClass', 'StorageClass', 'RuntimeClass', 'IngressClass'],
  ...['ResourceQuota', 'LimitRange', 'ServiceAccount', 'ClusterRole', 'ClusterRoleBinding', 'Role', 'RoleBinding'],
  ...['Secret', 'ConfigMap', 'PersistentVolume', 'PersistentVolumeClaim', 'NetworkPolicy', 'Service'],
];
const LAST = ['APIService', 'ValidatingWebhookConfiguration', 'MutatingWebhookConfiguration'];

/** For sorting: the order in which objects can be created. */
export function orderOf({ kind }: Pick<Identity, 'kind'>): number {
  const first = FIRST.indexOf(kind);
  if (first >= 0) return first;
  const last = LAST.indexOf(kind);
  return FIRST.length + 1 + last;
}

/** A kustomization with all files in the order in which they can be created. */
export function kustomizationOf(
  files: readonly { readonly path: string; readonly kind: string }[],
  head: string,
): string {
  const sorted = files.toSorted((a, b) => orderOf(a) - orderOf(b) || (a.path < b.path ? -1 : 1));
  const kustomization = {
    ...{ apiVersion: 'kustomize.config.k8s.io/v1beta1', kind: 'Kustomization' },
    resources: sorted.map(({ path }) => path),
  };
  return head + yamlText(kustomization);
}

import type { Column } from './columns.ts';
import { type Json, type JsonObject, listAt, textAt, valueAt } from './object-values.ts';

/* What an API server answers, as JSON. */

/** A resource that is served. */
export interface ServedResource {
  readonly apiVersion: string;
  readonly kind: string;
  /** As it is in paths. */
  readonly plural: string;
  readonly isNamespaced: boolean;
  readonly shortNames: readonly string[];
  /** Under which kubectl asks for several types, such as `all`. */
  readonly categories: readonly string[];
  readonly columns: readonly Column[];
}

export interface Failure {
  readonly code: number;
  readonly reason: string;
  readonly message: string;
}

export function statusOf({ code, reason, message }: Failure): JsonObject {
  return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message, reason, code };
}

/** For `/api`. */
export function coreVersions(): JsonObject {
  return { kind: 'APIVersions', versions: ['v1'], serverAddressByClientCIDRs: [] };
}

/** For `/apis`. */
export function groupList(resources: readonly ServedResource[]): JsonObject {
  const versions = [...new Set(resources.map(({ apiVersion }) => apiVersion))].filter((version) =>
    version.includes('/'),
  );
  const groups = Map.groupBy(versions, (version) => version.split('/')[0] ?? '');
  return {
    ...{ kind: 'APIGroupList', apiVersion: 'v1' },
    groups: [...groups].map(([name, found]) => {
      const sorted = found.toSorted((a, b) => rankOf(a) - rankOf(b) || (a < b ? 1 : -1));
      const all = sorted.map((groupVersion) => ({ groupVersion, version: groupVersion.split('/')[1] ?? '' }));
      return { name, versions: all, preferredVersion: all[0] ?? null };
    }),
  };
}

/** Stable versions come first, then beta, then alpha. */
function rankOf(groupVersion: string): number {
  if (groupVersion.includes('alpha')) return 2;
  return groupVersion.includes('beta') ? 1 : 0;
}

/** For `/api/v1` and `/apis/GROUP/VERSION`. */
export function resourceList(groupVersion: string, resources: readonly ServedResource[]): JsonObject {
  return {
    ...{ kind: 'APIResourceList', apiVersion: 'v1', groupVersion },
    resources: resources
      .filter(({ apiVersion }) => apiVersion === groupVersion)
      .map(({ kind, plural, isNamespaced, shortNames, categories }) => ({
        name: plural,
        singularName: kind.toLowerCase(),
        namespaced: isNamespaced,
        kind,
        verbs: ['get', 'list'],
        shortNames: [...shortNames],
        categories: [...categories],
      })),
  };
}

/** A list without its items. */
export function listOf({ apiVersion, kind }: ServedResource): JsonObject {
  return { kind: `${kind}List`, apiVersion };
}

/** The table that kubectl prints of objects of one type, without its rows. */
export function tableOf({ columns }: ServedResource): JsonObject {
  return {
    ...{ kind: 'Table', apiVersion: 'meta.k8s.io/v1' },
    columnDefinitions: columns.map(({ heading, isWide }) => ({
      ...{ name: heading, type: 'string', format: heading === 'Name' ? 'name' : '' },
      ...{ description: heading, priority: isWide ? 1 : 0 },
    })),
  };
}

/** @param now of ages, in milliseconds */
export function rowOf(
  { columns }: ServedResource,
  object: JsonObject,
  now: number,
  hasWholeObject = false,
): JsonObject {
  return {
    cells: columns.map(({ cell }) => cell(object, now)),
    object: hasWholeObject
      ? object
      : {
          ...{ kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1' },
          metadata: valueAt(object, 'metadata') ?? {},
        },
  };
}

/** The names of custom resources that a CustomResourceDefinition has, by kind and group. */
export function namesInDefinition(
  definition: JsonObject,
): [type: string, names: Pick<ServedResource, 'plural' | 'shortNames' | 'categories'>] {
  const plural = textAt(definition, 'spec', 'names', 'plural');
  const [shortNames, categories] = ['shortNames', 'categories'].map((list) =>
    listAt(definition, 'spec', 'names', list).map(String),
  ) as [string[], string[]];
  const type = `${textAt(definition, 'spec', 'names', 'kind')} ${textAt(definition, 'spec', 'group')}`;
  return [type, { plural, shortNames, categories }];
}

/** Names that kubectl users type, by plural. */
export const SHORT_NAMES: Readonly<Record<string, string>> = {
  ...{ configmaps: 'cm', endpoints: 'ep', events: 'ev', limitranges: 'limits', namespaces: 'ns', nodes: 'no' },
  ...{ persistentvolumeclaims: 'pvc', persistentvolumes: 'pv', pods: 'po', replicationcontrollers: 'rc' },
  ...{ resourcequotas: 'quota', serviceaccounts: 'sa', services: 'svc', customresourcedefinitions: 'crd' },
  ...{ daemonsets: 'ds', deployments: 'deploy', replicasets: 'rs', statefulsets: 'sts', cronjobs: 'cj' },
  ...{
    horizontalpodautoscalers: 'hpa',
    certificatesigningrequests: 'csr',
    ingresses: 'ing',
    networkpolicies: 'netpol',
  },
  ...{ poddisruptionbudgets: 'pdb', priorityclasses: 'pc', storageclasses: 'sc' },
};

/** Built-in types that `kubectl get all` shows, by plural. */
export const IN_ALL = new Set([
  ...['pods', 'replicationcontrollers', 'services', 'daemonsets', 'deployments', 'replicasets', 'statefulsets'],
  ...['horizontalpodautoscalers', 'cronjobs', 'jobs'],
]);

/** Fields by which an API server selects objects, besides name and namespace; kubectl describes an object with those of events. */
const SELECTABLE: Readonly<Record<string, readonly string[]>> = {
  Event: [
    ...['kind', 'namespace', 'name', 'uid', 'apiVersion', 'resourceVersion', 'fieldPath'].map(
      (field) => `involvedObject.${field}`,
    ),
    ...['reason', 'type', 'reportingComponent'],
  ],
  Namespace: ['status.phase'],
  Node: ['spec.unschedulable'],
  Pod: ['spec.nodeName', 'spec.restartPolicy', 'spec.schedulerName', 'spec.serviceAccountName', 'status.phase'],
  Secret: ['type'],
};

/** @returns undefined where a field is none by which objects of the kind are selected */
export function parseFieldSelector(text: string, kind: string): ((object: JsonObject) => boolean) | undefined {
  const fields = new Set(['metadata.name', 'metadata.namespace', ...(SELECTABLE[kind] ?? [])]);
  const parts = text === '' ? [] : text.split(',').map((part) => /^([^=!]+)(=|==|!=)([^=]*)$/.exec(part));
  if (!parts.every((part) => part !== null && fields.has(part[1] ?? ''))) return undefined;
  return (object) =>
    parts.every((part) => {
      const [, field = '', operator, wanted] = part ?? [];
      const value = valueAt(object, ...field.split('.'));
      return (fieldText(value) === wanted) !== (operator === '!=');
    });
}

function fieldText(value: Json | undefined): string {
  return typeof value === 'string' ? value : typeof value === 'boolean' ? String(value) : '';
}

import { isObject, type Json, type JsonObject, listAt, textAt, valueAt } from './object-values.ts';

/** What kubectl shows of an object between its name and its age. */
export interface Column {
  readonly heading: string;
  readonly cell: (object: JsonObject) => string;
}

/** By kind and group, with a space between. Other types have no columns of their own. */
const COLUMNS: Readonly<Record<string, Readonly<Record<string, Column['cell']>>>> = {
  'Pod ': { Ready: readyContainers, Status: podStatus, Restarts: restarts },
  'Deployment apps': {
    Ready: (object) => `${count(object, 'status', 'readyReplicas')}/${count(object, 'spec', 'replicas')}`,
    'Up-to-date': (object) => count(object, 'status', 'updatedReplicas'),
    Available: (object) => count(object, 'status', 'availableReplicas'),
  },
  'ReplicaSet apps': {
    Desired: (object) => count(object, 'spec', 'replicas'),
    Current: (object) => count(object, 'status', 'replicas'),
    Ready: (object) => count(object, 'status', 'readyReplicas'),
  },
  'StatefulSet apps': {
    Ready: (object) => `${count(object, 'status', 'readyReplicas')}/${count(object, 'spec', 'replicas')}`,
  },
  'DaemonSet apps': {
    Desired: (object) => count(object, 'status', 'desiredNumberScheduled'),
    Current: (object) => count(object, 'status', 'currentNumberScheduled'),
    Ready: (object) => count(object, 'status', 'numberReady'),
  },
  'Job batch': {
    Completions: (object) => `${count(object, 'status', 'succeeded')}/${count(object, 'spec', 'completions')}`,
  },
  'CronJob batch': {
    Schedule: text('spec', 'schedule'),
    Suspend: (object) => (valueAt(object, 'spec', 'suspend') === true ? 'True' : 'False'),
    Active: (object) => String(listAt(object, 'status', 'active').length),
  },
  'Service ': { Type: text('spec', 'type'), 'Cluster-IP': text('spec', 'clusterIP'), 'Port(s)': ports },
  'Ingress networking.k8s.io': {
    Class: text('spec', 'ingressClassName'),
    Hosts: (object) => listed(listAt(object, 'spec', 'rules').map((rule) => textAt(rule, 'host') || '*')),
  },
  'ConfigMap ': { Data: (object) => String(entries(object, 'data') + entries(object, 'binaryData')) },
  'Secret ': { Type: text('type'), Data: (object) => String(entries(object, 'data')) },
  'Namespace ': { Status: text('status', 'phase') },
  'Node ': { Status: nodeStatus, Roles: roles, Version: text('status', 'nodeInfo', 'kubeletVersion') },
  'PersistentVolumeClaim ': {
    Status: text('status', 'phase'),
    Volume: text('spec', 'volumeName'),
    Capacity: text('status', 'capacity', 'storage'),
    StorageClass: text('spec', 'storageClassName'),
  },
  'PersistentVolume ': {
    Capacity: text('spec', 'capacity', 'storage'),
    'Reclaim Policy': text('spec', 'persistentVolumeReclaimPolicy'),
    Status: text('status', 'phase'),
    Claim: (object) => {
      const name = textAt(object, 'spec', 'claimRef', 'name');
      return name === '' ? '' : `${textAt(object, 'spec', 'claimRef', 'namespace')}/${name}`;
    },
  },
  'StorageClass storage.k8s.io': { Provisioner: text('provisioner'), ReclaimPolicy: text('reclaimPolicy') },
};

export function columnsOf({ kind, group }: { readonly kind: string; readonly group: string }): Column[] {
  const type = `${kind} ${group}`;
  const columns = Object.hasOwn(COLUMNS, type) ? COLUMNS[type] : {};
  return Object.entries(columns ?? {}).map(([heading, cell]) => ({
    heading,
    cell: (object) => cell(object) || '<none>',
  }));
}

function text(...path: readonly string[]): Column['cell'] {
  return (object) => textAt(object, ...path);
}

/** An absent number is 0: the API server omits zeros. */
function count(object: Json, ...path: readonly string[]): string {
  const value = valueAt(object, ...path);
  return typeof value === 'number' ? String(value) : '0';
}

function entries(object: JsonObject, name: string): number {
  const value = valueAt(object, name);
  return isObject(value) ? Object.keys(value).length : 0;
}

function listed(texts: readonly string[]): string {
  return texts.join(',');
}

function readyContainers(pod: JsonObject): string {
  const statuses = listAt(pod, 'status', 'containerStatuses');
  const ready = statuses.filter((status) => valueAt(status, 'ready') === true).length;
  return `${ready}/${listAt(pod, 'spec', 'containers').length}`;
}

/** Why a container does not run, or else the phase. */
function podStatus(pod: JsonObject): string {
  if (textAt(pod, 'metadata', 'deletionTimestamp') !== '') return 'Terminating';
  const reasons = listAt(pod, 'status', 'containerStatuses').map(
    (status) => textAt(status, 'state', 'waiting', 'reason') || textAt(status, 'state', 'terminated', 'reason'),
  );
  return textAt(pod, 'status', 'reason') || (reasons.find((reason) => reason !== '') ?? textAt(pod, 'status', 'phase'));
}

function restarts(pod: JsonObject): string {
  const counts = listAt(pod, 'status', 'containerStatuses').map((status) =>
    Number(valueAt(status, 'restartCount') ?? 0),
  );
  return String(counts.reduce((sum, one) => sum + one, 0));
}

function ports(service: JsonObject): string {
  return listed(
    listAt(service, 'spec', 'ports').map((port) => {
      const [number, node] = [count(port, 'port'), count(port, 'nodePort')];
      return `${number}${node === '0' ? '' : `:${node}`}/${textAt(port, 'protocol')}`;
    }),
  );
}

function nodeStatus(node: JsonObject): string {
  const ready = listAt(node, 'status', 'conditions').find((condition) => textAt(condition, 'type') === 'Ready');
  const state = ready === undefined ? 'Unknown' : textAt(ready, 'status') === 'True' ? 'Ready' : 'NotReady';
  return valueAt(node, 'spec', 'unschedulable') === true ? `${state},SchedulingDisabled` : state;
}

const ROLE = 'node-role.kubernetes.io/';

function roles(node: JsonObject): string {
  const labels = valueAt(node, 'metadata', 'labels');
  const names = isObject(labels) ? Object.keys(labels) : [];
  return listed(names.filter((name) => name.startsWith(ROLE)).map((name) => name.slice(ROLE.length)));
}

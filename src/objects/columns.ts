import { isObject, type JsonObject, listAt, textAt, valueAt } from './object-values.ts';
import { type Cell, count, isDeleted, POD_COLUMNS } from './pod-columns.ts';

/** What kubectl shows of an object between its name and its age. */
export interface Column {
  readonly heading: string;
  readonly cell: Cell;
}

/** By kind and group, with a space between. Other types have no columns of their own. */
const COLUMNS: Readonly<Record<string, Readonly<Record<string, Cell>>>> = {
  'Pod ': POD_COLUMNS,
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
    Completions: completions,
  },
  'CronJob batch': {
    Schedule: text('spec', 'schedule'),
    Suspend: (object) => (valueAt(object, 'spec', 'suspend') === true ? 'True' : 'False'),
    Active: (object) => String(listAt(object, 'status', 'active').length),
  },
  'Service ': { Type: text('spec', 'type'), 'Cluster-IP': orNone(clusterIP), 'Port(s)': orNone(ports) },
  'Ingress networking.k8s.io': { Class: orNone(text('spec', 'ingressClassName')), Hosts: hosts },
  'ConfigMap ': { Data: (object) => String(entries(object, 'data') + entries(object, 'binaryData')) },
  'Secret ': { Type: text('type'), Data: (object) => String(entries(object, 'data')) },
  'Namespace ': { Status: text('status', 'phase') },
  'Node ': { Status: nodeStatus, Roles: orNone(roles), Version: text('status', 'nodeInfo', 'kubeletVersion') },
  'PersistentVolumeClaim ': {
    Status: volumeStatus,
    Volume: text('spec', 'volumeName'),
    Capacity: (object) => (textAt(object, 'spec', 'volumeName') === '' ? '' : quantity(object, 'status')),
    StorageClass: text('spec', 'storageClassName'),
  },
  'PersistentVolume ': {
    Capacity: (object) => quantity(object, 'spec'),
    'Reclaim Policy': text('spec', 'persistentVolumeReclaimPolicy'),
    Status: volumeStatus,
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
  return Object.entries(columns ?? {}).map(([heading, cell]) => ({ heading, cell }));
}

function orNone(cell: Cell): Cell {
  return (object) => cell(object) || '<none>';
}

function text(...path: readonly string[]): Cell {
  return (object) => textAt(object, ...path);
}

function entries(object: JsonObject, name: string): number {
  const value = valueAt(object, name);
  return isObject(value) ? Object.keys(value).length : 0;
}

function listed(texts: readonly string[]): string {
  return texts.join(',');
}

function completions(job: JsonObject): string {
  const succeeded = count(job, 'status', 'succeeded');
  if (typeof valueAt(job, 'spec', 'completions') === 'number')
    return `${succeeded}/${count(job, 'spec', 'completions')}`;
  const parallelism = count(job, 'spec', 'parallelism');
  return Number(parallelism) > 1 ? `${succeeded}/1 of ${parallelism}` : `${succeeded}/1`;
}

function volumeStatus(object: JsonObject): string {
  return isDeleted(object) ? 'Terminating' : textAt(object, 'status', 'phase');
}

/** The storage of a volume or a claim. */
function quantity(object: JsonObject, part: 'spec' | 'status'): string {
  return textAt(object, part, 'capacity', 'storage') || '0';
}

function clusterIP(service: JsonObject): string {
  const [first] = listAt(service, 'spec', 'clusterIPs');
  return typeof first === 'string' ? first : textAt(service, 'spec', 'clusterIP');
}

/** How many hosts are named. */
const MAX_HOSTS = 3;

function hosts(ingress: JsonObject): string {
  const all = listAt(ingress, 'spec', 'rules').map((rule) => textAt(rule, 'host'));
  const named = all.filter((host) => host !== '');
  const rest = named.length - MAX_HOSTS;
  return (listed(named.slice(0, MAX_HOSTS)) || '*') + (rest > 0 ? ` + ${rest} more...` : '');
}

function ports(service: JsonObject): string {
  return listed(
    listAt(service, 'spec', 'ports').map((port) => {
      const [number, node] = [count(port, 'port'), count(port, 'nodePort')];
      return `${number}${Number(node) > 0 ? `:${node}` : ''}/${textAt(port, 'protocol')}`;
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

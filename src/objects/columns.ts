import { autoscalerMetrics } from './autoscaler-metrics.ts';
import {
  type Cell,
  type Cells,
  containers,
  count,
  counter,
  hasCondition,
  humanDuration,
  isDeleted,
  labels,
  lengthOf,
  or,
  orNone,
  selector,
  since,
  text,
} from './cells.ts';
import { EVENT_CELLS, WIDE_EVENT_CELLS } from './event-columns.ts';
import { LAST_NODE_CELLS, NODE_CELLS, WIDE_NODE_CELLS } from './node-columns.ts';
import { CLAIM_CELLS, VOLUME_CELLS, VOLUME_MODE } from './volume-columns.ts';
import { NETWORK_COLUMNS } from './network-columns.ts';
import { isObject, type JsonObject, listAt, textAt, valueAt } from './object-values.ts';
import { POD_COLUMNS, WIDE_POD_COLUMNS } from './pod-columns.ts';

/** What kubectl shows of an object. */
export interface Column {
  readonly heading: string;
  readonly cell: Cell;
  /** Whether only `-o wide` shows it. */
  readonly isWide: boolean;
}

const NAME: Cells = { Name: text('metadata', 'name') };
export const NAME_COLUMN: Column = { heading: 'Name', cell: text('metadata', 'name'), isWide: false };
const AGE: Cells = { Age: since('metadata', 'creationTimestamp') };
const CREATED = columns({ ...NAME, 'Created At': text('metadata', 'creationTimestamp') });
const BINDING = usual(
  { Role: (object) => `${textAt(object, 'roleRef', 'kind')}/${textAt(object, 'roleRef', 'name')}` },
  { Users: subjects('User'), Groups: subjects('Group'), ServiceAccounts: subjects('ServiceAccount') },
);
const WEBHOOKS = usual({ Webhooks: lengthOf('webhooks') });
const TEMPLATE = { ...containers('spec', 'template'), Selector: selector(['spec', 'selector']) };
const REPLICAS: Cells = {
  Desired: counter('spec', 'replicas'),
  Current: counter('status', 'replicas'),
  Ready: counter('status', 'readyReplicas'),
};

/** By kind and group, with a space between: the columns of the newest API server. Other types have a name and an age. */
const COLUMNS: Readonly<Record<string, readonly Column[]>> = {
  'Pod ': usual(POD_COLUMNS, WIDE_POD_COLUMNS),
  'Deployment apps': usual(
    {
      Ready: ready,
      'Up-to-date': counter('status', 'updatedReplicas'),
      Available: counter('status', 'availableReplicas'),
    },
    { ...containers('spec', 'template'), Selector: selector(['spec', 'selector'], '<invalid>', '') },
  ),
  'ReplicaSet apps': usual(REPLICAS, TEMPLATE),
  'ReplicationController ': usual(REPLICAS, {
    ...containers('spec', 'template'),
    Selector: labels('spec', 'selector'),
  }),
  'StatefulSet apps': usual({ Ready: ready }, containers('spec', 'template')),
  'DaemonSet apps': usual(
    {
      Desired: counter('status', 'desiredNumberScheduled'),
      Current: counter('status', 'currentNumberScheduled'),
      Ready: counter('status', 'numberReady'),
      'Up-to-date': counter('status', 'updatedNumberScheduled'),
      Available: counter('status', 'numberAvailable'),
      'Node Selector': labels('spec', 'template', 'spec', 'nodeSelector'),
    },
    TEMPLATE,
  ),
  'Job batch': usual({ Status: jobStatus, Completions: completions, Duration: jobDuration }, TEMPLATE),
  'CronJob batch': usual(
    {
      Schedule: text('spec', 'schedule'),
      Timezone: orNone(text('spec', 'timeZone')),
      Suspend: (object) => (valueAt(object, 'spec', 'suspend') === true ? 'True' : 'False'),
      Active: lengthOf('status', 'active'),
      'Last Schedule': lastSchedule,
    },
    {
      ...containers('spec', 'jobTemplate', 'spec', 'template'),
      Selector: selector(['spec', 'jobTemplate', 'spec', 'selector']),
    },
  ),
  'HorizontalPodAutoscaler autoscaling': usual({
    Reference: (object) =>
      `${textAt(object, 'spec', 'scaleTargetRef', 'kind')}/${textAt(object, 'spec', 'scaleTargetRef', 'name')}`,
    Targets: autoscalerMetrics,
    MinPods: or('<unset>', text('spec', 'minReplicas')),
    MaxPods: counter('spec', 'maxReplicas'),
    Replicas: counter('status', 'currentReplicas'),
  }),
  'PodDisruptionBudget policy': usual({
    'Min Available': or('N/A', text('spec', 'minAvailable')),
    'Max Unavailable': or('N/A', text('spec', 'maxUnavailable')),
    'Allowed Disruptions': counter('status', 'disruptionsAllowed'),
  }),
  ...Object.fromEntries(Object.entries(NETWORK_COLUMNS).map(([type, { shown, wide }]) => [type, usual(shown, wide)])),
  'ConfigMap ': usual({ Data: (object) => String(entries(object, 'data') + entries(object, 'binaryData')) }),
  'Secret ': usual({ Type: text('type'), Data: (object) => String(entries(object, 'data')) }),
  'Namespace ': usual({ Status: text('status', 'phase') }),
  'Node ': columns({ ...NAME, ...NODE_CELLS, ...AGE, ...LAST_NODE_CELLS, ...WIDE_NODE_CELLS }, WIDE_NODE_CELLS),
  'Event ': columns(EVENT_CELLS, WIDE_EVENT_CELLS),
  'PersistentVolumeClaim ': usual(CLAIM_CELLS, VOLUME_MODE),
  'PersistentVolume ': usual(VOLUME_CELLS, VOLUME_MODE),
  'StorageClass storage.k8s.io': usual({
    Provisioner: text('provisioner'),
    ReclaimPolicy: or('Delete', text('reclaimPolicy')),
    VolumeBindingMode: or('Immediate', text('volumeBindingMode')),
    AllowVolumeExpansion: or('false', text('allowVolumeExpansion')),
  }),
  'PodTemplate ': columns({
    ...NAME,
    ...containers('template'),
    'Pod Labels': labels('template', 'metadata', 'labels'),
  }),
  'ResourceQuota ': usual({ Request: quota(false), Limit: quota(true) }),
  'PriorityClass scheduling.k8s.io': columns({
    ...NAME,
    Value: counter('value'),
    'Global-Default': or('false', text('globalDefault')),
    ...AGE,
    PreemptionPolicy: text('preemptionPolicy'),
  }),
  'Lease coordination.k8s.io': usual({ Holder: text('spec', 'holderIdentity') }),
  'RoleBinding rbac.authorization.k8s.io': BINDING,
  'ClusterRoleBinding rbac.authorization.k8s.io': BINDING,
  'Role rbac.authorization.k8s.io': CREATED,
  'ClusterRole rbac.authorization.k8s.io': CREATED,
  'LimitRange ': CREATED,
  'CustomResourceDefinition apiextensions.k8s.io': CREATED,
  'MutatingWebhookConfiguration admissionregistration.k8s.io': WEBHOOKS,
  'ValidatingWebhookConfiguration admissionregistration.k8s.io': WEBHOOKS,
};

const OTHER = usual({});

/** In the order in which kubectl shows them. */
export function columnsOf({ kind, group }: { readonly kind: string; readonly group: string }): readonly Column[] {
  const type = `${kind} ${group}`;
  return (Object.hasOwn(COLUMNS, type) ? COLUMNS[type] : undefined) ?? OTHER;
}

/** @param shown between the name and the age @param wide after them */
function usual(shown: Cells, wide: Cells = {}): Column[] {
  return columns({ ...NAME, ...shown, ...AGE, ...wide }, wide);
}

/** @param wide those of `-o wide` */
function columns(cells: Cells, wide: Cells = {}): Column[] {
  return Object.entries(cells).map(([heading, cell]) => ({ heading, cell, isWide: Object.hasOwn(wide, heading) }));
}

function entries(object: JsonObject, name: string): number {
  const value = valueAt(object, name);
  return isObject(value) ? Object.keys(value).length : 0;
}

function ready(object: JsonObject): string {
  return `${count(object, 'status', 'readyReplicas')}/${count(object, 'spec', 'replicas')}`;
}

function completions(job: JsonObject): string {
  const succeeded = count(job, 'status', 'succeeded');
  if (typeof valueAt(job, 'spec', 'completions') === 'number')
    return `${succeeded}/${count(job, 'spec', 'completions')}`;
  const parallelism = count(job, 'spec', 'parallelism');
  return Number(parallelism) > 1 ? `${succeeded}/1 of ${parallelism}` : `${succeeded}/1`;
}

function jobStatus(job: JsonObject): string {
  if (hasCondition(job, 'Complete')) return 'Complete';
  if (hasCondition(job, 'Failed')) return 'Failed';
  if (isDeleted(job)) return 'Terminating';
  return ['Suspended', 'FailureTarget', 'SuccessCriteriaMet'].find((type) => hasCondition(job, type)) ?? 'Running';
}

function jobDuration(job: JsonObject, now: number): string {
  const start = Date.parse(textAt(job, 'status', 'startTime'));
  const end = textAt(job, 'status', 'completionTime');
  return Number.isNaN(start) ? '' : humanDuration((end === '' ? now : Date.parse(end)) - start);
}

function lastSchedule(job: JsonObject, now: number): string {
  return textAt(job, 'status', 'lastScheduleTime') === '' ? '<none>' : since('status', 'lastScheduleTime')(job, now);
}

function subjects(kind: string): Cell {
  return (binding) => {
    const ofKind = listAt(binding, 'subjects').filter((subject) => textAt(subject, 'kind') === kind);
    const path = kind === 'ServiceAccount' ? ['namespace', 'name'] : ['name'];
    return ofKind.map((subject) => path.map((field) => textAt(subject, field)).join('/')).join(', ');
  };
}

/** Used and allowed of each resource. */
function quota(isLimit: boolean): Cell {
  return (object) => {
    const hard = valueAt(object, 'status', 'hard');
    const names = isObject(hard) ? Object.keys(hard).toSorted() : [];
    return names
      .filter((name) => name.startsWith('limits.') === isLimit)
      .map((name) => `${name}: ${textAt(object, 'status', 'used', name) || '0'}/${textAt(hard, name)}`)
      .join(', ');
  };
}

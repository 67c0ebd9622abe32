import type { JsonObject } from '../../src/objects/object-values.ts';

/* Objects in states that random values do not have: each shows another text in a column. */

type Part = Readonly<Record<string, unknown>>;

const METADATA = { name: 'filled', namespace: 'objects', creationTimestamp: '2020-01-02T03:04:05Z' };

function object(apiVersion: string, kind: string, rest: Part, metadata: Part = {}): JsonObject {
  return { apiVersion, kind, metadata: { ...METADATA, ...metadata }, ...rest };
}

const TRUE = (type: string, more: Part = {}): Part => ({ type, status: 'True', ...more });
const container = (name: string, more: Part = {}): Part => ({ name, image: `${name}:1`, ...more });
const ended = (exitCode: number, more: Part = {}): Part => ({ state: { terminated: { exitCode, ...more } } });
const running = (name: string, more: Part = {}): Part => ({
  ...{ name, image: '', imageID: '', ready: true, restartCount: 0, state: { running: {} } },
  ...more,
});

function pod(status: Part, spec: Part = {}, metadata: Part = {}): JsonObject {
  const containers = [container('a'), container('b')];
  return object('v1', 'Pod', { spec: { containers, ...spec }, status: { phase: 'Running', ...status } }, metadata);
}

const PODS = [
  pod({ containerStatuses: [running('a'), running('b')], podIPs: [{ ip: '10.0.0.1' }] }, { nodeName: 'n1' }),
  pod({
    containerStatuses: [
      running('a', { restartCount: 2, lastState: { terminated: { exitCode: 1, finishedAt: '2021-01-02T03:04:05Z' } } }),
      running('b', { restartCount: 1, lastState: { terminated: { exitCode: 1, finishedAt: '2022-01-02T03:04:05Z' } } }),
    ],
  }),
  ...[
    [ended(0, { reason: 'Completed' }), {}],
    [ended(0, { reason: 'Completed' }), ended(2, { reason: 'Error' })],
    [ended(0, { reason: 'Completed' }), ended(0, { reason: 'Completed' })],
    [ended(1, { signal: 9 }), {}],
    [ended(3), {}],
    [{ state: { waiting: { reason: 'CrashLoopBackOff' } }, ready: false }, {}],
  ].flatMap(([first, second]) =>
    [[], [TRUE('Ready')]].map((conditions) =>
      pod({ conditions, containerStatuses: [running('a', first), running('b', second)] }),
    ),
  ),
  ...[
    [ended(0), { state: { waiting: { reason: 'PodInitializing' } }, ready: false }],
    [ended(0), ended(5)],
    [{ started: true }, ended(5, { reason: 'Error' })],
    [{ started: true }, { state: { waiting: { reason: 'ImagePullBackOff' } }, ready: false, restartCount: 4 }],
    [{ started: true }, ended(0)],
  ].flatMap(([first, second]) =>
    [[], [TRUE('Initialized')]].map((conditions) =>
      pod(
        {
          ...{ phase: 'Pending', conditions, containerStatuses: [running('a')] },
          initContainerStatuses: [running('i', first), running('j', second)],
        },
        { initContainers: [container('i', { restartPolicy: 'Always' }), container('j')] },
      ),
    ),
  ),
  pod({ phase: 'Pending', conditions: [{ type: 'PodScheduled', status: 'False', reason: 'SchedulingGated' }] }),
  pod({ phase: 'Failed', reason: 'Evicted' }),
  pod({}, {}, { deletionTimestamp: '2026-01-01T00:00:00Z' }),
  pod({ reason: 'NodeLost' }, {}, { deletionTimestamp: '2026-01-01T00:00:00Z' }),
  pod({ phase: 'Succeeded' }, {}, { deletionTimestamp: '2026-01-01T00:00:00Z' }),
  pod(
    { nominatedNodeName: 'n2', conditions: [TRUE('gate/a'), { type: 'gate/b', status: 'False' }] },
    { readinessGates: ['gate/a', 'gate/b', 'gate/c'].map((conditionType) => ({ conditionType })) },
  ),
];

const template = { metadata: { labels: { app: 'web' } }, spec: { containers: [container('a'), container('b')] } };
const SELECTORS = [
  { matchLabels: { tier: 'back', app: 'web' } },
  {
    matchLabels: { b: 'x' },
    matchExpressions: [
      { key: 'c', operator: 'In', values: ['z', 'y'] },
      { key: 'a', operator: 'Exists' },
      { key: 'd', operator: 'NotIn', values: ['v'] },
      { key: 'e', operator: 'DoesNotExist' },
    ],
  },
  { matchExpressions: [{ key: 'c', operator: 'In' }] },
  {},
];

const WORKLOADS = [
  ...SELECTORS.flatMap((selector) => [
    object('apps/v1', 'Deployment', { spec: { replicas: 3, selector, template }, status: { readyReplicas: 1 } }),
    object('apps/v1', 'DaemonSet', {
      spec: { selector, template: { ...template, spec: { ...template.spec, nodeSelector: { b: '1', a: '2' } } } },
    }),
    object('networking.k8s.io/v1', 'NetworkPolicy', { spec: { podSelector: selector } }),
  ]),
  ...['Complete', 'Failed', 'Suspended', 'FailureTarget', 'SuccessCriteriaMet'].map((type) =>
    object('batch/v1', 'Job', {
      spec: { completions: 2, template, selector: SELECTORS[0] },
      status: {
        ...{ succeeded: 1, conditions: [TRUE(type)] },
        ...{ startTime: '2024-01-02T03:04:05Z', completionTime: '2024-01-02T03:07:06Z' },
      },
    }),
  ),
  object('batch/v1', 'Job', { spec: { parallelism: 3, template }, status: { startTime: '2024-01-02T03:04:05Z' } }),
  object('batch/v1', 'Job', { spec: { template } }, { deletionTimestamp: '2026-01-01T00:00:00Z' }),
  object('batch/v1', 'CronJob', {
    spec: { schedule: '0 3 * * *', timeZone: 'Etc/UTC', suspend: true, jobTemplate: { spec: { template } } },
    status: { active: [{ name: 'x' }], lastScheduleTime: '2024-01-02T03:04:05Z' },
  }),
  ...[{ minAvailable: '50%' }, { maxUnavailable: 0 }, {}].map((spec) =>
    object('policy/v1', 'PodDisruptionBudget', { spec, status: { disruptionsAllowed: 1 } }),
  ),
];

const value = (averageValue?: string, plain?: string): Part => ({
  ...(averageValue !== undefined && { averageValue }),
  ...(plain !== undefined && { value: plain }),
});
const metric = { name: 'm' };
const METRICS: readonly (readonly [spec: Part, status: Part | undefined])[] = [
  ...['external', 'object'].flatMap((field): [Part, Part | undefined][] => {
    const type = field === 'external' ? 'External' : 'Object';
    const common = { metric, ...(field === 'object' && { describedObject: { kind: 'Service', name: 's' } }) };
    return [value('1500m'), value(undefined, '10')].flatMap((target): [Part, Part | undefined][] => [
      [{ type, [field]: { ...common, target } }, undefined],
      [
        { type, [field]: { ...common, target } },
        { type, [field]: { ...common, current: value('2', '20') } },
      ],
    ]);
  }),
  [
    { type: 'Pods', pods: { metric, target: value('3') } },
    { type: 'Pods', pods: { metric, current: value('4') } },
  ],
  ...['resource', 'containerResource'].flatMap((field): [Part, Part | undefined][] => {
    const type = field === 'resource' ? 'Resource' : 'ContainerResource';
    const common = { name: 'cpu', ...(field !== 'resource' && { container: 'a' }) };
    const status = { type, [field]: { ...common, current: { averageUtilization: 5, averageValue: '7m' } } };
    return [value('100m'), { averageUtilization: 80 }, {}].flatMap((target): [Part, Part | undefined][] => [
      [{ type, [field]: { ...common, target } }, undefined],
      [{ type, [field]: { ...common, target } }, status],
    ]);
  }),
];

const AUTOSCALERS = [
  ...METRICS.map(([spec, status]) => [[spec], status === undefined ? [] : [status]] as const),
  [METRICS.slice(0, 3).map(([spec]) => spec), []] as const,
  [[], []] as const,
].map(([metrics, currentMetrics]) =>
  object('autoscaling/v2', 'HorizontalPodAutoscaler', {
    spec: { scaleTargetRef: { kind: 'Deployment', name: 'web' }, maxReplicas: 5, metrics },
    status: { currentReplicas: 2, desiredReplicas: 2, currentMetrics },
  }),
);

const addresses = [{ ip: '10.0.0.2' }, { hostname: 'lb.example.com' }, { ip: '10.0.0.1' }];
const ports = [
  { port: 80, protocol: 'TCP', nodePort: 30080 },
  { port: 53, protocol: 'UDP' },
];
const SERVICES = [
  ...['ClusterIP', 'NodePort', 'LoadBalancer', 'ExternalName'].flatMap((type) =>
    [{}, { externalIPs: ['192.0.2.1', '192.0.2.2'] }].flatMap((more) =>
      [{}, { loadBalancer: { ingress: addresses } }].map((status) =>
        object('v1', 'Service', {
          spec: {
            type,
            clusterIP: '10.1.1.1',
            ports,
            externalName: 'x.example.com',
            selector: { b: '1', a: '2' },
            ...more,
          },
          status,
        }),
      ),
    ),
  ),
  ...[[], ['a'], ['a', 'b', 'c'], ['a', 'b', 'c', ''], ['', 'a', 'b', 'c'], ['a', 'b', 'c', 'd', '', 'e'], ['']].map(
    (hosts) =>
      object('networking.k8s.io/v1', 'Ingress', {
        spec: { ingressClassName: 'nginx', tls: hosts.length > 1 ? [{}] : [], rules: hosts.map((host) => ({ host })) },
        status: { loadBalancer: { ingress: addresses } },
      }),
  ),
  object('v1', 'Endpoints', {
    subsets: [{ addresses: [{ ip: '10.0.0.1' }, { ip: 'fd00::1' }], ports }, { addresses: [{ ip: '10.0.0.3' }] }],
  }),
  object('discovery.k8s.io/v1', 'EndpointSlice', {
    addressType: 'IPv4',
    ports: [{ port: 80 }, { name: 'x' }, {}, { port: 1 }],
    endpoints: [{ addresses: ['10.0.0.1', '10.0.0.2'] }, { addresses: ['10.0.0.3'] }],
  }),
  object('networking.k8s.io/v1', 'IngressClass', {
    spec: { controller: 'c', parameters: { apiGroup: 'example.com', kind: 'Config', name: 'x' } },
  }),
];

const accessModes = ['ReadWriteOncePod', 'ReadWriteMany', 'ReadWriteOnce', 'ReadOnlyMany', 'ReadWriteOnce'];
const OTHERS = [
  ...[{}, { volumeName: 'v' }].map((spec) =>
    object('v1', 'PersistentVolumeClaim', {
      spec: { storageClassName: 'fast', volumeMode: 'Block', ...spec },
      status: { phase: 'Bound', accessModes, capacity: { storage: '2Gi' } },
    }),
  ),
  object(
    'v1',
    'PersistentVolume',
    {
      spec: {
        accessModes,
        capacity: { storage: '2Gi' },
        claimRef: { namespace: 'n', name: 'c' },
        storageClassName: 'x',
      },
    },
    { annotations: { 'volume.beta.kubernetes.io/storage-class': 'old' }, deletionTimestamp: '2026-01-01T00:00:00Z' },
  ),
  object(
    'v1',
    'Node',
    {
      spec: { unschedulable: true },
      status: {
        conditions: [TRUE('Ready')],
        addresses: [
          { type: 'InternalIP', address: '10.0.0.1' },
          { type: 'ExternalIP', address: '192.0.2.1' },
        ],
        nodeInfo: { architecture: 'arm64', kernelVersion: '6.1', kubeletVersion: 'v1.37.0' },
      },
    },
    {
      labels: {
        'node-role.kubernetes.io/worker': '',
        'node-role.kubernetes.io/infra': '',
        'kubernetes.io/role': 'master',
      },
    },
  ),
  object('v1', 'ResourceQuota', {
    status: { hard: { pods: '5', 'limits.cpu': '2', cpu: '1' }, used: { pods: '1', 'limits.cpu': '1500m' } },
  }),
  object('rbac.authorization.k8s.io/v1', 'RoleBinding', {
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'reader' },
    subjects: [
      { kind: 'ServiceAccount', namespace: 'n', name: 'a' },
      { kind: 'ServiceAccount', namespace: 'n', name: 'b' },
      ...['User', 'Group', 'User'].map((kind, index) => ({ kind, name: `${kind}${index}` })),
    ],
  }),
  object('v1', 'Event', {
    involvedObject: { kind: 'Pod', name: 'web' },
    ...{ message: ' text\n', source: { component: 'kubelet', host: 'n1' }, firstTimestamp: '2024-01-02T03:04:05Z' },
  }),
  object('v1', 'Event', {
    ...{ involvedObject: { kind: 'Node' }, reportingComponent: 'c', eventTime: '2024-01-02T03:04:05.000000Z' },
    series: { count: 7, lastObservedTime: '2025-01-02T03:04:05.000000Z' },
  }),
  object('storage.k8s.io/v1', 'StorageClass', { provisioner: 'p' }),
];

export const COLUMN_OBJECTS: readonly JsonObject[] = [
  ...[...PODS, ...WORKLOADS, ...AUTOSCALERS, ...SERVICES, ...OTHERS],
];

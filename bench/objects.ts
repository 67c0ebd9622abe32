import { randomBytes, randomUUID } from 'node:crypto';
import { storedForm } from './protobuf.ts';

/*
 * Objects like those that a Kubernetes API server stores: a few kinds with fixed field names, names and labels that repeat, and
 * ids, hashes and times that do not. They compress like a real database; random bytes would not.
 */

const IMAGES = ['web', 'api', 'worker', 'cache', 'proxy', 'metrics', 'ingress', 'scheduler'];
const NODES = 40;
/** A million objects are a thousand in each. */
const NAMESPACES = 1000;
/** A node runs the same images over and over. */
const DIGESTS = Array.from({ length: 60 }, () => hex(32));

/** One kind of object: its path below /registry, how many of a hundred objects are of it, and its value. */
interface Kind {
  readonly path: string;
  readonly share: number;
  readonly value: (id: number) => string;
}

const KINDS: readonly Kind[] = [
  { path: 'pods', share: 29, value: pod },
  { path: 'events', share: 30, value: event },
  { path: 'replicasets', share: 12, value: replicaSet },
  { path: 'configmaps', share: 10, value: configMap },
  { path: 'leases', share: 10, value: lease },
  { path: 'apps.example.com/widgets', share: 8, value: widget },
  { path: 'secrets', share: 1, value: secret },
];

const BY_PERCENT = KINDS.flatMap((kind) => Array.from({ length: kind.share }, () => kind));

/** The key of the object with this number, always the same. */
export function keyOf(id: number): Buffer {
  const { path } = kindOf(id);
  return Buffer.from(`/registry/${path}/${namespaceOf(id)}/object-${id}-${id * 7919}`);
}

/** A value for it, another one each time. */
export function valueOf(id: number): Buffer {
  return Buffer.from(`k8s\0\n${kindOf(id).value(id)}`);
}

/** The same as an API server stores it. */
export function objectOf(id: number): Buffer {
  return storedForm(kindOf(id).value(id));
}

/** Objects of all kinds are in each: a kind is that of a number modulo 100. */
function namespaceOf(id: number): string {
  return `namespace-${Math.floor(id / 100) % NAMESPACES}`;
}

function kindOf(id: number): Kind {
  return BY_PERCENT[(id * 37) % 100]!;
}

function metadata(kind: string, id: number, labels: Readonly<Record<string, string>>): object {
  const manager = `${kind.toLowerCase()}-controller`;
  return {
    name: `object-${id}-${id * 7919}`,
    namespace: namespaceOf(id),
    uid: randomUUID(),
    resourceVersion: String(1_000_000 + id),
    generation: 1 + (id % 7),
    creationTimestamp: time(),
    labels: { 'app.kubernetes.io/name': `app-${id % 300}`, 'app.kubernetes.io/managed-by': 'Helm', ...labels },
    managedFields: [
      {
        manager,
        operation: 'Update',
        apiVersion: 'v1',
        time: time(),
        fieldsType: 'FieldsV1',
        fieldsV1: {
          'f:metadata': { 'f:labels': { '.': {}, 'f:app.kubernetes.io/name': {} } },
          'f:spec': { 'f:replicas': {} },
        },
      },
    ],
  };
}

function pod(id: number): string {
  const image = `registry.example.com/team-${id % 20}/${IMAGES[id % IMAGES.length]}`;
  const address = `10.${id % 200}.${(id >> 3) % 250}.${(id >> 5) % 250}`;
  return JSON.stringify({
    kind: 'Pod',
    apiVersion: 'v1',
    metadata: metadata('Pod', id, { 'pod-template-hash': hex(5) }),
    spec: {
      volumes: [
        {
          name: `kube-api-access-${hex(3)}`,
          projected: {
            defaultMode: 420,
            sources: [{ serviceAccountToken: { expirationSeconds: 3607, path: 'token' } }],
          },
        },
      ],
      containers: [
        {
          name: 'main',
          image: `${image}:1.${id % 30}.${id % 9}`,
          ports: [{ name: 'http', containerPort: 8080, protocol: 'TCP' }],
          env: [{ name: 'POD_NAME', valueFrom: { fieldRef: { apiVersion: 'v1', fieldPath: 'metadata.name' } } }],
          resources: { limits: { cpu: '500m', memory: '256Mi' }, requests: { cpu: '100m', memory: '128Mi' } },
          livenessProbe: {
            httpGet: { path: '/healthz', port: 'http', scheme: 'HTTP' },
            timeoutSeconds: 1,
            periodSeconds: 10,
          },
          terminationMessagePath: '/dev/termination-log',
          imagePullPolicy: 'IfNotPresent',
        },
      ],
      restartPolicy: 'Always',
      terminationGracePeriodSeconds: 30,
      dnsPolicy: 'ClusterFirst',
      nodeName: `node-${id % NODES}`,
      tolerations: [
        { key: 'node.kubernetes.io/not-ready', operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 300 },
      ],
    },
    status: {
      phase: 'Running',
      conditions: ['Initialized', 'Ready', 'ContainersReady', 'PodScheduled'].map((type) => ({
        type,
        status: 'True',
        lastTransitionTime: time(),
      })),
      hostIP: `10.0.0.${id % NODES}`,
      podIP: address,
      containerStatuses: [
        {
          name: 'main',
          ready: true,
          restartCount: id % 3,
          imageID: `${image}@sha256:${DIGESTS[id % DIGESTS.length]}`,
          containerID: `containerd://${hex(32)}`,
        },
      ],
    },
  });
}

function event(id: number): string {
  const name = `object-${id}.${hex(8)}`;
  return JSON.stringify({
    kind: 'Event',
    apiVersion: 'v1',
    metadata: { ...metadata('Event', id, {}), name },
    involvedObject: { kind: 'Pod', namespace: namespaceOf(id), name: `object-${id}`, uid: randomUUID() },
    reason: ['Scheduled', 'Pulled', 'Created', 'Started'][id % 4],
    message: `Successfully assigned ${namespaceOf(id)}/object-${id} to node-${id % NODES}`,
    source: { component: 'kubelet', host: `node-${id % NODES}` },
    firstTimestamp: time(),
    lastTimestamp: time(),
    count: 1 + (id % 4),
    type: 'Normal',
  });
}

function replicaSet(id: number): string {
  const labels = { 'pod-template-hash': hex(5) };
  return JSON.stringify({
    kind: 'ReplicaSet',
    apiVersion: 'apps/v1',
    metadata: metadata('ReplicaSet', id, labels),
    spec: { replicas: id % 5, selector: { matchLabels: labels }, template: JSON.parse(pod(id)) },
    status: { replicas: id % 5, readyReplicas: id % 5, observedGeneration: 1 },
  });
}

function configMap(id: number): string {
  const lines = Array.from({ length: 20 }, (_, line) => `setting-${line} = ${(id * (line + 3)) % 1000}`);
  return JSON.stringify({
    kind: 'ConfigMap',
    apiVersion: 'v1',
    metadata: metadata('ConfigMap', id, {}),
    data: { 'app.conf': lines.join('\n') },
  });
}

function lease(id: number): string {
  const spec = { holderIdentity: `node-${id % NODES}`, leaseDurationSeconds: 40, renewTime: time() };
  return JSON.stringify({
    kind: 'Lease',
    apiVersion: 'coordination.k8s.io/v1',
    metadata: metadata('Lease', id, {}),
    spec,
  });
}

function widget(id: number): string {
  const conditions = [
    { type: 'Ready', status: 'True', reason: 'Reconciled', lastTransitionTime: time(), observedGeneration: id % 7 },
  ];
  return JSON.stringify({
    kind: 'Widget',
    apiVersion: 'apps.example.com/v1',
    metadata: metadata('Widget', id, {}),
    spec: { size: id % 100, owner: `team-${id % 20}` },
    status: { conditions },
  });
}

/** A certificate, or what Helm keeps of a release: no compressor makes it smaller than its bytes. */
function secret(id: number): string {
  const data = { value: randomBytes(1500).toString('base64') };
  return JSON.stringify({
    kind: 'Secret',
    apiVersion: 'v1',
    metadata: metadata('Secret', id, {}),
    type: 'Opaque',
    data,
  });
}

function hex(bytes: number): string {
  return randomBytes(bytes).toString('hex');
}

function time(): string {
  return new Date(1_760_000_000_000 + Math.floor(Math.random() * 1e10)).toISOString().replace(/\.\d+/, '');
}

import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import t from 'tap';
import { parse, parseAllDocuments, stringify } from 'yaml';
import { parseCommandLine } from '../../src/cli.ts';
import { VARIABLES } from '../../src/config/variables.ts';
import { findJudge, judge, without } from '../support/judges.ts';
import { build, buildOwn, deadlineProblems, MANIFESTS } from '../support/manifests.ts';
import { mustRun, run, temporaryFolder } from '../support/process.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const CHART = join(MANIFESTS, 'helm', 'etcd-snapshot');
const REGISTRY = 'registry.example.com/etcd-snapshot-azure-blob';

/** Identities for drill and report that are not that of the backup. */
const IDENTITY = parse(readFileSync(join(MANIFESTS, 'components/workload-identity/identity.example.yaml'), 'utf8'));
const TENANT: string = IDENTITY.data['tenant-id'];
const CLIENT: string = IDENTITY.data['etcd-snapshot'];
const REPORT = '11111111-1111-1111-1111-111111111111';
IDENTITY.data['etcd-snapshot-drill'] = TENANT;
IDENTITY.data['etcd-snapshot-report'] = REPORT;

const HELM = findJudge('helm') ?? 'helm';
const skip = without('helm') || (await isBefore4()) ? 'there is no Helm 4 here' : false;

const dir = temporaryFolder('helm');

// oxlint-disable-next-line typescript/no-explicit-any -- what the judges print is of any shape
type Loose = any;

interface Rendered {
  readonly objects: Record<string, Loose>;
  readonly notes: string;
}

let files = 0;

/** Helm 3 renders the same objects, but shows the notes only where it reaches a cluster. */
async function isBefore4(): Promise<boolean> {
  return !(await mustRun(HELM, ['version', '--short'])).startsWith('v4.');
}

async function install(values: object): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const file = join(dir, `values-${files++}.json`);
  await writeFile(file, JSON.stringify(values));
  const options = ['--dry-run=client', '--output', 'json', '--namespace', 'kube-system', '--values', file];
  // Without a home there is no cluster that it could ask.
  return run(HELM, ['install', 'backups', CHART, ...options], { HOME: dir, KUBECONFIG: '' });
}

async function release(values: object): Promise<{ manifest: string; info: { notes: string } }> {
  const { code, stdout, stderr } = await install(values);
  if (code !== 0) throw new Error(stderr);
  return JSON.parse(stdout) as { manifest: string; info: { notes: string } };
}

async function render(values: object): Promise<Rendered> {
  const { manifest, info } = await release(values);
  return { objects: byName(manifest), notes: info.notes };
}

async function hooksOf(values: object): Promise<Loose[]> {
  const { hooks = [] } = (await release(values)) as { hooks?: { events: string[]; manifest: string }[] };
  return hooks.map(({ events, manifest }) => ({ events, job: parse(manifest) }));
}

/** Why helm refuses these values. */
async function refusal(values: object): Promise<string> {
  const { code, stderr } = await install(values);
  return code === 0 ? 'accepted' : stderr;
}

async function kustomize(folder: string): Promise<Record<string, Loose>> {
  return byName((await build(join(MANIFESTS, folder))).yaml);
}

/** What kustomize makes of AKS Engine's overlay with these components. */
async function compose(...components: string[]): Promise<Record<string, Loose>> {
  const identity = components.includes('workload-identity') ? ['identity.yaml'] : [];
  const kustomization = {
    apiVersion: 'kustomize.config.k8s.io/v1beta1',
    kind: 'Kustomization',
    resources: ['MANIFESTS/overlays/aks-engine', ...identity],
    components: components.map((component) => `MANIFESTS/components/${component}`),
  };
  const files = { 'identity.yaml': stringify(IDENTITY) };
  return byName((await buildOwn(components.join(), stringify(kustomization), files)).yaml);
}

/** All that may differ between an object of the chart and that of kustomize: Helm's own labels … */
const HELMS_LABELS = ['app.kubernetes.io/managed-by', 'app.kubernetes.io/instance', 'helm.sh/chart'];

function byName(manifest: string): Record<string, Loose> {
  const objects = parseAllDocuments(manifest)
    .map((document): Loose => document.toJS())
    .filter((object) => object !== null);
  for (const { metadata } of objects) for (const label of HELMS_LABELS) delete metadata.labels?.[label];
  return Object.fromEntries(objects.map((object) => [`${object.kind} ${object.metadata.name}`, inOrder(object)]));
}

/** … and the order of lists whose elements Kubernetes tells apart by their names. */
function inOrder(value: Loose): Loose {
  if (Array.isArray(value)) {
    const list = value.map(inOrder);
    const named = list.every((item) => typeof item?.name === 'string');
    return named ? list.toSorted((a, b) => (a.name < b.name ? -1 : 1)) : list;
  }
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, inOrder(item)]));
}

function cronJobs({ objects }: Rendered): Loose[] {
  return Object.values(objects).filter(({ kind }) => kind === 'CronJob');
}

function podOf(cronJob: Loose): Loose {
  return cronJob.spec.jobTemplate.spec.template.spec;
}

function envOf(cronJob: Loose): Record<string, string> {
  return Object.fromEntries(
    podOf(cronJob).containers[0].env.map(({ name, value }: Record<string, string>) => [name, value]),
  );
}

t.test('what kustomize makes, the chart makes', { skip: skip || without('kubectl') }, async (t) => {
  const image = { repository: REGISTRY };
  t.strictSame((await render({ image })).objects, await kustomize('.'), 'by default');
  for (const layout of ['aks-engine', 'kubeadm', 'k3s', 'rke2']) {
    t.strictSame((await render({ layout })).objects, await kustomize(`overlays/${layout}`), layout);
  }
  const drill = { enabled: true };
  const prune = { enabled: true };
  t.strictSame((await render({ drill })).objects, await compose('drill'), 'drill');
  t.strictSame((await render({ prune })).objects, await compose('prune'), 'prune');
  const copy = { enabled: true };
  t.strictSame((await render({ copy })).objects, await compose('copy'), 'copy');
  const report = { enabled: true };
  t.strictSame((await render({ report })).objects, await compose('report'), 'report');
  const encryption = { recipientsConfigMap: 'etcd-snapshot-recipients' };
  const opening = { enabled: true, identitySecret: 'etcd-snapshot-identity' };
  t.strictSame(
    (await render({ drill: opening, encryption })).objects,
    await compose('drill', 'drill-identity', 'encryption'),
    'encryption',
  );
  const signatures = {
    signingKeySecret: 'etcd-snapshot-signing-key',
    verificationKeysConfigMap: 'etcd-snapshot-verification-keys',
  };
  t.strictSame(
    (await render({ copy, drill, prune, report, signatures })).objects,
    await compose('copy', 'drill', 'prune', 'report', 'signatures'),
    'signatures',
  );
  const bundle = { enabled: true };
  t.strictSame((await render({ bundle })).objects, await compose('bundle/aks-engine'), 'bundle');
  for (const layout of ['k3s', 'rke2']) {
    const own = { resources: [`MANIFESTS/overlays/${layout}`], components: [`MANIFESTS/components/import/${layout}`] };
    const imports = await buildOwn(`import/${layout}`, stringify({ kind: 'Kustomization', ...own }), {});
    t.strictSame(
      (await render({ layout, import: { enabled: true } })).objects,
      byName(imports.yaml),
      `import of ${layout}`,
    );
  }
  const workloadIdentity = { tenantId: TENANT, clientId: CLIENT, drillClientId: TENANT, reportClientId: REPORT };
  t.strictSame(
    (await render({ copy, drill, prune, report, workloadIdentity })).objects,
    await compose('copy', 'drill', 'prune', 'report', 'workload-identity'),
    'workload identity',
  );
});

/** Values that together use everything there is. */
const EVERYTHING = {
  image: { repository: REGISTRY, digest: `sha256:${'0'.repeat(64)}`, pullPolicy: 'Always' },
  imagePullSecrets: ['registry'],
  env: { SNAPSHOT_KEEP_LAST: 1_000_000, SNAPSHOT_KEEP_DAILY: '14', HTTPS_PROXY: 'http://proxy.example.com:3128' },
  drill: { enabled: true },
  clusters: [
    { name: 'main', timeout: 1770, schedule: '7 3 * * *', resources: { limits: { memory: '1Gi' } } },
    {
      name: 'events',
      existingSecret: 'events',
      certificates: { files: { ca: '/etc/etcd/ca.crt', cert: '/etc/etcd/client.crt', key: '/etc/etcd/client.key' } },
      env: { SNAPSHOT_KEEP_DAILY: 7 },
      prune: { enabled: true, schedule: '@daily' },
    },
    {
      name: 'far',
      existingSecret: 'far',
      certificates: { secret: { name: 'far-etcd', key: 'client.key' } },
      drill: { enabled: true, identitySecret: 'far-identity' },
      report: { enabled: true, existingSecret: 'far-report' },
      encryption: { recipientsConfigMap: 'far-recipients' },
      signatures: { signingKeySecret: 'far-key' },
    },
    { name: 'rancher', env: { SNAPSHOT_BLOB_PREFIX: 'rancher/' }, layout: 'rke2', suspend: true, intervalHours: 24 },
  ],
  affinity: { nodeAffinity: {} },
  tolerations: [{ operator: 'Exists' }],
  seLinuxOptions: { type: 'spc_t' },
  priorityClassName: 'system-cluster-critical',
  spoolSizeLimit: '4Gi',
  extraVolumes: [{ name: 'ca', configMap: { name: 'company-ca' } }],
  extraVolumeMounts: [{ name: 'ca', mountPath: '/etc/company', readOnly: true }],
  serviceAccount: { create: true, name: 'backups' },
  workloadIdentity: { tenantId: TENANT, clientId: CLIENT },
  monitoring: { prometheusRule: { enabled: true }, dashboard: { enabled: true } },
  labels: { team: 'platform' },
  annotations: { 'example.com/owner': 'platform' },
};

t.test('the notes name combinations with which runs would fail', { skip }, async (t) => {
  const signatures = { verificationKeysConfigMap: 'keys' };
  const { notes } = await render({ bundle: { enabled: true }, signatures, drill: { identitySecret: 'identity' } });
  t.match(notes, 'unless the Secret etcd-snapshot-azure-blob-job-secrets contains SNAPSHOT_ENCRYPTION_RECIPIENTS');
  t.match(notes, 'There are verification keys, but no signing key');
  t.match(notes, 'drill.identitySecret is not used');
  const encryption = { recipientsConfigMap: 'recipients' };
  t.match((await render({ encryption, drill: { enabled: true } })).notes, 'the drill has no identity');
  const whole = { encryption, bundle: { enabled: true }, drill: { enabled: true, identitySecret: 'identity' } };
  t.notMatch((await render(whole)).notes, /every (backup|drill) fails|is not used/);
});

t.test('several clusters, each with what is its own', { skip }, async (t) => {
  const rendered = await render(EVERYTHING);
  const { objects, notes } = rendered;
  const job = (name: string): Loose => objects[`CronJob etcd-snapshot-azure-blob-${name}`];
  const names = cronJobs(rendered).map(({ metadata }): string => metadata.name);
  const expected = ['main', 'events', 'far', 'rancher'].flatMap((name) => [`job-${name}`, `drill-${name}`]);
  t.strictSame(
    new Set(names),
    new Set([...expected, 'prune-events', 'report-far'].map((name) => `etcd-snapshot-azure-blob-${name}`)),
  );

  t.equal(job('job-main').spec.schedule, '7 3 * * *', 'a schedule that is given');
  t.equal(podOf(job('job-main')).activeDeadlineSeconds, 1920, 'the worker ends before its pod does');
  t.match(envOf(job('job-main')), { SNAPSHOT_TIMEOUT: '1770', SNAPSHOT_KEEP_LAST: '1000000' });
  t.match(podOf(job('job-main')).containers[0].resources, {
    requests: { memory: '160Mi' },
    limits: { memory: '1Gi' },
  });

  const events = envOf(job('job-events'));
  t.equal(events['SNAPSHOT_ETCD_KEY_FILE'], '/etc/etcd/client.key');
  t.notMatch(Object.keys(events).join(' '), 'SNAPSHOT_KEEP_', 'retention is not done twice …');
  t.match(envOf(job('prune-events')), { SNAPSHOT_KEEP_LAST: '1000000', SNAPSHOT_KEEP_DAILY: '7' }, '… but apart');

  const far = podOf(job('job-far'));
  t.notOk(far.hostNetwork || far.affinity || far.tolerations, 'certificates from a Secret need no node');
  t.match(far.securityContext, { runAsNonRoot: true });
  const certs = far.volumes.find(({ name }: { name: string }) => name === 'certs');
  const key = far.volumes.find(({ name }: { name: string }) => name === 'signing-key');
  t.match(key, { secret: { secretName: 'far-key', defaultMode: 0o444 } }, 'the worker is not root there');
  t.notMatch(JSON.stringify(far), 'VERIFICATION');
  t.match(certs.secret.items, [{ key: 'ca.crt' }, { key: 'tls.crt' }, { key: 'client.key', path: 'etcdclient.key' }]);

  t.equal(job('job-rancher').spec.suspend, true);
  t.match(podOf(job('job-rancher')), { tolerations: EVERYTHING.tolerations, securityContext: { runAsUser: 0 } });
  t.match(podOf(job('job-rancher')).securityContext.seLinuxOptions, EVERYTHING.seLinuxOptions);
  t.match(JSON.stringify(job('job-rancher')), '/var/lib/rancher/rke2/server/tls/etcd/server-ca.crt');

  for (const cronJob of cronJobs(rendered)) {
    const { template } = cronJob.spec.jobTemplate.spec;
    const what = cronJob.metadata.name;
    t.match(cronJob.metadata, { labels: EVERYTHING.labels, annotations: EVERYTHING.annotations }, what);
    t.match(template.metadata, { labels: EVERYTHING.labels, annotations: EVERYTHING.annotations }, what);
    t.match(template.spec, { imagePullSecrets: [{ name: 'registry' }], priorityClassName: 'system-cluster-critical' });
    t.ok(objects[`ServiceAccount ${template.spec.serviceAccountName}`], 'its account is there');
    t.equal(template.spec.containers[0].image, `${REGISTRY}@${EVERYTHING.image.digest}`);
    t.equal(envOf(cronJob)['HTTPS_PROXY'], EVERYTHING.env.HTTPS_PROXY);
    t.ok(template.spec.volumes.some(({ name }: { name: string }) => name === 'ca'));
  }

  const started = [...notes.matchAll(/--from=cronjob\/(\S+) --namespace kube-system$/gm)].map(([, name]) => name);
  const startable = names.filter((name) => !name.includes('-prune-'));
  t.strictSame(new Set(started), new Set(startable), 'the notes name what is there');
  for (const secret of ['etcd-snapshot-azure-blob-job-secrets', 'events', 'far', 'far-etcd', 'far-report']) {
    t.match(notes, `kubectl create secret generic ${secret} --namespace kube-system`);
  }
  t.match(notes, 'configmap far-recipients --namespace kube-system --from-file=recipients.txt\n');
  t.match(notes, 'secret generic far-identity --namespace kube-system --from-file=keys/identity.txt\n');
  t.match(notes, 'kubectl create secret generic far-key --namespace kube-system --from-file=keys/signing.pem\n');
  t.match(notes, '--from-file=ca.crt \\\n    --from-file=tls.crt --from-file=client.key\n', 'as the volume names them');
});

t.test('the deadlines fit, whatever the timeout is', { skip }, async (t) => {
  const timeouts = [30, 570, 571, 1770, 3449];
  const clusters = timeouts.map((timeout) => ({
    name: `t-${timeout}`,
    timeout,
    intervalHours: 1,
    env: { SNAPSHOT_BLOB_PREFIX: `${timeout}/` },
  }));
  const enabled = { enabled: true };
  const rendered = await render({ clusters, drill: enabled, prune: enabled, report: enabled });
  t.equal(cronJobs(rendered).length, 4 * timeouts.length);
  for (const cronJob of cronJobs(rendered)) {
    const value = envOf(cronJob)['SNAPSHOT_TIMEOUT'] ?? '570';
    const timeout = Number.parseInt(value, 10) * (value.endsWith('m') ? 60 : 1);
    t.strictSame(deadlineProblems(cronJob.spec.jobTemplate.spec, timeout), [], cronJob.metadata.name);
    t.equal(cronJob.spec.concurrencyPolicy, 'Replace');
  }
  const backup = podOf(rendered.objects['CronJob etcd-snapshot-azure-blob-job-t-3449']);
  t.equal(backup.activeDeadlineSeconds, 3599, 'it ends before the next run, which would end it');
});

t.test('values that YAML would take for something else', { skip }, async (t) => {
  const odd = { ca: '/etc/a, b}/ca', cert: '/etc/#/cert', key: "/etc/it's/key" };
  const { objects } = await render({
    existingSecret: 'null',
    certificates: { files: odd },
    env: { NO_PROXY: 'true', SNAPSHOT_BLOB_PREFIX: '1e3', SNAPSHOT_PREVIOUS_CLUSTER_IDS: '0123' },
    imagePullSecrets: ['1'],
    spoolSizeLimit: '1000',
    serviceAccount: { name: '123' },
    labels: { yes: 'no' },
  });
  t.ok(objects['ServiceAccount 123']);
  const cronJob = objects['CronJob etcd-snapshot-azure-blob-job'];
  t.equal(cronJob.metadata.labels.yes, 'no');
  const pod = podOf(cronJob);
  const { NO_PROXY, SNAPSHOT_BLOB_PREFIX, SNAPSHOT_PREVIOUS_CLUSTER_IDS } = envOf(cronJob);
  t.strictSame([NO_PROXY, SNAPSHOT_BLOB_PREFIX, SNAPSHOT_PREVIOUS_CLUSTER_IDS], ['true', '1e3', '0123']);
  t.equal(pod.containers[0].envFrom[0].secretRef.name, 'null');
  t.strictSame([pod.serviceAccountName, pod.imagePullSecrets[0].name], ['123', '1']);
  const volumes: Loose[] = pod.volumes;
  t.strictSame(
    new Set(volumes.flatMap(({ hostPath }) => (hostPath === undefined ? [] : [hostPath.path]))),
    new Set(Object.values(odd)),
  );
  t.equal(volumes.find(({ name }) => name === 'spool').emptyDir.sizeLimit, '1000');
});

t.test('the notes of a plain release', { skip }, async (t) => {
  const { notes } = await render({});
  t.match(
    notes,
    [
      '  job=etcd-snapshot-now-$(date +%s)',
      '  kubectl create job $job --from=cronjob/etcd-snapshot-azure-blob-job --namespace kube-system',
      '  kubectl logs job/$job --namespace kube-system --follow --pod-running-timeout=5m\n',
    ].join('\n'),
  );
  t.match(notes, 'kubectl get events --namespace kube-system');
  t.match(notes, 'nothing is ever deleted');
  t.match(notes, 'contains no registry');
  const ruled = await render({ image: { repository: REGISTRY }, env: { SNAPSHOT_KEEP_LAST: 28 } });
  t.notMatch(ruled.notes, /nothing is ever deleted|contains no registry/);
});

t.test('alerts and dashboard are those of kustomize', { skip: skip || without('kubectl') }, async (t) => {
  const runbook = 'https://wiki.example.com/etcd.md';
  const { objects } = await render({
    monitoring: {
      namespace: 'monitoring',
      runbook,
      prometheusRule: { enabled: true, labels: { release: 'prometheus' } },
      dashboard: { enabled: true },
    },
  });
  const expected = await kustomize('monitoring');
  const [rule, dashboard] = ['PrometheusRule etcd-snapshot-azure-blob', 'ConfigMap etcd-snapshot-dashboard'];
  t.match(objects, { [rule]: { metadata: { ...expected[rule].metadata, labels: { release: 'prometheus' } } } });
  t.match(objects[dashboard].metadata, expected[dashboard].metadata);
  t.equal(objects[dashboard].data['dashboard.json'], expected[dashboard].data['dashboard.json']);
  const ours = 'https://git.example.com/etcd-snapshot-azure-blob/docs/monitoring.md';
  t.strictSame(objects[rule].spec, JSON.parse(JSON.stringify(expected[rule].spec).replaceAll(ours, runbook)));
  t.match(JSON.stringify(objects[rule].spec), `${runbook}#`);
});

t.test('alerts are about every cluster', { skip }, async (t) => {
  const names = cronJobs(await render(EVERYTHING)).map(({ metadata }): string => metadata.name);
  const rule = readFileSync(join(CHART, 'files', 'prometheusrule.yaml'), 'utf8');
  const patterns = [...rule.matchAll(/(?:cronjob|owner_name)=~"(.*?)"/g)].map(
    ([, regexp]) => new RegExp(`^${regexp}$`),
  );
  for (const name of names.filter((name) => !name.includes('-prune-'))) {
    t.ok(
      patterns.some((pattern) => pattern.test(name)),
      name,
    );
  }
});

t.test('Kubernetes takes every object', { skip }, async (t) => {
  const manifests = await Promise.all([{}, EVERYTHING].map(async (values) => (await release(values)).manifest));
  const documents = manifests.join('\n---\n').split(/^---$/m);
  const everything = documents.join('---');
  const kubernetes = documents.filter((text) => !text.includes('monitoring.coreos.com')).join('---');

  for (const version of ['1.25', '1.31', '1.37']) {
    t.test(version, { skip: without(`manifestcheck-${version}`) }, async (t) => {
      // Only the newest knows the objects of the Prometheus operator.
      const verdict = await judge(`manifestcheck-${version}`, version === '1.37' ? everything : kubernetes);
      t.match(verdict, { code: 0, stdout: ' 0 refused' });
    });
  }
  t.test('Pod Security', { skip: without('podsecurity') }, async (t) => {
    const { code, stdout } = await judge('podsecurity', kubernetes);
    t.equal(code, 0);
    for (const line of stdout.trim().split('\n')) {
      const { name, forbidden } = JSON.parse(line) as { name: string; forbidden: string[] };
      const exception = /-job(?!-far)/.test(name) ? /host/ : /^$/;
      t.match(forbidden.join(' '), exception, `${name}: only what takes certificates from the node needs exceptions`);
    }
  });
});

/** The minute of the day's first run, and every how many minutes there is one. */
function firstRun(schedule: string): { at: number; every: number } {
  const [, minute, hour, every] = /^(\d+) (?:\*|(\d+)(?:-23)?)(?:\/(\d+))? \* \* \*$/.exec(schedule) ?? [];
  return { at: Number(hour ?? 0) * 60 + Number(minute), every: Number(every ?? 24) * 60 };
}

/** By the cluster's name. Not parsed, which takes seconds for a thousand objects. */
async function schedulesOf(names: string[]): Promise<Map<string, string>> {
  const clusters = names.map((name) => ({ name, env: { SNAPSHOT_BLOB_PREFIX: `${name}/` } }));
  const { manifest } = await release({ clusters });
  const found = manifest.matchAll(/^ {2}name: etcd-snapshot-azure-blob-job-(\S+)$.*?^ {2}schedule: "(.*?)"$/gms);
  return new Map([...found].map(([, name = '', schedule = '']) => [name, schedule]));
}

t.test('a fleet is spread over the interval by its names alone', { skip }, async (t) => {
  const names = Array.from({ length: 1000 }, (_, number) => `prod-${number}`);
  const schedules = await schedulesOf(names);
  t.strictSame([...schedules.keys()].toSorted(), names.toSorted());

  const buckets = Array.from({ length: 24 }, () => 0);
  for (const schedule of schedules.values()) {
    const { at, every } = firstRun(schedule);
    if (every !== 360 || at >= 360) t.fail(schedule);
    const bucket = Math.floor(at / 15);
    buckets[bucket] = (buckets[bucket] ?? 0) + 1;
  }
  // Chi-square with 23 degrees of freedom: an even spread exceeds 49.7 once in a thousand times, and these names never change.
  const expected = names.length / buckets.length;
  const chiSquare = buckets.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
  t.ok(chiSquare < 49.7, `${chiSquare}`);

  const few = await schedulesOf(['another', 'prod-500', 'prod-7']);
  for (const name of ['prod-500', 'prod-7']) t.equal(few.get(name), schedules.get(name), 'whoever else is there');
});

t.test('each interval divides a day, whatever the offset', { skip }, async (t) => {
  const intervals = [1, 2, 3, 4, 6, 8, 12, 24];
  const clusters = intervals.map((intervalHours) => ({
    name: `every-${intervalHours}`,
    intervalHours,
    env: { SNAPSHOT_BLOB_PREFIX: `${intervalHours}/` },
  }));
  const enabled = { enabled: true };
  const { objects } = await render({ clusters, drill: enabled, prune: enabled, report: enabled });
  const scheduleOf = (job: string, hours: number): string =>
    objects[`CronJob etcd-snapshot-azure-blob-${job}-every-${hours}`].spec.schedule;
  for (const hours of intervals) {
    const { at, every } = firstRun(scheduleOf('job', hours));
    t.ok(every === hours * 60 && at < every, `${hours}`);
    const drill = /^(\d+) (\d+) \* \* [0-6]$/.exec(scheduleOf('drill', hours));
    const prune = /^(\d+) (\d+) \* \* \*$/.exec(scheduleOf('prune', hours));
    for (const [, minute, hour] of [drill ?? [], prune ?? []]) {
      const after = (Number(hour) * 60 + Number(minute) - at + 1440) % every;
      t.equal(after, every / 2, 'drill and prune are between two backups');
    }
    const later = minuteOfWeek(scheduleOf('report', hours)) - minuteOfWeek(scheduleOf('drill', hours));
    t.equal((later + 7 * 1440) % (7 * 1440), 26 * 60, 'the report is a day after the drill');
  }
});

function minuteOfWeek(schedule: string): number {
  const [minute = NaN, hour = NaN, day = NaN] = schedule.replace('* * ', '').split(' ').map(Number);
  return (day * 24 + hour) * 60 + minute;
}

function has(list: readonly Loose[], wanted: object): boolean {
  return list.some((each) => isDeepStrictEqual(each, wanted));
}

t.test('with the bundle, each layout mounts what the component for it mounts', { skip }, async (t) => {
  for (const layout of ['aks-engine', 'kubeadm', 'k3s', 'rke2']) {
    const component = readFileSync(join(MANIFESTS, 'components/bundle', layout, 'keys.yaml'), 'utf8');
    const { containers, volumes } = parse(component).spec.jobTemplate.spec.template.spec;
    const [job] = cronJobs(await render({ layout, bundle: { enabled: true } }));
    const { spec } = job.spec.jobTemplate.spec.template;
    const [wanted, container] = [containers[0], spec.containers[0]];
    for (const variable of wanted.env) t.ok(has(container.env, variable), `${layout}: ${variable.name}`);
    t.strictSame(container.securityContext.capabilities.add, wanted.securityContext?.capabilities.add, layout);
    for (const mount of wanted.volumeMounts) t.ok(has(container.volumeMounts, mount), `${layout}: ${mount.mountPath}`);
    for (const volume of volumes) t.ok(has(spec.volumes, volume), `${layout}: ${volume.name}`);
  }
});

t.test('names fit, or are refused', { skip }, async (t) => {
  const enabled = { drill: { enabled: true }, prune: { enabled: true } };
  const rendered = await render({ ...enabled, clusters: [{ name: 'a'.repeat(21) }] });
  for (const { metadata } of cronJobs(rendered)) t.ok(metadata.name.length <= 52, metadata.name);
  const report = { enabled: true };
  const [, longest] = cronJobs(await render({ report, clusters: [{ name: 'a'.repeat(20) }] }));
  t.equal(longest.metadata.name.length, 52);
  t.match(await refusal({ report, clusters: [{ name: 'a'.repeat(21) }] }), 'With report.enabled a name has at most 20');
  t.match(await refusal({ clusters: [{ name: 'a'.repeat(22) }] }), "at '/clusters/0/name': maxLength: got 22, want 21");
  t.match(await refusal({ clusters: [{ name: 'Main' }] }), "'Main' does not match pattern");
});

t.test('misspelt and impossible values are refused, and the message names them', { skip }, async (t) => {
  const cases: [object, RegExp | string][] = [
    [{ sechedule: '* * * * *' }, "additional properties 'sechedule' not allowed"],
    [{ image: { repo: 'x' } }, "at '/image': additional properties 'repo'"],
    [{ clusters: [{ name: 'a', secret: 'x' }] }, "at '/clusters/0': additional properties 'secret'"],
    [{ clusters: [{ existingSecret: 'x' }] }, "at '/clusters/0': missing property 'name'"],
    [{ env: { SNAPSHOT_KEEP_LATS: 3 } }, "at '/env': additional properties 'SNAPSHOT_KEEP_LATS'"],
    [{ env: { SNAPSHOT_AZURE_ACCOUNT_KEY: 'k' } }, "additional properties 'SNAPSHOT_AZURE_ACCOUNT_KEY'"],
    [{ env: { SNAPSHOT_KEEP_LAST: 0 } }, "at '/env/SNAPSHOT_KEEP_LAST': minimum"],
    [{ layout: 'kubeadmin' }, "at '/layout': value must be one of 'aks-engine'"],
    [{ schedule: '0 */6 * *' }, "at '/schedule'"],
    [{ intervalHours: 5 }, "at '/intervalHours': value must be one of 1, 2, 3"],
    [{ timeout: '10m' }, "at '/timeout': got string, want integer"],
    [{ timeout: 3450, intervalHours: 1 }, 'is too long for runs that are 1 h apart'],
    [{ certificates: { files: { ca: '/ca' } } }, "missing properties 'cert', 'key'"],
    [{ resources: { limit: {} } }, "at '/resources': additional properties 'limit'"],
    [{ workloadIdentity: { clientId: CLIENT } }, "at '/workloadIdentity/tenantId'"],
    [{ bundle: { enabled: 'kubeadm' } }, "at '/bundle/enabled': got string, want boolean"],
    [
      { bundle: { enabled: true }, certificates: { secret: { name: 'etcd' } } },
      'bundle.enabled needs files of the node',
    ],
    [{ import: { enabled: true } }, 'with the layout aks-engine there is no default'],
    [{ import: { enabled: true, directory: 'snapshots' } }, "at '/import/directory'"],
    [
      { import: { enabled: true, directory: '/snapshots' }, certificates: { secret: { name: 'etcd' } } },
      'import.enabled needs files of the node',
    ],
    [{ clusters: [{ name: 'a' }, { name: 'a', existingSecret: 'x' }] }, 'Two clusters are named a.'],
    [{ clusters: [{ name: 'a' }, { name: 'b' }] }, 'The clusters a and b use the same Secret for backup'],
    [
      {
        drill: { enabled: true, existingSecret: 'reader' },
        clusters: [{ name: 'a' }, { name: 'b', existingSecret: 'x' }],
      },
      'The clusters a and b use the same Secret for drill, reader',
    ],
  ];
  for (const [values, message] of cases) t.match(await refusal(values), message, JSON.stringify(values));
});

const schema = JSON.parse(readFileSync(join(CHART, 'values.schema.json'), 'utf8'));

t.test('the schema knows what values.yaml explains, and nothing else', (t) => {
  const values = parse(readFileSync(join(CHART, 'values.yaml'), 'utf8'));
  t.same(new Set(Object.keys(schema.properties)), new Set(['global', ...Object.keys(values)]));
  const closed = (part: Loose): void => {
    if (typeof part !== 'object' || part === null) return;
    const names = Object.keys(part.properties ?? {}).join();
    if (part.type === 'object' && names !== '') t.equal(part.additionalProperties, false, names);
    for (const child of Object.values(part)) closed(child);
  };
  closed(schema);
  t.end();
});

t.test('the values of docs/kubernetes.md are accepted', { skip }, async (t) => {
  const doc = readFileSync(join(ROOT, 'docs', 'kubernetes.md'), 'utf8');
  const [section = ''] = /^## Install with Helm$.*/ms.exec(doc) ?? [];
  const blocks = [...section.matchAll(/^```yaml\n(.*?)^```$/gms)].map(([, block = '']) => block);
  t.ok(blocks.length > 1);
  t.ok(Object.keys((await render(parse(blocks.join('')))).objects).length > 0);
});

t.test('the schema knows every variable, but no secret', (t) => {
  // Named by certificates, drill, encryption, signatures, timeout and workloadIdentity, or by what the chart mounts.
  const set =
    /^SNAPSHOT_(TIMEOUT|SPOOL_DIR|TERMINATION_LOG|ETCD_(CA|CERT|KEY)_FILE|ENCRYPTION_RECIPIENTS_FILE|ENCRYPTION_IDENTITY_FILE|SIGNING_KEY_FILE|VERIFICATION_KEYS_FILE)$|^AZURE_(FEDERATED_TOKEN_FILE|CLIENT_ID|TENANT_ID)$/;
  const names = Object.entries(VARIABLES).flatMap(([name, variable]) => ('secret' in variable ? [] : [name]));
  t.strictSame(
    Object.keys(schema.definitions.env.properties),
    names.filter((name) => !set.test(name)),
  );
  t.end();
});

t.test('chart and program have one version', (t) => {
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  t.match(parse(readFileSync(join(CHART, 'Chart.yaml'), 'utf8')), { version, appVersion: version });
  t.end();
});

t.test("helm's own lint finds nothing", { skip }, async (t) => {
  const { code, stdout } = await run(HELM, ['lint', '--strict', CHART], { HOME: dir });
  t.equal(code, 0, stdout);
});

t.test('a backup before each upgrade of the release, where it is asked for', { skip }, async (t) => {
  t.strictSame(await hooksOf({}), [], 'off by default');
  const clusters = [
    { name: 'main' },
    { name: 'off', existingSecret: 'off', suspend: true },
    { name: 'edge', existingSecret: 'edge', certificates: { secret: { name: 'client' } } },
  ];
  const values = { clusters, annotations: { own: 'yes' }, preUpgradeBackup: { enabled: true } };
  const hooks = await hooksOf(values);
  const { objects } = await render(values);
  t.strictSame(
    hooks.map(({ job }) => job.metadata.name),
    ['main', 'edge'].map((name) => `etcd-snapshot-azure-blob-pre-upgrade-${name}`),
    'not of a suspended cluster',
  );
  for (const { events, job } of hooks) {
    t.strictSame(events, ['pre-upgrade']);
    t.match(job.metadata, { namespace: 'kube-system', annotations: { own: 'yes', 'helm.sh/hook': 'pre-upgrade' } });
    const [container] = job.spec.template.spec.containers;
    const note = 'before revision 1 of Helm release backups';
    t.strictSame(container.args, ['backup', '--keep=90d', '--note', note]);
    t.doesNotThrow(() => parseCommandLine(container.args));
    delete container.args;
    const cronJob = objects[`CronJob ${job.metadata.name.replace('pre-upgrade', 'job')}`];
    t.strictSame(inOrder(job.spec), cronJob.spec.jobTemplate.spec, 'otherwise as the CronJob would run it');
  }
  const [until] = await hooksOf({ preUpgradeBackup: { enabled: true, keep: '' } });
  t.strictSame(until.job.spec.template.spec.containers[0].args.slice(0, 2), ['backup', '--keep']);
  for (const keep of ['90', '1y', 'always', '2027-2-3']) {
    t.match(await refusal({ preUpgradeBackup: { keep } }), /preUpgradeBackup\/keep/, keep);
  }
});

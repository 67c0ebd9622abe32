import { appendFileSync, copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { commandsOf, KubernetesSite } from '../support/kubernetes-site.ts';
import { withoutKubernetes } from '../support/kubernetes.ts';
import { MANIFESTS } from '../support/manifests.ts';
import { MAIN, withTools } from '../support/worker.ts';

// All components, a restore and the Helm chart in a real Kubernetes, with a private CA as docs/kubernetes.md adds it.

const skip = withoutKubernetes();
if (skip !== false) {
  t.plan(0, skip);
  process.exit();
}

const CRON = 'etcd-snapshot-azure-blob-job';
const CRONJOBS = '/apis/batch/v1/namespaces/kube-system/cronjobs';
const site = await KubernetesSite.start(['m1']);
const { kubernetes } = site;
t.teardown(async () => site.stop());
await kubernetes.etcd.fill(50, 10_000, '/filler/');

const variables = site.variables('components');
const { NODE_EXTRA_CA_CERTS: _, ...secret } = variables;
site.writeSecret('etcd-snapshot-secrets.txt', secret);
site.writeSecret('prune.txt', { ...secret, SNAPSHOT_KEEP_LAST: '1' });
const [, createSecret = ''] = commandsOf('README.md', 'Quick start');
await site.shell(createSecret);
await site.shell(
  'kubectl create secret generic etcd-snapshot-azure-blob-prune-secrets -n kube-system --from-env-file=prune.txt',
);

/** The kustomization of docs/kubernetes.md for a private CA, with this copy of the manifests in place of the repository. */
function privateCa(): string {
  const doc = readFileSync(join(MANIFESTS, '..', 'docs', 'kubernetes.md'), 'utf8');
  const text = [...doc.matchAll(/```yaml\n([^`]*kind: Kustomization\n[^`]*)```/g)].find(([, found = '']) =>
    found.includes('NODE_EXTRA_CA_CERTS'),
  )?.[1];
  const local = text?.replaceAll(/https:\/\/\S+?\/\/manifests\/(\S+)\?ref=v\S+/g, 'manifests/$1') ?? '';
  const images =
    'images:\n  - { name: etcd-snapshot-azure-blob, newName: registry.example.com/etcd-snapshot-azure-blob }\n';
  return `${local}${images}`;
}

t.test('backup, drill and prune with a private CA', async (t) => {
  writeFileSync(join(site.dir, 'kustomization.yaml'), privateCa());
  await site.shell('kubectl apply -k .');
  for (const name of ['first', 'second']) {
    await site.startJob(name, CRON);
    t.match(await site.outcome(name), { succeeded: true, pods: [{ code: 0 }] });
  }
  await site.startJob('drill', 'etcd-snapshot-azure-blob-drill');
  t.match(await site.outcome('drill'), { succeeded: true, pods: [{ code: 0, message: /kubernetes-etcd-snapshot_/ }] });
  await site.startJob('prune', 'etcd-snapshot-azure-blob-prune');
  t.match(await site.outcome('prune'), { succeeded: true, pods: [{ code: 0 }] });
  const left = (await site.azurite.names('components')).filter((name) => name.endsWith('.db'));
  t.equal(left.length, 1, 'retention did its work');

  const blocks = commandsOf('docs/troubleshooting.md', 'Troubleshooting in Kubernetes');
  const asDoctor = blocks.find((block) => block.startsWith('kubectl create job doctor')) ?? '';
  await site.shell(asDoctor.replace(/kubectl logs .*/, ''));
  t.match(await site.outcome('doctor'), { pods: [{ message: /\d+ ok, / }] });
});

t.test('a drill of a corrupt snapshot, and one without any snapshot: no further attempt', async (t) => {
  const container = site.azurite.container('components');
  const name = (await site.azurite.names('components')).find((blob) => blob.endsWith('.db')) ?? '';
  const blob = container.getBlockBlobClient(name);
  const [bytes, { metadata = {} }] = await Promise.all([blob.downloadToBuffer(), blob.getProperties()]);
  const damaged = Buffer.from(bytes);
  damaged.writeUInt8(damaged.readUInt8(20_000) ^ 1, 20_000);
  await blob.upload(damaged, damaged.length, { metadata });
  await site.startJob('damaged', 'etcd-snapshot-azure-blob-drill');
  const failed = { succeeded: false, reason: 'PodFailurePolicy' };
  t.match(await site.outcome('damaged'), { ...failed, pods: [{ code: 11 }] });
  await blob.upload(bytes, bytes.length, { metadata });
  await site.startJob('nothing', 'etcd-snapshot-azure-blob-drill', { env: { SNAPSHOT_BLOB_PREFIX: 'nothing/' } });
  t.match(await site.outcome('nothing'), { ...failed, pods: [{ code: 13 }] });
});

t.test('a namespace that enforces Pod Security "restricted" takes drill and prune', async (t) => {
  await site.shell(
    [
      'kubectl create namespace restricted',
      'kubectl label namespace restricted pod-security.kubernetes.io/enforce=restricted',
      'kubectl create secret generic etcd-snapshot-azure-blob-job-secrets -n restricted --from-env-file=etcd-snapshot-secrets.txt',
      'kubectl create secret generic etcd-snapshot-azure-blob-prune-secrets -n restricted --from-env-file=prune.txt',
      'sed -i "s/^namespace: .*/namespace: restricted/" kustomization.yaml',
      'kubectl apply -k .',
      'kubectl create job drill --from=cronjob/etcd-snapshot-azure-blob-drill -n restricted',
      'kubectl create job prune --from=cronjob/etcd-snapshot-azure-blob-prune -n restricted',
      'kubectl wait --for=condition=complete job/drill job/prune -n restricted --timeout=300s',
      'kubectl create job backup --from=cronjob/etcd-snapshot-azure-blob-job -n restricted',
    ].join('\n'),
  );
  await site.eventually('the backup is refused there', async () => {
    const { stdout } = await site.shell('kubectl get events -n restricted');
    return /FailedCreate .*job\/backup .*violates PodSecurity "restricted:latest"/.test(stdout);
  });
  await site.shell('kubectl delete -k . --wait=false; kubectl delete namespace restricted --wait=false');
  t.pass('it was refused');
});

t.test('a restore on the node, as its instructions say', async (t) => {
  const node = kubernetes.node('m1');
  const data = '/var/lib/etcddisk';
  await node.mustRun('sh', '-c', `mkdir -p ${data}/member && chown -R 999:999 ${data} && chmod -R 700 ${data}`);
  await node.mustRun('sh', '-c', `echo 'DAEMON_ARGS=--name "m1" --data-dir "${data}"' >/etc/default/etcd`);
  const { ca, cert, key } = kubernetes.authority.client;
  const certificates = { SNAPSHOT_ETCD_CA_FILE: ca, SNAPSHOT_ETCD_CERT_FILE: cert, SNAPSHOT_ETCD_KEY_FILE: key };
  site.writeSecret('plan.env', { ...secret, ...certificates });
  const path = withTools(kubernetes.etcd.tools)['PATH'];
  const program = `PATH=${path} NODE_EXTRA_CA_CERTS=${ca} ${process.execPath} -- ${MAIN} "$@" --env-file plan.env`;
  site.writeSecret('etcd-snapshot-secrets.txt', variables);
  await site.shell('kubectl delete secret etcd-snapshot-azure-blob-job-secrets -n kube-system');
  await site.shell(createSecret);
  const head = readFileSync(join(MANIFESTS, 'restore', 'base', 'kustomization.yaml'), 'utf8');
  const blocks = [...head.matchAll(/(?:^# {3}\S.*\n(?:^# {3}.*\n)*)/gm)].map(([block]) =>
    block.replaceAll(/^# {3}/gm, ''),
  );
  const [prepare = '', remove = ''] = blocks;
  const own = prepare.replaceAll(/k8s-master-0( k8s-master-1 k8s-master-2)?/g, 'm1');
  const [create = '', look = ''] = own.split(/(?=^kubectl get jobs)/m);
  // With AKS Engine's certificates, where the CA of this storage account is, too.
  const mounted = create.replace(
    'kubectl kustomize manifests/restore/aks-engine',
    'kubectl kustomize manifests/restore/aks-engine | kubectl patch --local -f - -o yaml --type=json -p "$CERTS"',
  );
  const certs = [
    {
      op: 'add',
      path: '/spec/template/spec/volumes/-',
      value: { name: 'c', hostPath: { path: '/etc/kubernetes/certs' } },
    },
    {
      op: 'add',
      path: '/spec/template/spec/containers/0/volumeMounts/-',
      value: { name: 'c', mountPath: '/etc/kubernetes/certs', readOnly: true },
    },
  ];
  await site.shell(`etcd-snapshot() { ${program}; }\nCERTS='${JSON.stringify(certs)}'\n${mounted}`);
  t.match(await site.outcome('etcd-snapshot-restore-m1'), { succeeded: true, pods: [{ code: 0, node: 'm1' }] });
  t.match((await site.shell(look)).stdout, 'restored');
  const owner = await node.mustRun(
    'stat',
    '--format',
    '%u:%g %a',
    `${data}/restored`,
    `${data}/restored/member/snap/db`,
  );
  t.match(owner, /^999:999 700\n999:999 600\n$/);
  await site.shell(remove);
});

/** The commands in the comment at the top of a component. */
function commandsIn(component: string): string {
  const text = readFileSync(join(MANIFESTS, 'components', component, 'kustomization.yaml'), 'utf8');
  return [...text.matchAll(/^# {3}(\S.*\n)/gm)].map(([, command = '']) => command).join('');
}

/** All components that fit kubeadm, but for workload identity: there is no Entra ID. */
const ALL = ['copy', 'drill', 'prune', 'report', 'encryption', 'drill-identity', 'bundle/kubeadm', 'signatures'];

t.test('all components together: sealed snapshots with bundles, copied, drilled, reported and pruned', async (t) => {
  const node = kubernetes.node('m1');
  await node.mustRun('mkdir', '-p', '/etc/kubernetes/manifests');
  await node.mustRun('sh', '-c', 'echo "kind: Pod" >/etc/kubernetes/manifests/etcd.yaml');
  for (const name of ['sealed', 'sealed-copy', 'sealed-reports']) await site.azurite.container(name).create();

  const { SNAPSHOT_AZURE_ACCOUNT_KEY: _key, SNAPSHOT_ETCD_ENDPOINTS: _etcd, ...place } = secret;
  const copyOf = Object.entries(place).map(([name, value]) => [name.replace('SNAPSHOT_', 'SNAPSHOT_COPY_'), value]);
  site.writeSecret('copy.env', {
    ...{ ...place, SNAPSHOT_AZURE_SAS_TOKEN: site.sas('sealed', 'rl') },
    ...{ ...Object.fromEntries(copyOf), SNAPSHOT_COPY_AZURE_CONTAINER_NAME: 'sealed-copy' },
    SNAPSHOT_COPY_AZURE_SAS_TOKEN: site.sas('sealed-copy', 'rcwl'),
  });
  site.writeSecret('report.env', secret);
  const [createCopySecret = ''] = commandsOf('docs/copies.md', 'As a CronJob');
  const [createReportSecret = ''] = commandsOf('docs/fleet.md', 'Every week, in Kubernetes');
  const keygen = `${process.execPath} -- ${MAIN} keygen`;
  await site.shell(`${keygen} keys; ${keygen} spare`);
  await site.shell(createCopySecret + createReportSecret);
  await site.shell(commandsIn('encryption') + commandsIn('drill-identity') + commandsIn('signatures'));

  const components = ALL.map((name) => `  - ../manifests/components/${name}\n`).join('');
  const elsewhere = `
      - op: add
        path: /spec/jobTemplate/spec/template/spec/containers/0/env/-
        value: { name: SNAPSHOT_AZURE_CONTAINER_NAME, value: sealed }`;
  const kustomization = privateCa()
    .replaceAll(' manifests/', ' ../manifests/')
    .replace(/^components:\n(?: {2}- .*\n)+/m, `components:\n${components}`)
    .replace(/patch: \|-/, `patch: |-${elsewhere}`);
  mkdirSync(join(site.dir, 'all'));
  copyFileSync(join(site.dir, 'ca.pem'), join(site.dir, 'all', 'ca.pem'));
  writeFileSync(join(site.dir, 'all', 'kustomization.yaml'), kustomization);
  await site.shell('kubectl apply -k all');
  for (const component of ['job', 'drill', 'copy', 'report', 'prune']) {
    await site.startJob(`all-${component}`, `etcd-snapshot-azure-blob-${component}`);
    t.match(await site.outcome(`all-${component}`), { succeeded: true, pods: [{ code: 0 }] }, component);
  }
  const snapshotsIn = async (container: string): Promise<string[]> =>
    (await site.azurite.names(container)).filter((name) => name.startsWith('kubernetes-etcd-snapshot_'));
  t.match(await snapshotsIn('sealed'), [/\.age$/, /\.age$/], 'a snapshot and its bundle');
  t.strictSame(await snapshotsIn('sealed-copy'), await snapshotsIn('sealed'));
  const reports = await site.azurite.names('sealed-reports');
  t.match(reports, [/\.html$/, /\.json$/]);
  const json = await site.azurite
    .container('sealed-reports')
    .getBlobClient(reports[1] ?? '')
    .downloadToBuffer();
  t.match(JSON.parse(json.toString()), {
    clusters: [{ state: 'ok', snapshots: 1, newest: { hasBundle: true, signature: { state: 'valid' } } }],
  });
  const night = readFileSync(join(MANIFESTS, '..', 'docs', 'operations.md'), 'utf8');
  const [suspend = ''] = /kubectl patch cronjob etcd-snapshot-azure-blob-prune .*/.exec(night) ?? [];
  await site.shell(suspend);
  t.match(await kubernetes.get(`${CRONJOBS}/etcd-snapshot-azure-blob-prune`), { spec: { suspend: true } });
  await site.shell('kubectl delete -k all');
});

t.test('the chart: installed, upgraded and removed as the docs say', async (t) => {
  const [install = ''] = commandsOf('docs/kubernetes.md', 'Install with Helm');
  await site.shell(
    'sed -i "s/^namespace: .*/namespace: kube-system/" kustomization.yaml; kubectl delete -k . --ignore-not-found',
  );
  const installed = await site.shell(install);
  const notes = /^ {2}job=.*\n {2}kubectl create job .*\n {2}kubectl logs .*$/m.exec(installed.stdout)?.[0] ?? '';
  t.match((await site.shell(notes)).stdout, /uploaded successfully!\n$/, 'the commands of its notes work');

  const values = join(site.dir, 'values.yaml');
  writeFileSync(values, 'layout: kubeadm\nintervalHours: 12\n');
  for (const name of ['copy', 'prune', 'report']) appendFileSync(values, `${name}: { enabled: true }\n`);
  const repository = 'image.repository=registry.example.com/etcd-snapshot-azure-blob';
  const upgrade = `helm upgrade etcd-snapshot manifests/helm/etcd-snapshot -n kube-system -f values.yaml --set ${repository}`;
  await site.shell(upgrade);
  const env = { NODE_EXTRA_CA_CERTS: '/etc/kubernetes/pki/etcd/ca.crt' };
  await site.startJob('upgraded', CRON, { env });
  t.match(await site.outcome('upgraded'), { succeeded: true }, 'with the certificates of kubeadm');
  const { items } = await kubernetes.get(CRONJOBS);
  t.strictSame(
    items.map(({ metadata, spec }: { metadata: { name: string }; spec: { schedule: string } }) => [
      metadata.name,
      spec.schedule,
    ]),
    [
      ['etcd-snapshot-azure-blob-copy', '0 1,7,13,19 * * *'],
      [CRON, '0 */12 * * *'],
      ['etcd-snapshot-azure-blob-prune', '30 1 * * *'],
      ['etcd-snapshot-azure-blob-report', '30 5 * * 1'],
    ],
  );
  await site.shell('helm uninstall etcd-snapshot --namespace kube-system --wait');
  const left = await kubernetes.get(CRONJOBS);
  t.strictSame(left.items, []);
});

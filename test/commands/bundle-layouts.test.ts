import { chmod, chown, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { startBackupSite, writeIdentity } from '../support/backup-site.ts';
import { jsonOf } from '../support/command.ts';
import { Host } from '../support/host.ts';
import { noNamespaces } from '../support/namespace.ts';
import { mustRun, type Variables } from '../support/process.ts';
import { nextSecond } from '../support/until.ts';
import { OTHER_USER } from '../support/users.ts';

interface Result {
  readonly name: string;
  readonly bundle: {
    readonly missing: object[];
    readonly skipped: { path: string; why: string }[];
    readonly authoritiesWithoutKey: string[];
    readonly keys: { readonly cas: string[]; readonly encryption: { name: string }[]; readonly token?: string };
  };
}

const skip = noNamespaces ?? false;
const { dir, azurite, cluster } = await startBackupSite(t, 'bundle-layouts', 'oldest');
const key = join(dir, 'key.txt');
const identity = await writeIdentity(key);
await mustRun('openssl', [
  ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', '/CN=kubernetes'],
  ...['-keyout', join(dir, 'ca.key'), '-out', join(dir, 'ca.crt')],
]);
const ca = { crt: await readFile(join(dir, 'ca.crt'), 'utf8'), key: await readFile(join(dir, 'ca.key'), 'utf8') };
const config = await readFile(join(import.meta.dirname, '..', 'fixtures', 'encryption-config.yaml'), 'utf8');

function variablesOf(layout: string): Variables {
  const storage = { ...cluster.variables, ...azurite.variables(layout), PATH: '/usr/bin:/bin' };
  return { ...storage, SNAPSHOT_ENCRYPTION_RECIPIENTS: identity.recipient, SNAPSHOT_BUNDLE: layout };
}

async function backUp(host: Host): Promise<Result> {
  const { code, stdout, stderr } = await host.shell('etcd-snapshot backup --json');
  if (code !== 0) throw new Error(`ended with ${code}: ${stderr}`);
  return JSON.parse(stdout) as Result;
}

async function filesIn(layout: string, name: string): Promise<Map<string, { target?: string }>> {
  const { files } = await jsonOf<{ files: { path: string; target?: string }[] }>(
    ['bundle', name, '--identity', key],
    azurite.variables(layout),
  );
  return new Map(files.map((file) => [file.path, file]));
}

t.test('kubeadm', { skip }, async (t) => {
  const apiServer = `
spec:
  containers:
    - command: [kube-apiserver, --encryption-provider-config=/enc/config.yaml]
      volumeMounts: [{ name: enc, mountPath: /enc }]
  volumes: [{ name: enc, hostPath: { path: /etc/encryption } }]
`;
  const files = {
    'kubernetes/pki/ca.crt': ca.crt,
    'kubernetes/pki/ca.key': ca.key,
    'kubernetes/pki/etcd/ca.crt': ca.crt,
    'kubernetes/manifests/kube-apiserver.yaml': apiServer,
    'kubernetes/admin.conf': 'kind: Config\n',
    'kubernetes/kubelet.conf': 'kind: Config\n',
    'kubernetes/other.txt': 'not listed\n',
    'encryption/config.yaml': config,
  };
  const host = await Host.make(join(dir, 'kubeadm'), { disks: {}, files, variables: variablesOf('kubeadm') });
  const { name, bundle } = await backUp(host);
  t.match(bundle, { missing: [], skipped: [], authoritiesWithoutKey: [] });
  t.equal(bundle.keys.cas.length, 1, 'one key has two names');
  t.match(bundle.keys.encryption, [{ name: 'key2' }, { name: 'key1' }, { name: 'vault' }]);
  const stored = await filesIn('kubeadm', name);
  for (const path of Object.keys(files)) t.equal(stored.has(`etc/${path}`), path !== 'kubernetes/other.txt', path);
});

t.test('k3s', { skip }, async (t) => {
  const server = join(dir, 'k3s-data', 'server');
  await mkdir(join(server, 'tls'), { recursive: true });
  await mkdir(join(server, 'cred'));
  await mkdir(join(server, 'db'));
  await writeFile(join(server, 'tls/server-ca.crt'), ca.crt);
  await writeFile(join(server, 'tls/server-ca.key'), ca.key);
  await writeFile(join(server, 'tls/service.key'), ca.key);
  await writeFile(join(server, 'cred/encryption-config.json'), config);
  await writeFile(join(server, 'token'), 'K10abc::server:def\n');
  await writeFile(join(server, 'db/state.db'), 'not listed');
  await symlink('/var/lib/rancher/k3s/server/token', join(server, 'tls/token'));
  await symlink('/var/lib/rancher/k3s/server/db/state.db', join(server, 'tls/state'));
  const disks = { '/var/lib/rancher/k3s': join(dir, 'k3s-data') };
  const files = { 'rancher/k3s/config.yaml': 'cluster-init: true\n' };
  const host = await Host.make(join(dir, 'k3s'), { disks, files, variables: variablesOf('k3s') });
  const { name, bundle } = await backUp(host);
  t.match(bundle, { missing: [], authoritiesWithoutKey: [], keys: { token: /^[0-9a-f]{16}$/ } });
  t.strictSame(bundle.skipped, [
    { path: '/var/lib/rancher/k3s/server/tls/state', why: 'is a link that leaves the listed paths' },
  ]);
  const stored = await filesIn('k3s', name);
  t.match(stored.get('var/lib/rancher/k3s/server/tls/token'), { target: '../token' });
  t.ok(stored.has('var/lib/rancher/k3s/server/cred/encryption-config.json'));
  t.ok(stored.has('etc/rancher/k3s/config.yaml'));
  t.notOk([...stored.keys()].some((path) => path.includes('/db')));
});

t.test('RKE2', { skip }, async (t) => {
  const data = join(dir, 'rke2-data');
  for (const path of ['server/tls', 'server/cred', 'agent/pod-manifests']) {
    await mkdir(join(data, path), { recursive: true });
  }
  await writeFile(join(data, 'server/tls/server-ca.crt'), ca.crt);
  await writeFile(join(data, 'server/tls/server-ca.key'), ca.key);
  await writeFile(join(data, 'server/cred/encryption-config.json'), config);
  await writeFile(join(data, 'server/token'), 'K10abc::server:def\n');
  await writeFile(join(data, 'agent/pod-manifests/etcd.yaml'), 'kind: Pod\n');
  const disks = { '/var/lib/rancher/rke2': data };
  const host = await Host.make(join(dir, 'rke2'), { disks, files: {}, variables: variablesOf('rke2') });
  const { name, bundle } = await backUp(host);
  t.match(bundle, { missing: [], skipped: [], authoritiesWithoutKey: [], keys: { token: /^[0-9a-f]{16}$/ } });
  const stored = await filesIn('rke2', name);
  t.ok(stored.has('var/lib/rancher/rke2/agent/pod-manifests/etcd.yaml'));
  t.ok(stored.has('var/lib/rancher/rke2/server/cred/encryption-config.json'));
});

t.test('AKS Engine, with keys that belong to another user', { skip }, async (t) => {
  const apiServer = (path: string): string => `
spec:
  containers:
    - command: [/hyperkube, kube-apiserver, --encryption-provider-config=${path}]
`;
  const files = {
    'kubernetes/certs/ca.crt': ca.crt,
    'kubernetes/certs/apiserver.key': ca.key,
    'kubernetes/certs/etcdserver.key': ca.key,
    'kubernetes/manifests/kube-apiserver.yaml': apiServer('/etc/kubernetes/config.yaml'),
    'kubernetes/config.yaml': config,
    'kubernetes/azure.json': '{}\n',
    'default/etcd': 'DAEMON_ARGS=\n',
  };
  const host = await Host.make(join(dir, 'aks'), { disks: {}, files, variables: variablesOf('aks-engine') });
  const [own, manifest] = ['certs/etcdserver.key', 'manifests/kube-apiserver.yaml'].map((path) => {
    return join(host.dir, 'etc/kubernetes', path);
  });
  await chown(own ?? '', OTHER_USER, OTHER_USER);
  await chmod(own ?? '', 0o600);
  // As the pod of the component does it.
  const backUpWith = async (capabilities: string): Promise<[number | null, Result]> => {
    const command = `setpriv --bounding-set ${capabilities} -- etcd-snapshot backup --json`;
    const { code, stdout } = await host.shell(command);
    return [code, JSON.parse(stdout) as Result];
  };
  const [without, { bundle: incomplete }] = await backUpWith('-all');
  t.equal(without, 3);
  t.match(incomplete.missing, [{ path: '/etc/kubernetes/certs/etcdserver.key', why: /permission denied/ }]);
  await nextSecond();
  const [code, { name, bundle }] = await backUpWith('-all,+dac_override');
  t.equal(code, 0);
  t.match(bundle, {
    missing: [],
    authoritiesWithoutKey: [],
    keys: { cas: { length: 1 }, serviceAccount: { length: 1 } },
  });
  const stored = await filesIn('aks-engine', name);
  for (const path of Object.keys(files)) t.ok(stored.has(`etc/${path}`), path);

  await nextSecond();
  await writeFile(manifest ?? '', apiServer('/etc/elsewhere/config.yaml'));
  const [elsewhere, { bundle: lacking }] = await backUpWith('-all,+dac_override');
  t.equal(elsewhere, 3);
  t.strictSame(lacking.missing, [{ path: '/etc/elsewhere/config.yaml', why: 'does not exist' }]);
});

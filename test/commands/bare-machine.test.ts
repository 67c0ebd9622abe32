import { copyFile, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { generateIdentity } from '../../src/sealed/age-header.ts';
import { Azurite } from '../support/azurite.ts';
import { makeAuthority } from '../support/certificates.ts';
import { jsonOf } from '../support/command.ts';
import { findEtcd } from '../support/etcd.ts';
import { Host } from '../support/host.ts';
import { noNamespaces } from '../support/namespace.ts';
import { type Finished, freePort, mustRun, temporaryFolder } from '../support/process.ts';
import { withTools } from '../support/worker.ts';

const dir = temporaryFolder('bare');
const tools = findEtcd().at(-1);
if (tools === undefined) throw new Error('no etcd');
const [azurite, authority, identity, client, peer] = await Promise.all([
  Azurite.start(join(dir, 'azurite')),
  makeAuthority(join(dir, 'certs')),
  generateIdentity('x25519'),
  freePort(),
  freePort(),
]);
t.teardown(async () => azurite.stop());

/** The commands of a section of a page. */
async function commandsOf(page: string, heading: string): Promise<string[]> {
  const text = await readFile(join(import.meta.dirname, '..', '..', 'docs', page), 'utf8');
  const section = text.split(/^## /m).find((part) => part.startsWith(`${heading}\n`)) ?? '';
  return [...section.matchAll(/^ *```sh\n([^]*?)^ *```$/gm)].flatMap(([, block = '']) => {
    return block.split('\n').flatMap((line) => (line.trim() === '' ? [] : line.trim()));
  });
}

const PKI = '/etc/kubernetes/pki/etcd';
const URLS = { client: `https://127.0.0.1:${client}`, peer: `https://127.0.0.1:${peer}` };
const FLAGS = [
  ...['--name=m1', '--data-dir=/var/lib/etcd', `--initial-cluster=m1=${URLS.peer}`],
  ...[`--listen-client-urls=${URLS.client}`, `--advertise-client-urls=${URLS.client}`],
  ...[`--listen-peer-urls=${URLS.peer}`, `--initial-advertise-peer-urls=${URLS.peer}`],
  ...[`--cert-file=${PKI}/server.crt`, `--key-file=${PKI}/server.key`, `--trusted-ca-file=${PKI}/ca.crt`],
  ...[
    `--peer-cert-file=${PKI}/server.crt`,
    `--peer-key-file=${PKI}/server.key`,
    `--peer-trusted-ca-file=${PKI}/ca.crt`,
  ],
  ...['--client-cert-auth=true', '--peer-client-cert-auth=true'],
];
const MANIFEST = `
apiVersion: v1
kind: Pod
metadata: { name: etcd, namespace: kube-system }
spec:
  containers:
    - name: etcd
      command:
        - etcd
${FLAGS.map((flag) => `        - ${flag}\n`).join('')}`;
const API_SERVER = `
apiVersion: v1
kind: Pod
spec:
  containers:
    - command: [kube-apiserver, --encryption-provider-config=/etc/kubernetes/enc/config.yaml]
`;
/** As much of a kubelet as this needs: it runs the static pod of etcd. */
const PROGRAMS = {
  systemctl: `#!/bin/sh
[ "$1" = start ] || exit 0
etcd $(sed -n 's/^ *- \\(--.*\\)$/\\1/p' /etc/kubernetes/manifests/etcd.yaml) >etcd.log 2>&1 &
`,
};
const ETCDCTL = `etcdctl --endpoints ${URLS.client} --cacert ${PKI}/ca.crt --cert ${PKI}/healthcheck-client.crt --key ${PKI}/healthcheck-client.key`;
const HEALTHY = 'until etcd-snapshot health >health.log 2>&1; do sleep 0.2; done';
const variables = {
  ...azurite.variables('bare'),
  ...withTools(tools),
  SNAPSHOT_ETCD_ENDPOINTS: URLS.client,
  ETCDCTL_API: '3',
};

async function mustEnd(ran: Promise<Finished>): Promise<string> {
  const { code, stdout, stderr } = await ran;
  if (code !== 0) throw new Error(`ended with ${code}: ${stdout}${stderr}`);
  return stdout;
}

t.test('a bare machine becomes the control plane again', { skip: noNamespaces ?? false }, async (t) => {
  const text = async (path: string): Promise<string> => readFile(path, 'utf8');
  await mustRun('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', '/CN=kubernetes'],
    ...['-keyout', join(dir, 'ca.key'), '-out', join(dir, 'ca.crt')],
  ]);
  const files = {
    'kubernetes/pki/ca.crt': await text(join(dir, 'ca.crt')),
    'kubernetes/pki/ca.key': await text(join(dir, 'ca.key')),
    'kubernetes/pki/etcd/ca.crt': await text(authority.ca),
    'kubernetes/pki/etcd/server.crt': await text(authority.server.cert),
    'kubernetes/pki/etcd/server.key': await text(authority.server.key),
    'kubernetes/pki/etcd/healthcheck-client.crt': await text(authority.client.cert),
    'kubernetes/pki/etcd/healthcheck-client.key': await text(authority.client.key),
    'kubernetes/manifests/etcd.yaml': MANIFEST,
    'kubernetes/manifests/kube-apiserver.yaml': API_SERVER,
    'kubernetes/enc/config.yaml': await text(join(import.meta.dirname, '..', 'fixtures', 'encryption-config.yaml')),
    'kubernetes/admin.conf': 'kind: Config\n',
  };
  const old = await Host.make(join(dir, 'old'), { disks: {}, files, programs: PROGRAMS, variables });
  const key = join(dir, 'identity.txt');
  await writeFile(key, identity.secret.reveal());
  const put = `${ETCDCTL} put /registry/secrets/default/a k8s:enc:aescbc:v1:key1:ciphertext`;
  const found = "$(etcd-snapshot list --json | grep -o 'kubernetes[^\"]*[.]db[.]age' | head -n 1)";
  const stored = (await commandsOf('sealed-snapshots.md', 'The bundle')).map((line) => {
    return line
      .replace('age1…', identity.recipient)
      .replace(/kubernetes\S+/, found)
      .replace('key.txt', key);
  });
  const [fingerprint = ''] = await commandsOf('sealed-snapshots.md', 'Compare the keys before a restore');
  const printed = await mustEnd(
    old.shell(['systemctl start kubelet', HEALTHY, put, ...stored, fingerprint].join(' && ')),
  );
  t.match(printed, /Extracted 11 files/);
  const [{ name, bundleKeys } = { name: '', bundleKeys: { cas: [] } }] = await jsonOf<
    { name: string; bundleKeys: { cas: string[] } }[]
  >(['list'], variables);
  t.ok(bundleKeys.cas.includes(/^([0-9a-f]{64}) /m.exec(printed)?.[1] ?? ''), 'openssl computes the same fingerprint');

  const bare = await Host.make(join(dir, 'new'), { disks: {}, files: {}, programs: PROGRAMS, variables });
  await copyFile(key, join(bare.dir, 'identity.txt'));
  const steps = (await commandsOf('restore.md', 'New machines with kubeadm')).map((line) =>
    line === 'etcd-snapshot health' ? HEALTHY : line.replace('NAME', name).replace('MEMBER', 'm1'),
  );
  t.ok(steps.length >= 10);
  const check = [
    `${ETCDCTL} get --print-value-only /registry/secrets/default/a`,
    'cat /etc/kubernetes/pki/ca.key /etc/kubernetes/manifests/kube-apiserver.yaml',
  ];
  const restored = await mustEnd(bare.shell([...steps, ...check].join(' && ')));
  t.match(restored, /Extracted 11 files/);
  t.match(restored, 'k8s:enc:aescbc:v1:key1:ciphertext');
  t.ok(restored.endsWith(files['kubernetes/pki/ca.key'] + API_SERVER));
  t.notMatch(restored, /HAS NO PRIVATE KEY for .*pki\/ca\.crt/);
});

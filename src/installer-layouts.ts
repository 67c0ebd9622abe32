import { access } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { TlsFiles } from './config/config.ts';
import { UsageError } from './errors.ts';
import { printable } from './text.ts';

/** How installers set up etcd: as a systemd service, as a static pod, or as a part of their own program. */
export type Layout = 'aks-engine' | 'kubeadm' | 'k3s' | 'rke2';

interface LayoutFacts {
  /** The installer, for messages. */
  readonly title: string;
  /** Of etcd, or of the program that etcd is a part of. */
  readonly dataDir: string;
  /** The file that starts etcd and names its data directory; undefined where another program restores. */
  readonly configFile?: string;
  /** Whether the installer's program restores a snapshot itself; otherwise etcd's own tool restores each member. */
  readonly restoresItself: boolean;
  /** Paths that exist only on hosts of this layout: all of one group are enough. */
  readonly signs: readonly (readonly string[])[];
  /** The client certificate for etcd. */
  readonly tls: TlsFiles;
  /** Files and directories without which the cluster cannot be restored; not every host has the optional ones. */
  readonly keys: { readonly required: readonly string[]; readonly optional: readonly string[] };
  /** The manifest of the API server, which names its encryption configuration. */
  readonly apiServer?: string;
}

export const LAYOUTS: Readonly<Record<Layout, LayoutFacts>> = {
  'aks-engine': {
    title: 'AKS Engine',
    dataDir: '/var/lib/etcddisk',
    configFile: '/etc/default/etcd',
    restoresItself: false,
    signs: [['/etc/default/etcd', '/var/lib/etcddisk'], ['/etc/kubernetes/certs/etcdclient.crt']],
    tls: tlsIn('/etc/kubernetes/certs', 'ca.crt', 'etcdclient'),
    keys: {
      required: ['/etc/kubernetes/certs', '/etc/kubernetes/manifests'],
      optional: ['/etc/kubernetes/azure.json', '/etc/default/etcd', '/var/lib/kubelet/kubeconfig'],
    },
    apiServer: '/etc/kubernetes/manifests/kube-apiserver.yaml',
  },
  kubeadm: {
    title: 'kubeadm',
    dataDir: '/var/lib/etcd',
    configFile: '/etc/kubernetes/manifests/etcd.yaml',
    restoresItself: false,
    signs: [
      ['/etc/kubernetes/manifests/etcd.yaml'],
      ['/etc/kubernetes/manifests-stopped/etcd.yaml'],
      ['/etc/kubernetes/pki/etcd'],
    ],
    tls: tlsIn('/etc/kubernetes/pki/etcd', 'ca.crt', 'healthcheck-client'),
    keys: {
      required: ['/etc/kubernetes/pki', '/etc/kubernetes/manifests'],
      optional: ['admin', 'super-admin', 'controller-manager', 'scheduler', 'kubelet'].map(
        (name) => `/etc/kubernetes/${name}.conf`,
      ),
    },
    apiServer: '/etc/kubernetes/manifests/kube-apiserver.yaml',
  },
  k3s: {
    title: 'k3s',
    dataDir: '/var/lib/rancher/k3s',
    restoresItself: true,
    signs: [['/var/lib/rancher/k3s/server'], ['/etc/rancher/k3s']],
    tls: tlsIn('/var/lib/rancher/k3s/server/tls/etcd', 'server-ca.crt', 'client'),
    keys: rancherKeys('k3s'),
  },
  rke2: {
    title: 'RKE2',
    dataDir: '/var/lib/rancher/rke2',
    restoresItself: true,
    signs: [['/var/lib/rancher/rke2/server'], ['/etc/rancher/rke2']],
    tls: tlsIn('/var/lib/rancher/rke2/server/tls/etcd', 'server-ca.crt', 'server-client'),
    keys: rancherKeys('rke2'),
  },
};

export const LAYOUT_NAMES = Object.keys(LAYOUTS).filter(isLayout);

export function isLayout(name: string): name is Layout {
  return Object.hasOwn(LAYOUTS, name);
}

/** @throws UsageError */
export function namedLayout(name: string): Layout {
  if (isLayout(name)) return name;
  throw new UsageError(`Unknown layout ${printable(name)}.`, `Use one of ${LAYOUT_NAMES.join(', ')}.`);
}

interface InferredLayout {
  readonly layout: Layout;
  /** The files that identified it. */
  readonly sign: string;
}

/**
 * The layout of this host: by files that only one installer creates, or by the directory of the configured client certificate.
 * @throws UsageError unless there are signs of exactly one
 */
export async function inferLayout(certificates: Partial<TlsFiles> = {}, root = '/'): Promise<InferredLayout> {
  const found: InferredLayout[] = [];
  for (const layout of LAYOUT_NAMES) {
    const { signs, tls } = LAYOUTS[layout];
    const sign =
      (await firstPresent(signs, root))?.join(' and ') ??
      Object.values(certificates).find((path) => path.startsWith(`${dirname(tls.ca)}/`));
    if (sign !== undefined) found.push({ layout, sign });
  }
  const [only, ...others] = found;
  if (only !== undefined && others.length === 0) return only;
  const seen = found.map(({ layout, sign }) => `${layout} (${sign})`).join(', ');
  throw new UsageError(
    only === undefined
      ? 'Cannot recognize the layout: nothing on this host shows how etcd is installed.'
      : `Cannot recognize the layout: this host has signs of several: ${seen}.`,
    `Give --layout with one of ${LAYOUT_NAMES.join(', ')}.`,
  );
}

/**
 * The client certificate of the one layout that has one on this host, else of AKS Engine, which is the default.
 * @throws UsageError when there are several and none is the default's
 */
export async function findCertificates(root = '/'): Promise<TlsFiles> {
  const found: LayoutFacts[] = [];
  for (const layout of Object.values(LAYOUTS)) {
    const { ca, cert, key } = layout.tls;
    if ((await firstPresent([[ca, cert, key]], root)) !== undefined) found.push(layout);
  }
  const { tls: preset } = LAYOUTS['aks-engine'];
  const [first, ...others] = found;
  if (first === undefined || first.tls === preset) return preset;
  if (others.length === 0) return first.tls;
  throw new UsageError(
    `This host has client certificates of several installers: ${found.map(({ title }) => title).join(', ')}.`,
    'Set SNAPSHOT_ETCD_CA_FILE, _CERT_FILE and _KEY_FILE.',
  );
}

/** The first of the groups of which all paths exist, as far as this user can see. */
async function firstPresent(
  groups: readonly (readonly string[])[],
  root: string,
): Promise<readonly string[] | undefined> {
  for (const group of groups) {
    const checks = await Promise.allSettled(group.map(async (path) => access(join(root, path))));
    if (checks.every(({ status }) => status === 'fulfilled')) return group;
  }
  return undefined;
}

/** The encryption configuration is in `cred`; the certificate authorities are stored in etcd, encrypted with the token. */
function rancherKeys(name: 'k3s' | 'rke2'): LayoutFacts['keys'] {
  const server = `/var/lib/rancher/${name}/server`;
  return {
    required: [`${server}/tls`, `${server}/cred`, `${server}/token`],
    optional: [`${server}/agent-token`, `/etc/rancher/${name}`, `/var/lib/rancher/${name}/agent/pod-manifests`],
  };
}

function tlsIn(dir: string, ca: string, client: string): TlsFiles {
  return { ca: `${dir}/${ca}`, cert: `${dir}/${client}.crt`, key: `${dir}/${client}.key` };
}

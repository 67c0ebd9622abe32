import { join } from 'node:path';
import type { TlsFiles } from '../config/config.ts';
import { UsageError } from '../errors.ts';
import { printable } from '../text.ts';
import { onDisk, statOf } from './disk.ts';
import { MANIFESTS, rancherRunbook, type Restoration, runbook, type Step, STOPPED } from './runbook.ts';

export type Layout = 'aks-engine' | 'kubeadm' | 'k3s' | 'rke2';

interface LayoutFacts {
  /** Of etcd, or of the program that etcd is a part of. */
  readonly dataDir: string;
  /** What starts etcd on each member, and names its data directory; undefined where another program restores. */
  readonly configFile?: string;
  /** The program that restores a snapshot itself; undefined = each member is restored by etcd's own tool. */
  readonly restorer?: string;
  /** Paths that are on hosts of this layout only; of each group all, of the groups one. */
  readonly signs: readonly (readonly string[])[];
  /** Where the client certificate for etcd is. */
  readonly certificates: string;
  readonly steps: (restoration: Restoration) => Step[];
}

/** How installers run etcd: as a service of its own, as one of the static pods, or as a part of their own program. */
export const LAYOUTS: Readonly<Record<Layout, LayoutFacts>> = {
  'aks-engine': {
    dataDir: '/var/lib/etcddisk',
    configFile: '/etc/default/etcd',
    signs: [['/etc/default/etcd', '/var/lib/etcddisk'], ['/etc/kubernetes/certs/etcdclient.crt']],
    certificates: '/etc/kubernetes/certs/',
    steps: (restoration) =>
      runbook(
        {
          stop: ['systemctl stop etcd', 'systemctl stop kubelet'],
          start: ['systemctl start etcd   # the first waits for a second one'],
          startRest: [`mv ${STOPPED}/*.yaml ${MANIFESTS}/`, 'systemctl start kubelet'],
        },
        restoration,
      ),
  },
  kubeadm: {
    dataDir: '/var/lib/etcd',
    configFile: `${MANIFESTS}/etcd.yaml`,
    signs: [[`${MANIFESTS}/etcd.yaml`], [`${STOPPED}/etcd.yaml`], ['/etc/kubernetes/pki/etcd']],
    certificates: '/etc/kubernetes/pki/etcd/',
    steps: (restoration) =>
      runbook(
        {
          stop: ['# etcd is one of the static pods: it stops with them'],
          start: [`mv ${STOPPED}/etcd.yaml ${MANIFESTS}/`],
          startRest: [`mv ${STOPPED}/*.yaml ${MANIFESTS}/`],
        },
        restoration,
      ),
  },
  k3s: {
    dataDir: '/var/lib/rancher/k3s',
    restorer: 'k3s',
    signs: [['/var/lib/rancher/k3s/server'], ['/etc/rancher/k3s']],
    certificates: '/var/lib/rancher/k3s/server/tls/etcd/',
    steps: (restoration) =>
      rancherRunbook({ program: 'k3s', server: 'k3s', agent: 'k3s-agent', port: 6443, stop: [] }, restoration),
  },
  rke2: {
    dataDir: '/var/lib/rancher/rke2',
    restorer: 'RKE2',
    signs: [['/var/lib/rancher/rke2/server'], ['/etc/rancher/rke2']],
    certificates: '/var/lib/rancher/rke2/server/tls/etcd/',
    steps: (restoration) =>
      rancherRunbook(
        {
          ...{ program: 'rke2', server: 'rke2-server', agent: 'rke2-agent', port: 9345 },
          stop: [
            'rke2-killall.sh   # etcd and the API server are pods, which outlive the service; so do all others here',
          ],
        },
        restoration,
      ),
  },
};

const NAMES = Object.keys(LAYOUTS).join(', ');

export function isLayout(name: string): name is Layout {
  return Object.hasOwn(LAYOUTS, name);
}

/** @throws UsageError */
export function namedLayout(name: string): Layout {
  if (isLayout(name)) return name;
  throw new UsageError(`There is no layout ${printable(name)}.`, `Layouts: ${NAMES}.`);
}

export interface InferredLayout {
  readonly layout: Layout;
  /** What it was recognised by. */
  readonly sign: string;
}

/**
 * The layout of this host: by files that only one installer makes, or by where the client certificate for etcd is configured to be.
 * @param certificates files that variables name
 * @param root where the file system begins
 * @throws UsageError unless there are signs of exactly one
 */
export async function inferLayout(certificates: Partial<TlsFiles> = {}, root = '/'): Promise<InferredLayout> {
  const found: InferredLayout[] = [];
  for (const layout of Object.keys(LAYOUTS).filter(isLayout)) {
    const sign = (await signOf(layout, root)) ?? configuredIn(LAYOUTS[layout].certificates, certificates);
    if (sign !== undefined) found.push({ layout, sign });
  }
  const [only, ...others] = found;
  if (only !== undefined && others.length === 0) return only;
  const seen = found.map(({ layout, sign }) => `${layout} (${sign})`).join(', ');
  throw new UsageError(
    only === undefined
      ? 'Nothing on this host shows how etcd is installed, so the steps are not known.'
      : `There are signs of several layouts on this host: ${seen}.`,
    `Give --layout with one of ${NAMES}.`,
  );
}

async function signOf(layout: Layout, root: string): Promise<string | undefined> {
  for (const group of LAYOUTS[layout].signs) {
    const there = await Promise.all(
      group.map(async (path) => (await onDisk(`Looking at ${path}`, statOf(join(root, path)))) !== undefined),
    );
    if (there.every(Boolean)) return group.join(' and ');
  }
  return undefined;
}

function configuredIn(directory: string, certificates: Partial<TlsFiles>): string | undefined {
  return Object.values(certificates).find((path) => path.startsWith(directory));
}

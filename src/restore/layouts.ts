import { rancherRunbook } from './rancher.ts';
import { MANIFESTS, type Restoration, runbook, type Step, STOPPED } from './runbook.ts';

export type Layout = 'aks-engine' | 'kubeadm' | 'k3s' | 'rke2';

interface LayoutFacts {
  /** Of etcd, or of the program that etcd is a part of. */
  readonly dataDir: string;
  /** The program that restores a snapshot itself; undefined = each member is restored by etcd's own tool. */
  readonly restorer?: string;
  readonly steps: (restoration: Restoration) => Step[];
}

/** How installers run etcd: as a service beside the control plane, as one of its static pods, or as a part of their own program. */
export const LAYOUTS: Readonly<Record<Layout, LayoutFacts>> = {
  'aks-engine': {
    dataDir: '/var/lib/etcddisk',
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
    steps: (restoration) =>
      rancherRunbook({ program: 'k3s', server: 'k3s', agent: 'k3s-agent', port: 6443, stop: [] }, restoration),
  },
  rke2: {
    dataDir: '/var/lib/rancher/rke2',
    restorer: 'RKE2',
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

export function isLayout(name: string): name is Layout {
  return Object.hasOwn(LAYOUTS, name);
}

import type { InitialMember, LeftOut } from './members.ts';

/** One step of a restore of all members. All of a step is done on all machines that it names before the next begins. */
export interface Step {
  readonly title: string;
  /** Where: the name of a member, or words for several machines. */
  readonly on: string;
  /** Command lines, and remarks that begin with #. */
  readonly run: readonly string[];
}

export type Layout = 'aks-engine' | 'kubeadm';

interface LayoutFacts {
  readonly dataDir: string;
  /** How etcd is stopped once the API servers are. */
  readonly stop: readonly string[];
  readonly start: readonly string[];
  readonly startRest: readonly string[];
}

const MANIFESTS = '/etc/kubernetes/manifests';
const STOPPED = '/etc/kubernetes/manifests-stopped';

/** How installers run etcd: as a service beside the control plane, or as one of its static pods. */
export const LAYOUTS: Readonly<Record<Layout, LayoutFacts>> = {
  'aks-engine': {
    dataDir: '/var/lib/etcddisk',
    stop: ['systemctl stop etcd', 'systemctl stop kubelet'],
    start: ['systemctl start etcd   # the first waits for a second one'],
    startRest: [`mv ${STOPPED}/*.yaml ${MANIFESTS}/`, 'systemctl start kubelet'],
  },
  kubeadm: {
    dataDir: '/var/lib/etcd',
    stop: ['# etcd is one of the static pods: it stops with them'],
    start: [`mv ${STOPPED}/etcd.yaml ${MANIFESTS}/`],
    startRest: [`mv ${STOPPED}/*.yaml ${MANIFESTS}/`],
  },
};

/** The steps with which a whole cluster is restored, in their order. */
export function runbook(
  layout: Layout,
  dataDir: string,
  members: readonly InitialMember[],
  leftOut: readonly LeftOut[],
): Step[] {
  const { stop, start, startRest } = LAYOUTS[layout];
  const names = members.map(({ name }) => name).join(', ');
  const masters = `on each of ${names}`;
  return [
    {
      title: 'Copy this plan, and look whether the digest is the same',
      on: masters,
      run: ['etcd-snapshot restore --plan --from-plan plan.json'],
    },
    ...members.map(({ name, peerURLs }) => ({
      title: 'Restore beside the old data, which is not touched; etcd may still run',
      on: name,
      run: [`etcd-snapshot restore --from-plan plan.json --member ${name}`, `# its peer URL is ${peerURLs.join(', ')}`],
    })),
    {
      title: 'Stop the API servers and everything else of the control plane',
      on: masters,
      run: [
        `mkdir -p ${STOPPED}`,
        `mv ${MANIFESTS}/*.yaml ${STOPPED}/`,
        'crictl ps   # until no kube-apiserver is left',
      ],
    },
    {
      title:
        'Stop etcd; go on only when it is stopped on all of them, for a member with old data must never meet a restored one',
      on: masters,
      run: stop,
    },
    {
      title: `Put the restored data in its place; the old stays in ${dataDir}/old-…`,
      on: masters,
      run: [`etcd-snapshot restore --swap --data-dir ${dataDir}`],
    },
    { title: 'Start etcd', on: masters, run: start },
    { title: 'Go on only when every member is healthy', on: 'anywhere', run: ['etcd-snapshot health'] },
    { title: 'Start the control plane', on: masters, run: startRest },
    {
      title: 'Restart what had watched the old cluster, so that nothing acts on what it remembers',
      on: 'on every node, then anywhere',
      run: ['systemctl restart kubelet', 'kubectl -n kube-system rollout restart daemonset,deployment'],
    },
    {
      title: 'Look at the workloads, then take a backup',
      on: 'anywhere',
      run: ['kubectl get nodes,pods --all-namespaces', 'etcd-snapshot backup'],
    },
    ...leftOut
      .filter(({ name }) => name !== '')
      .map(({ name }) => ({
        title: 'Add again what was a learner',
        on: name,
        run: [`# with an empty data directory: etcdctl member add ${name} --learner --peer-urls=…`],
      })),
  ];
}

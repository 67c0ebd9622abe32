import type { InitialMember, LeftOut } from './members.ts';

/** One step of a restore of all members. All of a step is done on all machines that it names before the next begins. */
export interface Step {
  readonly title: string;
  /** Where: the name of a member, or words for several machines. */
  readonly on: string;
  /** Command lines, and remarks that begin with #. */
  readonly run: readonly string[];
}

/** What is to be restored, and where. */
export interface Restoration {
  /** Of the snapshot, without a prefix. */
  readonly fileName: string;
  readonly dataDir: string;
  readonly members: readonly InitialMember[];
  readonly leftOut: readonly LeftOut[];
}

/** How etcd is stopped once the API servers are, and how it and the rest are started. */
export interface EtcdControl {
  readonly stop: readonly string[];
  readonly start: readonly string[];
  readonly startRest: readonly string[];
}

export const MANIFESTS = '/etc/kubernetes/manifests';
export const STOPPED = '/etc/kubernetes/manifests-stopped';

/** The steps with which a whole cluster is restored whose etcd is a program or a pod of its own, in their order. */
export function runbook({ stop, start, startRest }: EtcdControl, { dataDir, members, leftOut }: Restoration): Step[] {
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

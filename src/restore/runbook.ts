import { quoteShell } from '../text.ts';
import type { InitialMember, LeftOut } from './initial-members.ts';

/** One step of a restore of all members. All of a step is done on all machines that it names before the next begins. */
export interface Step {
  readonly title: string;
  /** Where: the name of a member, or words for several machines. */
  readonly on: string;
  /** Command lines for a shell, and remarks that begin with #. */
  readonly run: readonly string[];
}

/** What is to be restored, and where. */
export interface Restoration {
  /** Where the plan is on each of the machines. */
  readonly planFile: string;
  /** Of the snapshot, without a prefix. */
  readonly fileName: string;
  readonly dataDir: string;
  /** The file that starts etcd on each of the members, and names its data directory; null = all have `dataDir`. */
  readonly configFile: string | null;
  /** Although the cluster works. */
  readonly force: boolean;
  readonly members: readonly InitialMember[];
  readonly leftOut: readonly LeftOut[];
  /** Of the restored cluster. */
  readonly previousClusterIds: readonly string[];
  /** `20260131-235959`, UTC: another one for each plan. */
  readonly stamp: string;
}

/** How etcd is stopped once the API servers are, and how it and the rest are started. */
interface EtcdControl {
  readonly stop: readonly string[];
  readonly start: readonly string[];
  readonly startRest: readonly string[];
}

export const MANIFESTS = '/etc/kubernetes/manifests';
export const STOPPED = '/etc/kubernetes/manifests-stopped';

/** A command line of this program. */
export function ownCommand(...words: readonly string[]): string {
  return ['etcd-snapshot', ...words].map(quoteShell).join(' ');
}

/** The first step of every plan. */
function compareDigests(planFile: string, on: string): Step {
  return {
    title: 'Copy this plan, and look whether the digest is the same',
    on,
    run: [ownCommand('restore', '--plan', '--from-plan', planFile)],
  };
}

/** The last step of every plan: the first backup is compared with snapshots of the old cluster. */
function firstBackup(previousClusterIds: readonly string[], more: readonly string[] = []): Step {
  const variable = `SNAPSHOT_PREVIOUS_CLUSTER_IDS=${previousClusterIds.join()}`;
  return {
    title: 'Look at the workloads, name the old cluster where backups are configured, then take a backup',
    on: 'anywhere',
    run: [
      'kubectl get nodes,pods --all-namespaces',
      `# the restored cluster has a new id: put ${variable} into the Secret or the environment of the backups, for good`,
      `${variable} ${ownCommand('backup')}`,
      ...more,
    ],
  };
}

/** The steps with which a whole cluster is restored whose etcd is a program or a pod of its own, in their order. */
export function runbook({ stop, start, startRest }: EtcdControl, restoration: Restoration): Step[] {
  const { planFile, dataDir, configFile, force, members, leftOut, previousClusterIds } = restoration;
  const names = members.map(({ name }) => name).join(', ');
  const masters = `on each of ${names}`;
  // The manifests of static pods are moved away when etcd is stopped, before the swap.
  const stoppedFile = configFile?.startsWith(`${MANIFESTS}/`) ? configFile.replace(MANIFESTS, STOPPED) : configFile;
  return [
    compareDigests(planFile, masters),
    ...members.map(({ name, peerURLs }) => ({
      title: `Restore next to the old data, which is not touched; ${
        force ? 'etcd may still run' : 'it is refused while the cluster has its quorum'
      }`,
      on: name,
      run: [
        ownCommand(
          ...['restore', '--from-plan', planFile, '--member', name],
          ...(configFile === null ? [] : ['--from', configFile]),
          ...(force ? ['--force'] : []),
        ),
        `# its peer URL is ${peerURLs.join(', ')}`,
      ],
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
      title: 'Put the restored data in its place; the old stays next to it, in old-…',
      on: masters,
      run: [
        ownCommand('restore', '--swap', ...(stoppedFile === null ? ['--data-dir', dataDir] : ['--from', stoppedFile])),
      ],
    },
    { title: 'Start etcd', on: masters, run: start },
    { title: 'Go on only when every member is healthy', on: 'anywhere', run: [ownCommand('health')] },
    { title: 'Start the control plane', on: masters, run: startRest },
    {
      title: 'Restart what had watched the old cluster, so that nothing acts on what it remembers',
      on: 'on every node, then anywhere',
      run: ['systemctl restart kubelet', 'kubectl -n kube-system rollout restart daemonset,deployment'],
    },
    firstBackup(previousClusterIds),
    ...leftOut
      .filter(({ name }) => name !== '')
      .map(({ name }) => ({
        title: 'Add again what was a learner',
        on: name,
        run: [`# with an empty data directory: etcdctl member add ${quoteShell(name)} --learner --peer-urls=…`],
      })),
  ];
}

/** How the services of k3s and RKE2 are called, and what must be stopped together with them. */
interface RancherProgram {
  readonly program: string;
  readonly server: string;
  readonly agent: string;
  /** On which a server lets others join. */
  readonly port: number;
  readonly stop: readonly string[];
}

/**
 * The steps for k3s and RKE2, in which etcd is a part of the server. One server takes the snapshot's file and becomes a
 * cluster of its own; the others forget their data and join it.
 */
export function rancherRunbook(
  { program, server, agent, port, stop }: RancherProgram,
  { planFile, fileName, dataDir, members, force, previousClusterIds, stamp }: Restoration,
): Step[] {
  const [first = '', ...others] = members.map(({ name }) => name);
  const each = `on each of ${[first, ...others].join(', ')}`;
  const config = `/etc/rancher/${program}/config.yaml`;
  const [peer = 'https://SERVER'] = members[0]?.peerURLs ?? [];
  const file = `${dataDir}/${fileName}`;
  const database = `${dataDir}/server/db`;
  const aside = `${database}-${stamp}`;
  const reset = [`--cluster-reset`, `--cluster-reset-restore-path=${file}`, `--data-dir=${dataDir}`];
  return [
    compareDigests(planFile, each),
    {
      title: 'Write the snapshot to a file, on one server; etcd may still run',
      on: `${first}, or any other of them that is to be the first`,
      run: [
        force
          ? '# the cluster goes back in time on purpose: what was written since the snapshot is lost'
          : '# go on only while the cluster has no quorum (etcd-snapshot health)',
        ownCommand('restore', '--from-plan', planFile, '--download', file),
        '# where no container runs any more: on another machine, and copy the file; it holds all Secrets',
      ],
    },
    {
      title: `Stop ${program}; go on only when nothing listens on all of them, for old data must never meet restored data`,
      on: each,
      run: [
        `systemctl stop ${server}`,
        ...stop,
        "ss -Hltn 'sport = :2379 or sport = :2380'   # until it prints nothing",
      ],
    },
    {
      title: `Restore; it ends by itself, and the old data stays in ${database}/etcd-old-…`,
      on: `${first}, the first`,
      run: [
        `# ${config} must hold no server: line during this step`,
        [program, 'server', ...reset].map(quoteShell).join(' '),
        '# on a new machine also --token=… with the token of the old cluster; with etcd-s3 configured also --etcd-s3=false',
        `# to do it once more, first remove ${quoteShell(`${database}/reset-flag`)}`,
      ],
    },
    {
      title: 'Start it, and go on only when it is healthy, alone',
      on: `${first}, the first`,
      run: [`systemctl start ${server}`, ownCommand('health')],
    },
    ...others.map((name) => ({
      title: 'Let it join the first; go on only when all are healthy, for one joins at a time',
      on: name,
      run: [
        `# ${config} must hold server: ${joinUrl(peer, port)}, or it begins a cluster of its own`,
        // Run twice, this must not take the data away that it has by then.
        `[ -e ${quoteShell(aside)} ] || mv ${quoteShell(database)} ${quoteShell(aside)}`,
        `systemctl start ${server}`,
        ownCommand('health'),
      ],
    })),
    {
      title: 'Restart what had watched the old cluster, so that nothing acts on what it remembers',
      on: 'on every agent, then anywhere',
      run: [`systemctl restart ${agent}`, 'kubectl -n kube-system rollout restart daemonset,deployment'],
    },
    firstBackup(previousClusterIds, [
      `# remove nodes that are no more, and on ${first}, the first, the file with all Secrets:`,
      `rm -f ${quoteShell(file)}`,
    ]),
  ];
}

/** Servers are joined where their etcd is. */
function joinUrl(peerUrl: string, port: number): string {
  const url = new URL(peerUrl);
  url.port = String(port);
  return url.origin;
}

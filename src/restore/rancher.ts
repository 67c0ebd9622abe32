import type { Restoration, Step } from './runbook.ts';

/** How the services of k3s and RKE2 are called, and what must be stopped beside them. */
export interface RancherProgram {
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
  { fileName, dataDir, members }: Restoration,
): Step[] {
  const [first = '', ...others] = members.map(({ name }) => name);
  const each = `on each of ${[first, ...others].join(', ')}`;
  const config = `/etc/rancher/${program}/config.yaml`;
  const [peer = 'https://SERVER'] = members[0]?.peerURLs ?? [];
  const file = `${dataDir}/${fileName}`;
  const database = `${dataDir}/server/db`;
  return [
    {
      title: 'Go on only when the cluster has lost its quorum, or is to go back in time',
      on: 'anywhere',
      run: ['etcd-snapshot health'],
    },
    {
      title: 'Write the snapshot to a file, on one server; etcd may still run',
      on: `${first}, or whichever of them is to be the first`,
      run: [
        `etcd-snapshot restore --from-plan plan.json --download ${file}`,
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
        `# ${config} must hold no server: line meanwhile`,
        `${program} server --cluster-reset --cluster-reset-restore-path=${file} --data-dir=${dataDir}`,
        '# on a new machine also --token=… with the token of the old cluster; with etcd-s3 configured also --etcd-s3=false',
        `# to do it once more, first remove ${database}/reset-flag`,
      ],
    },
    {
      title: 'Start it, and go on only when it is healthy, alone',
      on: `${first}, the first`,
      run: [`systemctl start ${server}`, 'etcd-snapshot health'],
    },
    ...others.map((name) => ({
      title: 'Let it join anew; go on only when all are healthy, for one joins at a time',
      on: name,
      run: [
        `# ${config} must hold server: ${joinUrl(peer, port)}, or it begins a cluster of its own`,
        `mv ${database} ${database}-$(date +%s)`,
        `systemctl start ${server}`,
        'etcd-snapshot health',
      ],
    })),
    {
      title: 'Restart what had watched the old cluster, so that nothing acts on what it remembers',
      on: 'on every agent, then anywhere',
      run: [`systemctl restart ${agent}`, 'kubectl -n kube-system rollout restart daemonset,deployment'],
    },
    {
      title: 'Look at the workloads, remove nodes that are no more, take a backup, and remove the file',
      on: 'anywhere',
      run: ['kubectl get nodes,pods --all-namespaces', 'etcd-snapshot backup', `rm ${file}   # ${first}, the first`],
    },
  ];
}

/** Servers are joined where their etcd is. */
function joinUrl(peerUrl: string, port: number): string {
  const url = new URL(peerUrl);
  url.port = String(port);
  return url.origin;
}

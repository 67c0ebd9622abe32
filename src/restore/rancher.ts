import { quoteShell } from '../text.ts';
import { compareDigests, firstBackup, ownCommand, type Restoration, type Step } from './runbook.ts';

/** How the services of k3s and RKE2 are called, and what must be stopped together with them. */
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

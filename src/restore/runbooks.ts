import { basename } from 'node:path';
import type { Layout } from '../installer-layouts.ts';
import { type Encoding, encodingOfName, isEncrypted, withoutEncoding } from '../snapshot/snapshot-name.ts';
import { quoteShell } from '../text.ts';
import type { Plan } from './plan.ts';

/** One step of a restore of all members. It is done on all hosts that it names before the next step begins. */
export interface Step {
  readonly title: string;
  /** Where: the name of a member, or words for several hosts. */
  readonly on: string;
  /** Command lines for a shell, and remarks that begin with #. */
  readonly run: readonly string[];
}

const MANIFESTS = '/etc/kubernetes/manifests';
const STOPPED = '/etc/kubernetes/manifests-stopped';

// A step of a template is a heading, `[where] title`, and its lines: commands, and remarks that begin with #. A `{value}` is
// replaced, and in a command each of its words is quoted for a shell. A step on {member}, {joining} or {learner} is repeated.

const FIRST_STEP = `
[on each of {names}] Copy this plan to all members, and check that the digest is the same
etcd-snapshot restore --plan --from-plan {plan}
# {encrypted}
`;

const BACKUP_STEP = `
[anywhere] Check the workloads, configure the old cluster id for backups, then take a backup
kubectl get nodes,pods --all-namespaces
# the restored cluster has a new id: set {previous} permanently
# in the Secret or the environment of the backups
{previous} etcd-snapshot backup
`;

/** For an etcd that is a service or a pod of its own. */
function memberTemplate(control: {
  readonly stop: string;
  readonly start: string;
  readonly startRest: string;
}): string {
  return `${FIRST_STEP}
[{member}] Restore next to the old data, which is not changed; {quorum}
etcd-snapshot restore --from-plan {plan} --member {member} {restoreOptions}
# its peer URL is {peerURLs}

[on each of {names}] Stop the API servers and the rest of the control plane
mkdir -p ${STOPPED}
mv ${MANIFESTS}/*.yaml ${STOPPED}/
crictl ps   # repeat until no kube-apiserver is left

[on each of {names}] Stop etcd; continue only when it is stopped on all of them
# a member with old data must never connect to a restored one
${control.stop}

[on each of {names}] Swap in the restored data; the old data stays next to it, in old-…
etcd-snapshot restore --swap {swapOptions}

[on each of {names}] Start etcd
${control.start}

[anywhere] Continue only when every member is healthy
etcd-snapshot health

[on each of {names}] Start the control plane
${control.startRest}

[on every node, then anywhere] Restart everything that watched the old cluster
systemctl restart kubelet
kubectl -n kube-system rollout restart daemonset,deployment
${BACKUP_STEP}
[{learner}] Add the learner again
# with an empty data directory: etcdctl member add {learner} --learner --peer-urls=…
`;
}

/**
 * For k3s and RKE2, in which etcd is a part of the server: one server restores the file and becomes a cluster of one member;
 * the others remove their data and join it.
 */
function serverTemplate(names: {
  readonly program: string;
  readonly server: string;
  readonly agent: string;
  /** On which a server lets others join. */
  readonly port: number;
  readonly stop: string;
}): string {
  const { program, server, agent, port, stop } = names;
  const config = `/etc/rancher/${program}/config.yaml`;
  return `${FIRST_STEP}
[{first}, or another server: then use that one as the first server] Write the snapshot to a file
# {condition}
etcd-snapshot restore --from-plan {plan} --download {file} {downloadOptions}
# if no container can run here: do this on another host, and copy the file
# the file contains all Secrets

[on each of {names}] Stop ${program}; continue only when nothing listens on any of them
# a member with old data must never connect to a restored one
systemctl stop ${server}
${stop}ss -Hltn 'sport = :2379 or sport = :2380'   # repeat until it prints nothing

[{first}, the first server] Restore; the old data stays in {database}/etcd-old-…
# the command ends by itself
# ${config} must contain no server: line during this step
${program} server --cluster-reset --cluster-reset-restore-path={file} --data-dir={dataDir}
# on a new host add --token=… with the token of the old cluster;
# with etcd-s3 configured add --etcd-s3=false
# to repeat this step, first remove the file reset-flag in {database}

[{first}, the first server] Start it; continue only when it is healthy, as the only member
systemctl start ${server}
etcd-snapshot health

[{joining}] Join it to the first server, one server at a time; continue only when all are healthy
# ${config} must contain server: {joinHost}:${port}, or it starts a new cluster
[ -e {aside} ] || mv {database} {aside}
systemctl start ${server}
etcd-snapshot health

[on every agent, then anywhere] Restart everything that watched the old cluster
systemctl restart ${agent}
kubectl -n kube-system rollout restart daemonset,deployment
${BACKUP_STEP}# remove nodes that no longer exist; on {first}, the first server, remove the file with all Secrets:
rm -f {file}
`;
}

const TEMPLATES: Readonly<Record<Layout, string>> = {
  'aks-engine': memberTemplate({
    stop: 'systemctl stop etcd\nsystemctl stop kubelet',
    start: 'systemctl start etcd   # the first member waits for a second one',
    startRest: `mv ${STOPPED}/*.yaml ${MANIFESTS}/\nsystemctl start kubelet`,
  }),
  kubeadm: memberTemplate({
    stop: '# etcd is a static pod: it stopped with the control plane',
    start: `mv ${STOPPED}/etcd.yaml ${MANIFESTS}/`,
    startRest: `mv ${STOPPED}/*.yaml ${MANIFESTS}/`,
  }),
  k3s: serverTemplate({ program: 'k3s', server: 'k3s', agent: 'k3s-agent', port: 6443, stop: '' }),
  rke2: serverTemplate({
    ...{ program: 'rke2', server: 'rke2-server', agent: 'rke2-agent', port: 9345 },
    stop: 'rke2-killall.sh   # stops all pods here: etcd and the API server keep running without the service\n',
  }),
};

/** A value of a template: one word, or several words of a command line. */
type Value = string | readonly string[];
type Values = Readonly<Record<string, Value>>;

/** The steps that restore the whole cluster, in their order. @param planFile its path on each host */
export function stepsOf(plan: Plan, planFile: string): Step[] {
  const values = valuesOf(plan, planFile);
  const { members, leftOut } = plan;
  const repeated: Readonly<Record<string, readonly Values[]>> = {
    member: members.map(({ name, peerURLs }) => ({ member: name, peerURLs: peerURLs.join() })),
    joining: members.slice(1).map(({ name }) => ({ joining: name })),
    learner: leftOut.filter(({ name }) => name !== '').map(({ name }) => ({ learner: name })),
  };
  const blocks = TEMPLATES[plan.layout].trim().split(/\n\n+/);
  return blocks.flatMap((block) => {
    const key = Object.keys(repeated).find((name) => block.startsWith(`[{${name}}]`));
    const each = key === undefined ? [{}] : (repeated[key] ?? []);
    return each.map((own) => fill(block, { ...values, ...own }));
  });
}

function valuesOf(plan: Plan, planFile: string): Values {
  const { snapshot, madeAt, dataDir, configFile, force, members, previousClusterIds, fromCopy } = plan;
  // The manifests of static pods are moved when etcd is stopped, before the swap.
  const stoppedFile = configFile?.startsWith(`${MANIFESTS}/`) ? configFile.replace(MANIFESTS, STOPPED) : configFile;
  const database = `${dataDir}/server/db`;
  const encoding = encodingOfName(snapshot.name);
  const fromWhere = fromCopy === true ? ['--from-copy'] : [];
  return {
    names: members.map(({ name }) => name).join(', '),
    plan: planFile,
    first: members[0]?.name ?? '',
    ...{ dataDir, database },
    file: `${dataDir}/${withoutEncoding(basename(snapshot.name))}`,
    downloadOptions: [...(encoding === undefined ? [] : ['--open']), ...fromWhere],
    encrypted: remarkAbout(encoding),
    // Dated, because a repetition of the step must not move the data that the member has by then.
    aside: `${database}-${stampOf(madeAt)}`,
    // Servers are joined where their etcd is.
    joinHost: members[0]?.peerURLs[0]?.replace(/:\d+$/, '') ?? '',
    previous: `SNAPSHOT_PREVIOUS_CLUSTER_IDS=${previousClusterIds.join()}`,
    restoreOptions: [
      ...(configFile === null ? [] : ['--from', configFile]),
      ...(force ? ['--force'] : []),
      ...fromWhere,
    ],
    swapOptions: stoppedFile === null ? ['--data-dir', dataDir] : ['--from', stoppedFile],
    quorum: force ? 'etcd can keep running' : 'refused while the cluster has quorum',
    condition: force
      ? 'etcd can keep running; everything written since the snapshot is lost'
      : 'continue only while the cluster has no quorum (etcd-snapshot health)',
  };
}

/** Empty where no key is needed. */
function remarkAbout(encoding: Encoding | undefined): string {
  if (encoding === undefined || !isEncrypted(encoding)) return '';
  return 'the snapshot is encrypted: set SNAPSHOT_ENCRYPTION_IDENTITY_FILE to the file of an identity';
}

function fill(block: string, values: Values): Step {
  const [heading = '', ...lines] = block.split('\n');
  const [, on = '', title = ''] = /^\[(.*?)\] (.*)$/.exec(heading) ?? [];
  const filled = (text: string, write: (word: string) => string): string =>
    text.replaceAll(/\{(\w+)\}/g, (_, name: string) => [values[name] ?? ''].flat().map(write).join(' ')).trimEnd();
  return {
    title: filled(title, String),
    on: filled(on, String),
    // A remark without a text is none.
    run: lines.map((line) => filled(line, line.startsWith('#') ? String : quoteShell)).filter((line) => line !== '#'),
  };
}

/** A time in a file name, in UTC: `20260131-235959`. */
export function stampOf(time: string): string {
  return time.slice(0, 19).replaceAll(/[-:]/g, '').replace('T', '-');
}

/** A command line of this program. */
export function ownCommand(...words: readonly string[]): string {
  return ['etcd-snapshot', ...words].map(quoteShell).join(' ');
}

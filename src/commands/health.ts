import { UnsafeError } from '../errors.ts';
import {
  type ClusterHealth,
  hasQuorum,
  isHealthy,
  type MemberHealth,
  problemsOf,
  quorumInWords,
  surveyCluster,
} from '../etcd/cluster-health.ts';
import { connectAll } from '../etcd/connection.ts';
import { Warnings } from '../log.ts';
import { hasStarted } from '../member.ts';
import { afterColon, alignColumns, counted, humanSize, paragraph, printable } from '../text.ts';
import type { Context, Outcome } from './command.ts';

/** The health of every member, the quorum and its fault tolerance. Changes nothing. */
export async function health({ config, log }: Context): Promise<Outcome> {
  const connections = await connectAll(config.etcd, new Date(), new Warnings(log));
  const cluster = await surveyCluster(connections);
  const problems = problemsOf(cluster).map(({ sentence }) => printable(sentence));
  const summary = `${quorumInWords(cluster.quorum)}.`;
  return {
    text: [memberTable(cluster), '', urlTable(cluster), '', ...problems.map(paragraph), summary].join('\n'),
    summary,
    json: {
      healthy: problems.length === 0,
      quorum: cluster.quorum.needed,
      hasQuorum: hasQuorum(cluster.quorum),
      summary: quorumInWords(cluster.quorum),
      clusterId: cluster.clusterId,
      members: cluster.members.map(entry),
      alarms: cluster.alarms,
    },
    ...(problems.length === 0 ? {} : { partialFailure: partialFailure(cluster, problems) }),
  };
}

/** A member in the JSON document; null for what is not known of an unreachable one. */
function entry(member: MemberHealth): object {
  const { id, name, peerURLs, clientURLs, status, errors } = member;
  return {
    ...{ id, name, health: member.health, leader: status?.isLeader ?? false, learner: member.isLearner },
    ...{ started: hasStarted(member), version: status?.version ?? null },
    ...{ dbSize: status?.dbSize ?? null, dbSizeInUse: status?.dbSizeInUse ?? null },
    ...{ revision: status?.revision ?? null, lag: member.lag ?? null, raftTerm: status?.raftTerm ?? null },
    ...{ endpoint: status?.endpoint ?? null, peerURLs, clientURLs, errors },
  };
}

const MEMBER_HEADINGS = ['NAME', 'HEALTH', 'ROLE', 'VERSION', 'DB SIZE', 'IN USE', 'REVISION', 'LAG', 'TERM'];
const URL_HEADINGS = ['NAME', 'ID', 'PEER URLS', 'CLIENT URLS'];

function memberTable({ members }: ClusterHealth): string {
  const rows = members.map((member) => [member.name, member.health, role(member), ...statusCells(member)]);
  return alignColumns(MEMBER_HEADINGS, rows, MEMBER_HEADINGS.slice(4));
}

function urlTable({ members }: ClusterHealth): string {
  const rows = members.map(({ name, id, peerURLs, clientURLs }) => [name, id, peerURLs.join(), clientURLs.join()]);
  return alignColumns(URL_HEADINGS, rows);
}

function statusCells({ status, lag }: MemberHealth): string[] {
  if (status === undefined) return ['-', '-', '-', '-', '-', '-'];
  const { version, dbSize, dbSizeInUse, revision, raftTerm } = status;
  return [version, humanSize(dbSize), humanSize(dbSizeInUse), String(revision), String(lag), String(raftTerm)];
}

function role({ isLearner, status }: MemberHealth): string {
  if (isLearner) return 'learner';
  if (status === undefined) return '-';
  return status.isLeader ? 'leader' : 'follower';
}

function partialFailure({ members, alarms, quorum }: ClusterHealth, problems: readonly string[]): UnsafeError {
  const ill = members.filter((member) => !isHealthy(member)).length;
  const what = [
    ...(ill === 0 ? [] : [`${ill} of ${members.length} members not healthy`]),
    ...(alarms.length === 0 ? [] : [counted(alarms.length, 'alarm')]),
  ];
  const hint = hasQuorum(quorum)
    ? 'Replace a permanently lost member with `etcd-snapshot replace-member`. Clear an alarm with `etcdctl alarm disarm`.'
    : 'Start the members that are down. If too many are permanently lost, restore a snapshot on new ones. Run: etcd-snapshot restore --plan';
  return new UnsafeError(`The cluster is not healthy (${what.join(', ')}): ${afterColon(problems[0] ?? '')}`, hint);
}

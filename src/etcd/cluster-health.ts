import { EtcdError } from '../errors.ts';
import type { Member } from '../snapshot/verify/etcd-buckets.ts';
import type { Connections } from './connect.ts';
import type { MemberAlarm, MemberStatus } from './connection.ts';
import { listMembers } from './membership.ts';
import { acceptsConnections, clusterAtPeer, proveQuorum, type Quorum, quorumOf } from './quorum.ts';
import { type Answer, askAll, assertOneCluster, isCorrupt, LAG, noneCan } from './select-member.ts';

/** What was found out about one member of the cluster's list. */
export interface Probe {
  readonly member: Member;
  /** Undefined when it answered at none of its URLs. */
  readonly status: MemberStatus | undefined;
  /** Why it did not answer, or why it could not read through a majority. */
  readonly failures: readonly string[];
  /** Whether something takes connections at its peer URLs, where it did not answer. */
  readonly isAlive: boolean;
  /** Whether a member of another cluster answers in its place, as one does that was started with data from before a restore. */
  readonly isForeign?: boolean;
}

export interface MemberHealth extends Member {
  /** `unhealthy` answers but does not take part as it should. */
  readonly health: 'healthy' | 'unhealthy' | 'unreachable';
  /** Why it is not healthy, each in a sentence or in etcd's words. */
  readonly errors: readonly string[];
  /** Undefined while it is unreachable. */
  readonly status: MemberStatus | undefined;
  /** Entries of the raft log by which it is behind the newest; undefined while it is unreachable. */
  readonly lag: number | undefined;
  readonly isAlive: boolean;
}

export interface ClusterHealth {
  readonly clusterId: string;
  readonly members: readonly MemberHealth[];
  readonly alarms: readonly MemberAlarm[];
  readonly quorum: Quorum;
}

/** Judges a cluster by what its members say. At least one of them must have answered. */
export function judge(probes: readonly Probe[]): ClusterHealth {
  const statuses = probes.flatMap(({ status }) => status ?? []);
  const newest = Math.max(...statuses.map(({ raftIndex }) => raftIndex));
  const members = probes.map((probe) => judgeMember(probe, newest));
  const voters = members.filter(({ isLearner }) => !isLearner);
  const alarms = new Map(
    statuses.flatMap((status) => status.alarms).map((alarm) => [Object.values(alarm).join(), alarm]),
  );
  return {
    clusterId: statuses[0]?.clusterId ?? '',
    members,
    alarms: [...alarms.values()],
    quorum: quorumOf(voters.length, voters.filter(isHealthy).length),
  };
}

function judgeMember({ member, status, failures, isAlive }: Probe, newest: number): MemberHealth {
  if (status === undefined) {
    const errors = [
      ...(hasStarted(member) ? [] : ['It was added and has never started.']),
      ...failures,
      ...(isAlive ? ['Something accepts connections at its peer URL all the same.'] : []),
    ];
    return { ...member, health: 'unreachable', errors, status, lag: undefined, isAlive };
  }
  const lag = Math.max(0, newest - status.raftAppliedIndex);
  const errors = [
    ...status.errors,
    ...failures,
    ...(isCorrupt(status) ? ['It has the alarm CORRUPT.'] : []),
    // A voting member that answers a linearizable read has caught up, whatever was on the way when it was asked.
    ...(member.isLearner && lag > LAG ? [`It lags ${lag} entries behind.`] : []),
  ];
  return { ...member, health: errors.length === 0 ? 'healthy' : 'unhealthy', errors, status, lag, isAlive: true };
}

export function isHealthy({ health }: MemberHealth): boolean {
  return health === 'healthy';
}

/** A member that was added has no name and no client URL before its etcd runs for the first time. */
export function hasStarted({ name, clientURLs }: Member): boolean {
  return name !== '' || clientURLs.length > 0;
}

const OLD_DATA =
  'Its etcd runs with data from before a restore: stop it, and put the restored data into the place of the old.';

/**
 * Asks every member of the cluster how it is: the list is the cluster's own, one reachable endpoint is enough to get it, and
 * no quorum is needed. Every question is bounded in time.
 * @throws EtcdError when no endpoint answers; UsageError when one belongs to another cluster, and is not in a member's place
 */
export async function surveyCluster(connections: Connections): Promise<ClusterHealth> {
  const answers = await askAll(connections.configured);
  const statuses = answers.flatMap(({ status }) => status ?? []);
  const failures = answers.flatMap(({ failure }) => failure ?? []);
  if (statuses.length === 0) throw noneCan('be reached', failures);
  const own = ofLargestCluster(statuses);
  const members = (await listFromNewest(own, connections)).toSorted((a, b) => a.name.localeCompare(b.name));
  const clusterId = own[0]?.clusterId ?? '';
  const probes = await Promise.all(members.map(async (member) => probeMember(member, clusterId, answers, connections)));
  // One that answers in the place of a member is a finding; one that has nothing to do with this cluster is a mistake.
  if (!probes.some(({ isForeign }) => isForeign === true)) assertOneCluster(statuses);
  return judge(probes);
}

/** @throws UsageError where no cluster has more of the members that answered than each of the others */
function ofLargestCluster(statuses: readonly MemberStatus[]): readonly MemberStatus[] {
  const clusters = [...Map.groupBy(statuses, ({ clusterId }) => clusterId).values()];
  const [first = [], second] = clusters.toSorted((a, b) => b.length - a.length);
  if (first.length === second?.length) assertOneCluster(statuses);
  return first;
}

/** Members that lag may have an old list; learners have none to give. */
async function listFromNewest(statuses: readonly MemberStatus[], connections: Connections): Promise<Member[]> {
  const failures: EtcdError[] = [];
  for (const status of statuses.toSorted((a, b) => b.raftAppliedIndex - a.raftAppliedIndex)) {
    try {
      return await listMembers(connections.to(status.endpoint), status);
    } catch (error) {
      if (!(error instanceof EtcdError)) throw error;
      failures.push(error);
    }
  }
  throw noneCan('list the members', failures);
}

async function probeMember(
  member: Member,
  clusterId: string,
  answers: readonly Answer[],
  connections: Connections,
): Promise<Probe> {
  const isItself = ({ status }: Answer): boolean => status?.memberId === member.id && status.clusterId === clusterId;
  const own = answers.some(isItself) ? answers : await askOwnUrls(member, answers, connections);
  const status = own.find(isItself)?.status;
  if (status !== undefined) return probeAnswering(member, status, connections);
  const tls = connections.configured[0]?.tls;
  const peers = await Promise.all(member.peerURLs.map(async (url) => ({ url, id: await clusterAtPeer(url, tls) })));
  const foreign = [
    ...own.map(({ connection, status: other }) => ({ url: connection.endpoint, id: other?.clusterId })),
    ...peers,
  ].filter(({ id }) => id !== undefined && id !== clusterId);
  const failures = [
    ...foreign.map(({ url, id }) => `A member of another cluster (${id}) answers at ${url}. ${OLD_DATA}`),
    ...own
      .filter(({ status: other }) => other === undefined || other.clusterId === clusterId)
      .map(({ connection, failure }) => failure?.message ?? `At ${connection.endpoint} another member answers.`),
  ];
  const signs = await Promise.all(member.peerURLs.map(acceptsConnections));
  return { member, status, failures, isAlive: signs.includes(true), isForeign: foreign.length > 0 };
}

/** What is not known yet from the configured endpoints. */
async function askOwnUrls(
  { clientURLs }: Member,
  known: readonly Answer[],
  connections: Connections,
): Promise<Answer[]> {
  const configured = known.filter(({ connection }) => clientURLs.includes(connection.endpoint));
  const others = clientURLs.filter((url) => !configured.some(({ connection }) => connection.endpoint === url));
  return [...configured, ...(await askAll(others.map((url) => connections.to(url))))];
}

/** A member without a leader cannot read through a majority, and a learner may not. */
async function probeAnswering(member: Member, status: MemberStatus, connections: Connections): Promise<Probe> {
  const failures: string[] = [];
  try {
    if (!member.isLearner && status.hasLeader) await proveQuorum(connections.to(status.endpoint));
  } catch (error) {
    if (!(error instanceof EtcdError)) throw error;
    failures.push(error.message);
  }
  return { member, status, failures, isAlive: true };
}

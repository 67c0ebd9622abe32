import { EtcdError } from '../errors.ts';
import { hasStarted, type Member, title } from '../member.ts';
import { afterColon, counted } from '../text.ts';
import type { Connection, Connections } from './connection.ts';
import type { MemberAlarm, MemberStatus } from './messages.ts';
import { acceptsConnections, clusterAtPeer } from './probes.ts';
import { type Answer, askAll, assertOneCluster, isCorrupt, LAG, noEndpointCan } from './select-member.ts';

/** What was found out about one member of the cluster's list. */
export interface Probe {
  readonly member: Member;
  /** Undefined if it answered at none of its URLs. */
  readonly status: MemberStatus | undefined;
  /** Why it did not answer, or could not read through a majority. */
  readonly failures: readonly string[];
  /** Whether something accepts connections at its peer URLs. */
  readonly isAlive: boolean;
  /** Whether a member of another cluster answers in its place, as one does that was started with data from before a restore. */
  readonly isForeign?: boolean;
}

export interface MemberHealth extends Member {
  /** `unhealthy`: it answers but has errors. */
  readonly health: 'healthy' | 'unhealthy' | 'unreachable';
  /** Why it is not healthy, each in a sentence or in etcd's words. */
  readonly errors: readonly string[];
  /** Undefined while it is unreachable. */
  readonly status: MemberStatus | undefined;
  /** Entries of the raft log that it lacks; undefined while it is unreachable. */
  readonly lag: number | undefined;
  readonly isAlive: boolean;
}

export interface ClusterHealth {
  readonly clusterId: string;
  readonly members: readonly MemberHealth[];
  readonly alarms: readonly MemberAlarm[];
  readonly quorum: Quorum;
}

const OLD_DATA =
  'Its etcd runs with data from before a restore: stop it, and replace its data directory with the restored one.';

/**
 * Asks every member of the cluster for its health. The list is the cluster's own: one reachable endpoint is enough, and no quorum
 * is needed. All requests have time limits.
 * @throws EtcdError if no endpoint answers; UsageError if one belongs to another cluster, and is not in a member's place
 */
export async function surveyCluster(connections: Connections): Promise<ClusterHealth> {
  const answers = await askAll(connections.configured);
  const statuses = answers.flatMap(({ status }) => status ?? []);
  if (statuses.length === 0) {
    throw noEndpointCan(
      'be reached',
      answers.flatMap(({ failure }) => failure ?? []),
    );
  }
  const own = ofLargestCluster(statuses);
  const members = (await listFromNewest(own, connections)).toSorted((a, b) => a.name.localeCompare(b.name));
  const clusterId = own[0]?.clusterId ?? '';
  const probes = await Promise.all(members.map(async (member) => probeMember(member, clusterId, answers, connections)));
  // A foreign member in the place of a member is reported; an endpoint of an unrelated cluster is a mistake.
  if (!probes.some(({ isForeign }) => isForeign === true)) assertOneCluster(statuses);
  return judge(probes);
}

/** @throws UsageError if no cluster has more answering members than each of the others */
function ofLargestCluster(statuses: readonly MemberStatus[]): readonly MemberStatus[] {
  const clusters = [...Map.groupBy(statuses, ({ clusterId }) => clusterId).values()];
  const [first = [], second] = clusters.toSorted((a, b) => b.length - a.length);
  if (first.length === second?.length) assertOneCluster(statuses);
  return first;
}

/** Members that lag may have an old list; learners refuse. */
async function listFromNewest(statuses: readonly MemberStatus[], connections: Connections): Promise<Member[]> {
  const failures: EtcdError[] = [];
  for (const status of statuses.toSorted((a, b) => b.raftAppliedIndex - a.raftAppliedIndex)) {
    try {
      return await connections.to(status.endpoint).listMembers(status);
    } catch (error) {
      if (!(error instanceof EtcdError)) throw error;
      failures.push(error);
    }
  }
  throw noEndpointCan('list the members', failures);
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
  if (status !== undefined) {
    return { member, status, failures: await quorumFailures(member, status, connections), isAlive: true };
  }
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
      .map(({ connection, failure }) => failure?.message ?? `Another member answers at ${connection.endpoint}.`),
  ];
  const accepts = await Promise.all(member.peerURLs.map(acceptsConnections));
  return { member, status, failures, isAlive: accepts.includes(true), isForeign: foreign.length > 0 };
}

/** The answers at a member's own URLs; those of configured endpoints are known already. */
async function askOwnUrls(
  { clientURLs }: Member,
  known: readonly Answer[],
  connections: Connections,
): Promise<Answer[]> {
  const configured = known.filter(({ connection }) => clientURLs.includes(connection.endpoint));
  const others = clientURLs.filter((url) => !configured.some(({ connection }) => connection.endpoint === url));
  return [...configured, ...(await askAll(others.map((url) => connections.to(url))))];
}

/** Why a member cannot read through a majority. A learner is not asked, nor is a member without a leader: both cannot. */
async function quorumFailures(member: Member, status: MemberStatus, connections: Connections): Promise<string[]> {
  if (member.isLearner || !status.hasLeader) return [];
  try {
    await proveQuorum(connections.to(status.endpoint));
    return [];
  } catch (error) {
    if (error instanceof EtcdError) return [error.message];
    throw error;
  }
}

/** The health of a cluster, from its members' answers. At least one of them must have answered. */
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
      ...(isAlive ? ['Its peer URL still accepts connections.'] : []),
    ];
    return { ...member, health: 'unreachable', errors, status, lag: undefined, isAlive };
  }
  const lag = Math.max(0, newest - status.raftAppliedIndex);
  const errors = [
    ...status.errors,
    ...failures,
    ...(isCorrupt(status) ? ['It has the alarm CORRUPT.'] : []),
    // A voting member that answers a linearizable read has caught up, whatever its status said.
    ...(member.isLearner && lag > LAG ? [`It lags ${lag} entries behind.`] : []),
  ];
  return { ...member, health: errors.length === 0 ? 'healthy' : 'unhealthy', errors, status, lag, isAlive: true };
}

export function isHealthy({ health }: MemberHealth): boolean {
  return health === 'healthy';
}

/** A sentence for each member that is not healthy, and for each alarm. */
export function problemsOf({ members, alarms }: ClusterHealth): { what: 'member' | 'alarm'; sentence: string }[] {
  const ill = members.filter((member) => !isHealthy(member));
  return [
    ...ill.map((member) => {
      const sentence = `Member ${title(member)} is ${member.health}: ${afterColon(member.errors.join(' '))}`;
      return { what: 'member' as const, sentence };
    }),
    ...alarms.map(({ memberId, alarm }) => {
      return { what: 'alarm' as const, sentence: `Member ${memberId} has the alarm ${alarm}.` };
    }),
  ];
}

/** The arithmetic of a majority. Learners have no vote and do not count in it. */
interface Quorum {
  readonly voters: number;
  /** Voters that answered through a majority. */
  readonly healthy: number;
  /** How many voters must agree. */
  readonly needed: number;
}

export function quorumOf(voters: number, healthy: number): Quorum {
  return { voters, healthy, needed: Math.floor(voters / 2) + 1 };
}

/** The fault tolerance: how many more failures the cluster tolerates; negative if fewer than a majority are known to be healthy. */
export function spareOf({ healthy, needed }: Quorum): number {
  return healthy - needed;
}

/** Whether the cluster works: one member that read through a majority proves it, even if the others cannot be reached. */
export function hasQuorum({ healthy }: Quorum): boolean {
  return healthy > 0;
}

/** Such as `3 members, 2 healthy, quorum 2`. */
export function arithmetic({ voters, healthy, needed }: Quorum): string {
  return `${counted(voters, 'member')}, ${healthy} healthy, quorum ${needed}`;
}

/** The arithmetic and its consequence, such as `3 members, 2 healthy, quorum 2: one more failure stops the cluster`. */
export function quorumInWords(quorum: Quorum): string {
  return `${arithmetic(quorum)}: ${consequence(quorum)}`;
}

function consequence(quorum: Quorum): string {
  const spare = spareOf(quorum);
  const more = quorum.healthy === quorum.voters ? '' : ' more';
  if (!hasQuorum(quorum))
    return `quorum is lost, ${counted(-spare, 'member')} must come back before the cluster works again`;
  if (spare < 0) return 'the cluster works, but too few of its members can be reached from here';
  if (spare === 0) return `one${more} failure stops the cluster`;
  return `the cluster tolerates ${spare}${more} ${spare === 1 ? 'failure' : 'failures'}`;
}

/** Errors of a member that were decided through quorum: it checks users, and a password, after that. */
const THROUGH_QUORUM = /permission denied|user name is empty|invalid user ID or password|corrupt cluster/;

/**
 * Reads a key linearizably, as `etcdctl endpoint health` does: only a member that a majority confirms can answer.
 * @throws EtcdError if it cannot
 */
export async function proveQuorum(connection: Connection): Promise<void> {
  try {
    await connection.range({ key: Buffer.from('health'), count_only: true });
  } catch (error) {
    if (error instanceof EtcdError && THROUGH_QUORUM.test(String(error.cause))) return;
    throw error;
  }
}

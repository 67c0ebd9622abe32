import { EtcdError } from '../errors.ts';
import { type Answer, askAll, demandOneCluster, noneCan } from '../etcd/ask.ts';
import type { Connections } from '../etcd/connect.ts';
import type { MemberStatus } from '../etcd/connection.ts';
import { listMembers } from '../etcd/membership.ts';
import { acceptsConnections, proveQuorum } from '../etcd/probes.ts';
import type { Member } from '../snapshot/content.ts';
import { type ClusterHealth, judge, type Probe } from './health.ts';

/**
 * Asks every member of the cluster how it is: the list is the cluster's own, one reachable endpoint is enough to get it, and
 * no quorum is needed. Every question is bounded in time.
 * @throws EtcdError when no endpoint answers; UsageError when they belong to different clusters
 */
export async function surveyCluster(connections: Connections): Promise<ClusterHealth> {
  const answers = await askAll(connections.configured);
  const statuses = answers.flatMap(({ status }) => status ?? []);
  const failures = answers.flatMap(({ failure }) => failure ?? []);
  if (statuses.length === 0) throw noneCan('be reached', failures);
  demandOneCluster(statuses);
  const members = (await listFromNewest(statuses, connections)).toSorted((a, b) => a.name.localeCompare(b.name));
  return judge(await Promise.all(members.map(async (member) => probe(member, answers, connections))));
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

async function probe(member: Member, answers: readonly Answer[], connections: Connections): Promise<Probe> {
  const isItself = ({ status }: Answer): boolean => status?.memberId === member.id;
  const own = answers.some(isItself) ? answers : await askOwnUrls(member, answers, connections);
  const status = own.find(isItself)?.status;
  if (status !== undefined) return probeAnswering(member, status, connections);
  const failures = own.map(({ connection, failure }) =>
    failure === undefined ? `At ${connection.endpoint} another member answers.` : failure.message,
  );
  const signs = await Promise.all(member.peerURLs.map(acceptsConnections));
  return { member, status, failures, isAlive: signs.includes(true) };
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

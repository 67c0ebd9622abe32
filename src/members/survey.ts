import { EtcdError } from '../errors.ts';
import { type Answer, askAll, demandOneCluster, noneCan } from '../etcd/ask.ts';
import type { Connections } from '../etcd/connect.ts';
import type { MemberStatus } from '../etcd/connection.ts';
import { listMembers } from '../etcd/membership.ts';
import { acceptsConnections, clusterAtPeer, proveQuorum } from '../etcd/probes.ts';
import type { Member } from '../snapshot/content.ts';
import { type ClusterHealth, judge, type Probe } from './health.ts';

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
  const probes = await Promise.all(members.map(async (member) => probe(member, clusterId, answers, connections)));
  // One that answers in the place of a member is a finding; one that has nothing to do with this cluster is a mistake.
  if (!probes.some(({ isForeign }) => isForeign === true)) demandOneCluster(statuses);
  return judge(probes);
}

/** @throws UsageError where no cluster has more of the members that answered than each of the others */
function ofLargestCluster(statuses: readonly MemberStatus[]): readonly MemberStatus[] {
  const clusters = [...Map.groupBy(statuses, ({ clusterId }) => clusterId).values()];
  const [first = [], second] = clusters.toSorted((a, b) => b.length - a.length);
  if (first.length === second?.length) demandOneCluster(statuses);
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

async function probe(
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

import { EtcdError, UnsafeError } from '../errors.ts';
import type { Connections } from '../etcd/connect.ts';
import type { Connection } from '../etcd/connection.ts';
import { addMember, promoteMember, removeMember } from '../etcd/membership.ts';
import { type ClusterHealth, isHealthy } from './health.ts';
import type { Step } from './replacement.ts';
import type { Replacement } from './request.ts';

/** What etcd says to a change that it may take a little later, or may even have made: the next look at the cluster tells. */
const NOT_YET =
  /unhealthy cluster|in sync with leader|re-configuration failed|too many learner|DEADLINE_EXCEEDED|UNAVAILABLE/;

/**
 * Makes one change of the members.
 * @returns the error where etcd does not take the change yet; undefined when it was made
 * @throws EtcdError
 */
export async function makeChange(
  step: Step,
  cluster: ClusterHealth,
  { peerURLs, asVoter }: Replacement,
  connections: Connections,
): Promise<EtcdError | undefined> {
  const connection = bestConnection(cluster, connections);
  try {
    if (step.kind === 'remove') await removeMember(connection, step.member.id);
    if (step.kind === 'add') await addMember(connection, peerURLs, !asVoter);
    if (step.kind === 'promote') await promoteMember(connection, step.member.id);
    return undefined;
  } catch (error) {
    if (error instanceof EtcdError && NOT_YET.test(String(error.cause))) return error;
    throw error;
  }
}

/** To the leader, which all changes go through, or to another healthy voting member. */
export function bestConnection({ members }: ClusterHealth, connections: Connections): Connection {
  const voters = members
    .filter((member) => isHealthy(member) && !member.isLearner)
    .flatMap(({ status }) => status ?? []);
  const best = voters.find(({ isLeader }) => isLeader) ?? voters[0];
  if (best === undefined) throw new UnsafeError('No voting member is healthy.', 'See `etcd-snapshot health`.');
  return connections.to(best.endpoint);
}

import { EtcdError, UsageError } from '../errors.ts';
import type { Log } from '../log.ts';
import type { Connection, MemberStatus } from './connection.ts';

/** A member that can be the source of a snapshot. */
export interface Candidate {
  readonly connection: Connection;
  readonly status: MemberStatus;
}

/**
 * Asks all endpoints at once and returns those that can be a source, the best first.
 * @throws EtcdError when none can, with the reason of each; UsageError when they belong to different clusters
 */
export async function chooseMembers(connections: readonly Connection[], log: Log): Promise<Candidate[]> {
  const answers = await Promise.allSettled(connections.map((connection) => connection.status()));
  const candidates: Candidate[] = [];
  const failures: EtcdError[] = [];
  for (const [index, connection] of connections.entries()) {
    const answer = answers[index];
    if (answer?.status === 'fulfilled') {
      log.debug('a member answered', { ...answer.value });
      if (answer.value.isLearner) failures.push(passedOver(connection, 'it is a learner'));
      else candidates.push({ connection, status: answer.value });
    } else if (answer?.reason instanceof EtcdError) failures.push(answer.reason);
    else throw answer?.reason;
  }
  for (const failure of failures) log.warn(failure.message, { hint: failure.hint });
  demandOneCluster(candidates);
  if (candidates.length === 0) throw noneUsable(failures);
  return candidates.toSorted((a, b) => preference(a.status) - preference(b.status));
}

/** Lower is better: a follower carries less load than the leader; a member that sees no leader may lag behind the others. */
export function preference({ hasLeader, isLeader }: MemberStatus): number {
  if (!hasLeader) return 2;
  return isLeader ? 1 : 0;
}

function passedOver({ endpoint }: Connection, why: string): EtcdError {
  return new EtcdError(`etcd at ${endpoint} cannot be the source: ${why}.`, 'Name the endpoints of voting members.');
}

function demandOneCluster(candidates: readonly Candidate[]): void {
  const [first, ...others] = candidates;
  const foreign = others.find(({ status }) => status.clusterId !== first?.status.clusterId);
  if (first === undefined || foreign === undefined) return;
  throw new UsageError(
    `SNAPSHOT_ETCD_ENDPOINTS names two clusters: ${first.status.endpoint} belongs to ${first.status.clusterId}, ` +
      `${foreign.status.endpoint} to ${foreign.status.clusterId}.`,
    'Name the members of one cluster only.',
  );
}

function noneUsable(failures: readonly EtcdError[]): EtcdError {
  const [first, ...others] = failures;
  if (first !== undefined && others.length === 0) return first;
  return new EtcdError(
    `None of the ${failures.length} endpoints can be the source: ${failures.map(({ message }) => message).join(' ')}`,
    first?.hint ?? 'Check SNAPSHOT_ETCD_ENDPOINTS.',
    first,
  );
}

import type { MemberAlarm, MemberStatus } from '../etcd/connection.ts';
import { isCorrupt, LAG } from '../etcd/rank.ts';
import type { Member } from '../snapshot/content.ts';
import { type Quorum, quorumOf } from './quorum.ts';

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

import type { MemberStatus } from './connection.ts';

/** Entries of the raft log by which a member may be behind; under load some are always on the way. */
export const LAG = 1000;

/** How a member stands as a source, the best first. */
export const STANDINGS = ['follower', 'leader', 'last resort', 'unfit'] as const;

export interface Ranked {
  readonly status: MemberStatus;
  readonly standing: (typeof STANDINGS)[number];
  /** Why it stands so, in words that follow "it". */
  readonly reason: string;
}

/**
 * Puts members in the order in which they are tried as a source. A follower carries less load than the leader. Members that
 * may hold less than the others, or damaged data, are a last resort: an old snapshot is better than none, as without quorum.
 * A learner is never a source: etcd 3.4 refuses it, and it may lack most of the data.
 */
export function rankMembers(statuses: readonly MemberStatus[]): Ranked[] {
  const newest = Math.max(...statuses.map(({ raftAppliedIndex }) => raftAppliedIndex));
  const isLed = statuses.some(({ hasLeader }) => hasLeader);
  const ranked = statuses.map((status) => ({ status, ...stand(status, newest, isLed) }));
  // Sorting is stable: members of one standing keep the order in which they were configured.
  return ranked.toSorted((a, b) => STANDINGS.indexOf(a.standing) - STANDINGS.indexOf(b.standing));
}

function stand(status: MemberStatus, newest: number, isLed: boolean): Pick<Ranked, 'standing' | 'reason'> {
  if (status.isLearner) return { standing: 'unfit', reason: 'is a learner' };
  if (isCorrupt(status)) return { standing: 'last resort', reason: 'has the alarm CORRUPT' };
  const behind = Math.max(newest, status.raftIndex) - status.raftAppliedIndex;
  if (behind > LAG) return { standing: 'last resort', reason: `lags ${behind} entries behind` };
  if (!status.hasLeader && isLed) return { standing: 'last resort', reason: 'is cut off from the leader' };
  if (!status.hasLeader) return { standing: 'follower', reason: 'is a member of a cluster without a leader' };
  return status.isLeader
    ? { standing: 'leader', reason: 'is the leader' }
    : { standing: 'follower', reason: 'is a healthy follower' };
}

/** Whether the cluster found this member's data to differ from the others'. */
export function isCorrupt({ memberId, alarms }: MemberStatus): boolean {
  return alarms.some((alarm) => alarm.memberId === memberId && alarm.alarm === 'CORRUPT');
}

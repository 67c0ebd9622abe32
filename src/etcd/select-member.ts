import { EtcdError, UsageError } from '../errors.ts';
import type { Log, Warnings } from '../log.ts';
import { afterColon } from '../text.ts';
import type { Connection } from './connection.ts';
import type { MemberStatus } from './messages.ts';

/** A member that can serve a snapshot. */
export interface Candidate extends RankedMember {
  readonly connection: Connection;
}

interface Choice {
  /** The best first; never empty. Several may be the same member: see `onePerMember`. */
  readonly candidates: readonly Candidate[];
  /** The rank of each endpoint, with the reason, as the JSON result has it. */
  readonly ranks: readonly object[];
}

/**
 * Asks all endpoints at the same time and ranks those that can serve a snapshot.
 * @throws EtcdError if none can, with the reason of each; UsageError if they belong to different clusters
 */
export async function chooseMembers(connections: readonly Connection[], log: Log, warnings: Warnings): Promise<Choice> {
  const answers = await askAll(connections);
  const statuses = answers.flatMap(({ status }) => status ?? []);
  assertOneCluster(statuses);
  const ranked = rankMembers(statuses);
  const candidates = ranked.flatMap((member) => {
    const answer = answers.find(({ status }) => status === member.status);
    return answer === undefined || member.rank === 'unfit' ? [] : [{ connection: answer.connection, ...member }];
  });
  const unfit = ranked.filter(({ rank }) => rank === 'unfit');
  const failures = [
    ...answers.flatMap(({ failure }) => failure ?? []),
    ...unfit.map(({ status, reason }) => {
      const message = `etcd at ${status.endpoint} cannot serve a snapshot: it ${reason}.`;
      return new EtcdError(message, 'Set SNAPSHOT_ETCD_ENDPOINTS to voting members.');
    }),
  ];
  for (const { status, rank, reason } of ranked) log.debug(`member ${reason}`, { ...status, rank });
  if (candidates.length === 0) throw noEndpointCan('serve a snapshot', failures);
  for (const { message, hint } of failures) log.warn(message, { hint });
  warnAboutCluster(statuses, warnings);
  const ranks = [
    ...ranked.map(({ status: { endpoint, memberId }, rank: standing, reason }) => {
      return { endpoint, memberId, standing, reason };
    }),
    ...answers.flatMap(({ connection: { endpoint }, failure }) => {
      if (failure === undefined) return [];
      return { endpoint, memberId: null, standing: 'unreachable', reason: failure.message };
    }),
  ];
  return { candidates, ranks };
}

const RANKS = ['follower', 'leader', 'fallback', 'unfit'] as const;
type Rank = (typeof RANKS)[number];

interface RankedMember {
  readonly status: MemberStatus;
  readonly rank: Rank;
  /** Completes "it …". */
  readonly reason: string;
}

/** Entries of the raft log by which a healthy member can lag; under load some are always in flight. */
export const LAG = 1000;

/**
 * The order in which members are tried. A follower carries less load than the leader. Members that may have less data than the
 * others, or corrupt data, are a fallback: an old snapshot is better than none. A learner never serves a snapshot: etcd 3.4
 * refuses, and a learner may lack most of the data. Members of one rank keep the order of the configuration.
 */
export function rankMembers(statuses: readonly MemberStatus[]): RankedMember[] {
  const newest = Math.max(...statuses.map(({ raftAppliedIndex }) => raftAppliedIndex));
  const hasLeader = statuses.some((status) => status.hasLeader);
  return statuses
    .map((status) => ({ status, ...rankOf(status, newest, hasLeader) }))
    .toSorted((a, b) => RANKS.indexOf(a.rank) - RANKS.indexOf(b.rank));
}

function rankOf(status: MemberStatus, newest: number, clusterHasLeader: boolean): Omit<RankedMember, 'status'> {
  if (status.isLearner) return { rank: 'unfit', reason: 'is a learner' };
  if (isCorrupt(status)) return { rank: 'fallback', reason: 'has the alarm CORRUPT' };
  const lag = Math.max(newest, status.raftIndex) - status.raftAppliedIndex;
  if (lag > LAG) return { rank: 'fallback', reason: `lags ${lag} entries behind` };
  if (!status.hasLeader && clusterHasLeader) return { rank: 'fallback', reason: 'is cut off from the leader' };
  if (!status.hasLeader) return { rank: 'follower', reason: 'is a member of a cluster without a leader' };
  return status.isLeader
    ? { rank: 'leader', reason: 'is the leader' }
    : { rank: 'follower', reason: 'is a healthy follower' };
}

/** Whether the cluster found this member's data to differ from the others'. */
export function isCorrupt({ memberId, alarms }: MemberStatus): boolean {
  return alarms.some((alarm) => alarm.memberId === memberId && alarm.alarm === 'CORRUPT');
}

/** A member with several endpoints is asked at the first of them, and has one vote. */
export function onePerMember(candidates: readonly Candidate[], log: Log): Candidate[] {
  const byMember = Map.groupBy(candidates, ({ status }) => status.memberId);
  return [...byMember].flatMap(([memberId, [first, ...others]]) => {
    const unused = others.map(({ status }) => status.endpoint);
    if (unused.length > 0) log.info('several endpoints belong to one member', { memberId, unused });
    return first ?? [];
  });
}

function warnAboutCluster(statuses: readonly MemberStatus[], warnings: Warnings): void {
  if (!statuses.some(({ hasLeader }) => hasLeader)) {
    warnings.add(
      'The cluster has no leader: the snapshot has the last state that one member knows, and can be out of date.',
    );
  }
  const alarms = statuses.flatMap((status) => status.alarms);
  const sentences = alarms.map(({ memberId, alarm }) => `Member ${memberId} has the alarm ${alarm}.`);
  for (const sentence of new Set(sentences)) warnings.add(sentence);
}

/** A member's status, or why there is none. */
export interface Answer {
  readonly connection: Connection;
  readonly status?: MemberStatus;
  readonly failure?: EtcdError;
}

/** Asks all members for their status at the same time. */
export async function askAll(connections: readonly Connection[]): Promise<Answer[]> {
  return Promise.all(
    connections.map(async (connection) => {
      try {
        return { connection, status: await connection.status() };
      } catch (error) {
        if (error instanceof EtcdError) return { connection, failure: error };
        throw error;
      }
    }),
  );
}

/** @throws UsageError if the endpoints belong to different clusters */
export function assertOneCluster(statuses: readonly MemberStatus[]): void {
  const [first, ...others] = statuses;
  const foreign = others.find(({ clusterId }) => clusterId !== first?.clusterId);
  if (first === undefined || foreign === undefined) return;
  throw new UsageError(
    `SNAPSHOT_ETCD_ENDPOINTS has members of two clusters: ${first.endpoint} belongs to ${first.clusterId}, ` +
      `${foreign.endpoint} to ${foreign.clusterId}.`,
    'Set SNAPSHOT_ETCD_ENDPOINTS to the members of one cluster. After a restore, run `etcd-snapshot health` to find the member that runs with its old data.',
  );
}

/** The error of several endpoints together, with the reason of each. @param what completes "No endpoint can …" */
export function noEndpointCan(what: string, failures: readonly EtcdError[]): EtcdError {
  const [first, ...others] = failures;
  if (first !== undefined && others.length === 0) return first;
  return new EtcdError(
    `No endpoint can ${what}: ${afterColon(failures.map(({ message }) => message).join(' '))}`,
    first === undefined ? 'Check SNAPSHOT_ETCD_ENDPOINTS.' : [...new Set(failures.map(({ hint }) => hint))].join(' '),
    first,
  );
}

import { EtcdError, UsageError } from '../errors.ts';
import type { Log, Warnings } from '../log.ts';
import type { Connection, MemberStatus } from './connection.ts';

/** What a member said when it was asked for its status, or why it did not. */
export interface Answer {
  readonly connection: Connection;
  readonly status?: MemberStatus;
  readonly failure?: EtcdError;
}

/** Asks all at once. */
export async function askAll(connections: readonly Connection[]): Promise<Answer[]> {
  return Promise.all(connections.map(ask));
}

async function ask(connection: Connection): Promise<Answer> {
  try {
    return { connection, status: await connection.status() };
  } catch (error) {
    if (error instanceof EtcdError) return { connection, failure: error };
    throw error;
  }
}

/** @throws UsageError when the endpoints belong to different clusters */
export function assertOneCluster(statuses: readonly MemberStatus[]): void {
  const [first, ...others] = statuses;
  const foreign = others.find(({ clusterId }) => clusterId !== first?.clusterId);
  if (first === undefined || foreign === undefined) return;
  throw new UsageError(
    `SNAPSHOT_ETCD_ENDPOINTS names two clusters: ${first.endpoint} belongs to ${first.clusterId}, ` +
      `${foreign.endpoint} to ${foreign.clusterId}.`,
    'Name the members of one cluster only. After a restore: one of them was started with its old data (`etcd-snapshot health`).',
  );
}

/** The error for endpoints of which none will do, with the reason of each. @param what they cannot do, after "can" */
export function noneCan(what: string, failures: readonly EtcdError[]): EtcdError {
  const [first, ...others] = failures;
  if (first !== undefined && others.length === 0) return first;
  return new EtcdError(
    `None of the ${failures.length} endpoints can ${what}: ${failures.map(({ message }) => message).join(' ')}`,
    first?.hint ?? 'Check SNAPSHOT_ETCD_ENDPOINTS.',
    first,
  );
}

/** Entries of the raft log by which a member may be behind; under load some are always on the way. */
export const LAG = 1000;

/** How a member stands as a source, the best first. */
const RANKS = ['follower', 'leader', 'last resort', 'unfit'] as const;

interface Ranked {
  readonly status: MemberStatus;
  readonly standing: (typeof RANKS)[number];
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
  return ranked.toSorted((a, b) => RANKS.indexOf(a.standing) - RANKS.indexOf(b.standing));
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

/** A member that can be the source of a snapshot. */
export interface Candidate extends Ranked {
  readonly connection: Connection;
}

interface Choice {
  /** The best first; never empty. Several may be one member: see `onePerMember`. */
  readonly candidates: readonly Candidate[];
  /** How each endpoint stands, with the reason, for the result. */
  readonly standings: readonly Rank[];
}

interface Rank {
  readonly endpoint: string;
  readonly memberId: string | null;
  readonly standing: Ranked['standing'] | 'unreachable';
  readonly reason: string;
}

/**
 * Asks all endpoints at once and puts those that can be a source in order, the best first.
 * @throws EtcdError when none can, with the reason of each; UsageError when they belong to different clusters
 */
export async function chooseMembers(connections: readonly Connection[], log: Log, findings: Warnings): Promise<Choice> {
  const answers = await askAll(connections);
  const byStatus = new Map(
    answers.flatMap(({ connection, status }) => (status === undefined ? [] : [[status, connection]])),
  );
  const statuses = [...byStatus.keys()];
  assertOneCluster(statuses);
  const ranked = rankMembers(statuses);
  const failures = [
    ...answers.flatMap(({ failure }) => failure ?? []),
    ...ranked.filter(({ standing }) => standing === 'unfit').map(passedOver),
  ];
  for (const { message, hint } of failures) log.warn(message, { hint });
  for (const { status, standing, reason } of ranked) log.debug(`a member ${reason}`, { ...status, standing });
  const candidates = ranked.flatMap((member) => {
    const connection = byStatus.get(member.status);
    return connection === undefined || member.standing === 'unfit' ? [] : [{ connection, ...member }];
  });
  if (candidates.length === 0) throw noneCan('be the source', failures);
  const standings = [
    ...ranked.map(({ status: { endpoint, memberId }, standing, reason }) => ({ endpoint, memberId, standing, reason })),
    ...answers.flatMap(({ connection: { endpoint }, failure }) =>
      failure === undefined
        ? []
        : [{ endpoint, memberId: null, standing: 'unreachable' as const, reason: failure.message }],
    ),
  ];
  reportCluster(statuses, findings);
  return { candidates, standings };
}

/** A member that has several endpoints is asked at the first of them, and has one vote. */
export function onePerMember(candidates: readonly Candidate[], log: Log): Candidate[] {
  const byMember = Map.groupBy(candidates, ({ status }) => status.memberId);
  return [...byMember].flatMap(([memberId, [first, ...others]]) => {
    const endpoints = others.map(({ status }) => status.endpoint);
    if (endpoints.length > 0) log.info('several endpoints lead to one member', { memberId, unused: endpoints });
    return first ?? [];
  });
}

function reportCluster(statuses: readonly MemberStatus[], findings: Warnings): void {
  if (!statuses.some(({ hasLeader }) => hasLeader)) {
    findings.add('The cluster has no leader: the snapshot is what one member knew last.');
  }
  const alarms = statuses.flatMap(({ alarms: known }) =>
    known.map(({ memberId, alarm }) => `${memberId} has the alarm ${alarm}`),
  );
  for (const alarm of new Set(alarms)) findings.add(`Member ${alarm}.`);
}

function passedOver({ status: { endpoint }, reason }: Ranked): EtcdError {
  return new EtcdError(
    `etcd at ${endpoint} cannot be the source: it ${reason}.`,
    'Name the endpoints of voting members.',
  );
}

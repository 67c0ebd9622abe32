import { EtcdError } from '../errors.ts';
import type { Findings } from '../findings.ts';
import type { Log } from '../log.ts';
import { askAll, demandOneCluster, noneCan } from './ask.ts';
import type { Connection, MemberStatus } from './connection.ts';
import { type Ranked, rankMembers } from './rank.ts';

/** A member that can be the source of a snapshot. */
export interface Candidate extends Ranked {
  readonly connection: Connection;
}

export interface Choice {
  /** The best first; never empty. Several may be one member: see `onePerMember`. */
  readonly candidates: readonly Candidate[];
  /** How each endpoint stands, with the reason, for the result. */
  readonly standings: readonly Standing[];
}

export interface Standing {
  readonly endpoint: string;
  readonly memberId: string | null;
  readonly standing: Ranked['standing'] | 'unreachable';
  readonly reason: string;
}

/**
 * Asks all endpoints at once and puts those that can be a source in order, the best first.
 * @throws EtcdError when none can, with the reason of each; UsageError when they belong to different clusters
 */
export async function chooseMembers(connections: readonly Connection[], log: Log, findings: Findings): Promise<Choice> {
  const answers = await askAll(connections);
  const byStatus = new Map(
    answers.flatMap(({ connection, status }) => (status === undefined ? [] : [[status, connection]])),
  );
  const statuses = [...byStatus.keys()];
  demandOneCluster(statuses);
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
  tellOfCluster(statuses, findings);
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

function tellOfCluster(statuses: readonly MemberStatus[], findings: Findings): void {
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

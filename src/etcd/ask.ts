import { EtcdError, UsageError } from '../errors.ts';
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
export function demandOneCluster(statuses: readonly MemberStatus[]): void {
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

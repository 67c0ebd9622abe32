import { setTimeout as sleep } from 'node:timers/promises';
import type { EtcdConfig } from '../config.ts';
import { EtcdError, UnsafeError, UsageError } from '../errors.ts';
import { connectAll } from '../etcd/connect.ts';
import type { Connection } from '../etcd/connection.ts';
import { proveQuorum } from '../etcd/probes.ts';
import type { Findings } from '../findings.ts';

/** How long an election may take: while there is one, no member sees a leader. */
const ELECTION_MS = 10_000;
const PAUSE_MS = 500;

/** What one endpoint said when it was asked whether the cluster works. */
type Answer =
  | { readonly quorum: 'yes' }
  /** `member` tells members apart that have several endpoints. */
  | { readonly quorum: 'no'; readonly member: string }
  | { readonly quorum: 'unknown'; readonly failure: EtcdError };

/**
 * Refuses to restore over a cluster that works, or of which that is not known, where its endpoints are configured.
 * @throws UnsafeError; UsageError for certificate files that cannot be used
 */
export async function demandNoQuorum(
  config: EtcdConfig | undefined,
  findings: Findings,
  electionMs = ELECTION_MS,
): Promise<void> {
  if (config === undefined) {
    findings.add('SNAPSHOT_ETCD_ENDPOINTS is not set, so nobody asked whether the cluster still has its quorum.');
    return;
  }
  const connections = await connectAll(config, new Date(), findings).catch((error: unknown) => {
    throw error instanceof UsageError ? withForce(error) : error;
  });
  const answers = await Promise.all(connections.configured.map((each) => askForQuorum(each, electionMs))).finally(() =>
    connections.close(),
  );
  if (answers.some(({ quorum }) => quorum === 'yes')) {
    throw new UnsafeError(
      'The cluster has its quorum: a restore would throw away everything that was written since the snapshot.',
      'Replace members that failed with `etcd-snapshot replace-member`. To go back in time on purpose, give --force.',
    );
  }
  const failures = answers.flatMap((answer) => (answer.quorum === 'unknown' ? [answer.failure] : []));
  const without = new Set(answers.flatMap((answer) => (answer.quorum === 'no' ? [answer.member] : [])));
  if (canBeQuorum(failures.length, without.size)) {
    throw new UnsafeError(
      `It is not known whether the cluster has its quorum: ${failures.map(({ message }) => message).join(' ')}`,
      `${failures[0]?.hint ?? ''} If you are sure that the cluster is lost, give --force.`.trim(),
    );
  }
  for (const { message } of failures) findings.add(message);
}

/** Whether those that nobody knows anything of could be a majority. */
function canBeQuorum(unknown: number, without: number): boolean {
  return unknown > (unknown + without) / 2;
}

async function askForQuorum(connection: Connection, electionMs: number): Promise<Answer> {
  for (const start = performance.now(); ; await sleep(PAUSE_MS)) {
    try {
      await proveQuorum(connection);
      return { quorum: 'yes' };
    } catch (failure) {
      if (!(failure instanceof EtcdError)) throw failure;
      const cause = String(failure.cause);
      const refusedBy = /ECONNREFUSED(?: (\S+))?/.exec(cause);
      if (refusedBy !== null) return { quorum: 'no', member: refusedBy[1] ?? connection.endpoint };
      const hasNoLeader = /etcdserver: no leader/.test(cause);
      const mayPass = hasNoLeader || /request timed out|DEADLINE_EXCEEDED/.test(cause);
      if (mayPass && performance.now() - start < electionMs) continue;
      return hasNoLeader ? { quorum: 'no', member: await idOf(connection) } : { quorum: 'unknown', failure };
    }
  }
}

/** Where a member does not say who it is, it counts as the same one as every other such. */
async function idOf(connection: Connection): Promise<string> {
  return connection.status().then(
    ({ memberId }) => memberId,
    () => 'nobody knows which',
  );
}

function withForce({ message, hint, cause }: UsageError): UsageError {
  return new UsageError(message, `${hint} To restore without asking the old cluster, give --force.`, cause);
}

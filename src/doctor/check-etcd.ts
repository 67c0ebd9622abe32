import type { EtcdConfig } from '../config/config.ts';
import { UnsafeError } from '../errors.ts';
import {
  type ClusterHealth,
  hasQuorum,
  type MemberHealth,
  problemsOf,
  quorumInWords,
  spareOf,
  surveyCluster,
} from '../etcd/cluster-health.ts';
import { connectAll, type Connections } from '../etcd/connection.ts';
import type { MemberStatus } from '../etcd/messages.ts';
import { aheadOf } from '../etcd/probes.ts';
import { type Answer, askAll } from '../etcd/select-member.ts';
import { expiriesOf, loadTls, RENEW_HINT } from '../etcd/tls.ts';
import { type Log, Warnings } from '../log.ts';
import { hasStarted, title } from '../member.ts';
import { humanSize, printable } from '../text.ts';
import { sameUrls } from '../url.ts';
import { judgeClock } from './check-host.ts';
import { type Check, fail, ok, tried, warn } from './check.ts';

/** etcd's default; members before 3.6 do not say which quota they have. */
const DEFAULT_QUOTA = 2 * 1024 ** 3;

/** A larger share of the quota is a warning. */
const FULL = 0.8;

interface EtcdFindings {
  readonly checks: readonly Check[];
  /** Of the members that answered. */
  readonly statuses: readonly MemberStatus[];
}

/** Certificates, endpoints, members, quorum, alarms, size and clock of a cluster. */
export async function checkEtcd(config: EtcdConfig, now: Date, log: Log): Promise<EtcdFindings> {
  const certificates = await tried('certificates', async () => checkCertificates(config, now));
  if (certificates.some(({ state }) => state === 'fail')) return { checks: certificates, statuses: [] };
  // Its warnings are among the checks already.
  const connections = await connectAll(config, now, new Warnings(log));
  const answers = await askAll(connections.configured);
  const statuses = answers.flatMap(({ status }) => status ?? []);
  const endpoints = answers.map(({ status, failure }) =>
    status === undefined && failure !== undefined
      ? fail('endpoint', failure)
      : ok('endpoint', `${status?.endpoint} runs etcd ${status?.version}, and is ${roleOf(status)}.`),
  );
  if (statuses.length === 0) return { checks: [...certificates, ...endpoints], statuses };
  const checks = [
    ...certificates,
    ...endpoints,
    ...(await tried('quorum', async () => {
      const cluster = await surveyCluster(connections);
      return [...judgeCluster(cluster), ...judgeEndpoints(answers, cluster)];
    })),
    ...(await tried('database', async () => checkSize(statuses, connections))),
    ...(await tried('clock', async () => checkClock(statuses, connections))),
  ];
  return { checks, statuses };
}

async function checkCertificates({ tls }: EtcdConfig, now: Date): Promise<Check[]> {
  const what = 'certificates';
  if (tls === undefined) {
    const hint = 'Use https:// endpoints: a snapshot contains every Secret of the cluster.';
    return [warn(what, 'The connection to etcd has no TLS.', hint)];
  }
  return expiriesOf(await loadTls(tls, now), now).map(({ sentence, isSoon }) =>
    isSoon ? warn(what, sentence, RENEW_HINT) : ok(what, sentence),
  );
}

function roleOf(status: MemberStatus | undefined): string {
  if (status?.isLearner === true) return 'a learner';
  return status?.isLeader === true ? 'the leader' : 'a follower';
}

function judgeCluster(cluster: ClusterHealth): Check[] {
  const words = `${quorumInWords(cluster.quorum)}.`;
  const hints = {
    member: 'Run `etcd-snapshot health`; replace a permanently lost member with `etcd-snapshot replace-member`.',
    alarm: 'Remove its cause, then run: etcdctl alarm disarm.',
  };
  const isSafe = hasQuorum(cluster.quorum) && spareOf(cluster.quorum) >= 0;
  return [
    isSafe ? ok('quorum', words) : fail('quorum', new UnsafeError(words, hints.member)),
    ...problemsOf(cluster).map(({ what, sentence }) => fail(what, new UnsafeError(sentence, hints[what]))),
  ];
}

/** Whether each endpoint belongs to a member, and each voting member has one: the list is easily forgotten when members change. */
function judgeEndpoints(answers: readonly Answer[], { clusterId, members }: ClusterHealth): Check[] {
  const listed = new Set<string>();
  const strangers: Check[] = [];
  for (const { connection, status } of answers) {
    const { endpoint } = connection;
    const isItself = (member: MemberHealth): boolean =>
      status === undefined
        ? member.clientURLs.some((url) => sameUrls([url], [endpoint]))
        : member.id === status.memberId && clusterId === status.clusterId;
    const member = members.find(isItself);
    if (member !== undefined) listed.add(member.id);
    else {
      const what = status === undefined ? 'does not answer, and belongs to' : 'answers, but belongs to';
      const hint = 'If that member was replaced, remove the endpoint from SNAPSHOT_ETCD_ENDPOINTS and stop its etcd.';
      strangers.push(warn('endpoint', `${endpoint} ${what} no member of the cluster.`, hint));
    }
  }
  const missing = members.filter((member) => !listed.has(member.id) && !member.isLearner && hasStarted(member));
  return [
    ...strangers,
    ...missing.map((member) => {
      const sentence = `Member ${title(member)} is missing from SNAPSHOT_ETCD_ENDPOINTS.`;
      const hint = `Add ${printable(member.clientURLs.join(' or '))}: a backup chooses among the members that are listed, and compares them.`;
      return warn('endpoint', sentence, hint);
    }),
  ];
}

async function checkSize(statuses: readonly MemberStatus[], connections: Connections): Promise<Check> {
  const [largest] = statuses.toSorted((a, b) => b.dbSize - a.dbSize);
  if (largest === undefined) throw new Error('no member answered');
  const { dbSize, dbSizeInUse, endpoint } = largest;
  const known = await connections.to(endpoint).quota();
  const quota = known ?? DEFAULT_QUOTA;
  const of = known === undefined ? `the default quota of ${humanSize(quota)}` : `a quota of ${humanSize(quota)}`;
  const sentence = `The database takes ${humanSize(dbSize)} of ${of}; ${humanSize(dbSizeInUse)} of it is in use.`;
  return dbSize < quota * FULL
    ? ok('database', sentence)
    : warn('database', sentence, 'Compact, defragment one member after the other, or raise --quota-backend-bytes.');
}

async function checkClock(statuses: readonly MemberStatus[], connections: Connections): Promise<Check[]> {
  return Promise.all(
    statuses.map(async ({ endpoint }) => {
      const aheadMs = await aheadOf(endpoint, connections.to(endpoint).tls);
      return aheadMs === undefined
        ? ok('clock', `The clock of ${endpoint} cannot be compared: the endpoint serves gRPC only.`)
        : judgeClock(endpoint, aheadMs);
    }),
  );
}

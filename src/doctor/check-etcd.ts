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
import { expiriesOf, loadTls, RENEW_HINT, unusedFiles } from '../etcd/tls.ts';
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
export async function checkEtcd(config: EtcdConfig, now: Date): Promise<EtcdFindings> {
  const certificates = await tried('certificates', async () => checkCertificates(config, now));
  if (certificates.some(({ state }) => state === 'fail')) return { checks: certificates, statuses: [] };
  // Its warnings about certificates are among the checks already.
  const connections = await connectAll(config, now);
  const answers = await askAll(connections.configured);
  const statuses = answers.flatMap(({ status }) => status ?? []);
  if (statuses.length === 0) return { checks: [...certificates, ...judgeEndpoints(answers, undefined)], statuses };
  const known: { cluster?: ClusterHealth } = {};
  const quorum = await tried('quorum', async () => {
    known.cluster = await surveyCluster(connections);
    return [...judgeCluster(known.cluster), ...missingEndpoints(answers, known.cluster)];
  });
  const checks = [
    ...certificates,
    ...judgeEndpoints(answers, known.cluster),
    ...quorum,
    ...(await tried('database', async () => checkSize(statuses, connections))),
    ...(await tried('clock', async () => checkClock(statuses, connections))),
  ];
  return { checks, statuses };
}

async function checkCertificates(config: EtcdConfig, now: Date): Promise<Check[]> {
  const what = 'certificates';
  const unused = unusedFiles(config).map(([sentence, hint]) => warn(what, sentence, hint));
  if (config.tls === undefined) {
    const hint = 'Use https:// endpoints: a snapshot contains every Secret of the cluster.';
    return [warn(what, 'The connection to etcd has no TLS.', hint), ...unused];
  }
  const expiries = expiriesOf(await loadTls(config.tls, now), now).map(({ sentence, isSoon }) =>
    isSoon ? warn(what, sentence, RENEW_HINT) : ok(what, sentence),
  );
  return [...expiries, ...unused];
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

/** Whether each endpoint answers, and belongs to a member. @param cluster undefined = unknown */
function judgeEndpoints(answers: readonly Answer[], cluster: ClusterHealth | undefined): Check[] {
  const hint = 'If that member was replaced, remove the endpoint from SNAPSHOT_ETCD_ENDPOINTS and stop its etcd.';
  return answers.flatMap((answer) => {
    const { status, failure } = answer;
    const isStranger = cluster !== undefined && memberOf(answer, cluster) === undefined;
    if (failure !== undefined) {
      const check = fail('endpoint', failure);
      if (!isStranger) return check;
      return { ...check, finding: `${check.finding} It belongs to no member of the cluster.`, hint };
    }
    const runs = ok('endpoint', `${status?.endpoint} runs etcd ${status?.version}, and is ${roleOf(status)}.`);
    if (!isStranger) return runs;
    return [runs, warn('endpoint', `${status?.endpoint} belongs to no member of the cluster.`, hint)];
  });
}

/** Voting members without an endpoint: the list is easily forgotten when members change. */
function missingEndpoints(answers: readonly Answer[], cluster: ClusterHealth): Check[] {
  const listed = new Set(answers.map((answer) => memberOf(answer, cluster)));
  const missing = cluster.members.filter((member) => !listed.has(member) && !member.isLearner && hasStarted(member));
  return missing.map((member) => {
    const sentence = `Member ${title(member)} is missing from SNAPSHOT_ETCD_ENDPOINTS.`;
    const hint = `Add ${printable(member.clientURLs.join(' or '))}: a backup chooses among the members that are listed, and compares them.`;
    return warn('endpoint', sentence, hint);
  });
}

/** The member that an endpoint belongs to. */
function memberOf({ connection, status }: Answer, { clusterId, members }: ClusterHealth): MemberHealth | undefined {
  return members.find(({ id, clientURLs }) =>
    status === undefined
      ? clientURLs.some((url) => sameUrls([url], [connection.endpoint]))
      : id === status.memberId && clusterId === status.clusterId,
  );
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
    : warn(
        'database',
        sentence,
        'Compact the keyspace, defragment the members one at a time, or raise --quota-backend-bytes.',
      );
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

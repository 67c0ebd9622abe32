import { EtcdError, messageOf, RunTimeout, WorkerError } from '../errors.ts';
import { excerpt } from '../text.ts';

type Row = readonly [pattern: RegExp, why: string, hint: string];

/** By the text of a gRPC error: why there is no connection, and what to do. The first row that fits counts. */
const CONNECTION_ERRORS: readonly Row[] = [
  [/ECONNREFUSED/, 'connection refused', 'Check that etcd runs there, and that the port is its client port (2379).'],
  [/ENOTFOUND|EAI_AGAIN|Name resolution/, 'host name cannot be resolved', 'Check SNAPSHOT_ETCD_ENDPOINTS and DNS.'],
  [
    /EHOSTUNREACH|ENETUNREACH/,
    'no route to host',
    'Run the worker where it can reach the members (hostNetwork on a control-plane node).',
  ],
  [
    /altnames|ERR_TLS_CERT_ALTNAME/,
    'its certificate is for another host name',
    'Use a host name or an address that its certificate contains.',
  ],
  [/certificate has expired|CERT_HAS_EXPIRED/, 'its certificate has expired', "Renew etcd's server certificate."],
  [
    /self.signed|unable to (get|verify)|issuer|signature failure/i,
    'its certificate was not signed by the given CA',
    "Set SNAPSHOT_ETCD_CA_FILE to the CA that signed etcd's server certificate.",
  ],
  [
    /wrong version number|packet length|Protocol error|preface|HTTP\/1/i,
    'it does not speak the expected protocol',
    'Check https:// or http:// in SNAPSHOT_ETCD_ENDPOINTS, and that the port is the client port (2379).',
  ],
  [
    /alert|bad certificate|certificate required|unknown ca|EPROTO/i,
    'it refused the TLS connection or the client certificate',
    'Set SNAPSHOT_ETCD_CERT_FILE and _KEY_FILE to a client certificate signed by the CA that etcd trusts (--trusted-ca-file).',
  ],
];

/** Why a call failed, and what to do. */
const CALL_ERRORS: readonly Row[] = [
  [
    /user name is empty/,
    'authentication is enabled and no user is set',
    'Set SNAPSHOT_ETCD_USERNAME and _PASSWORD (sent only to configured endpoints, or over https), or use a client certificate whose common name is a user with the role root.',
  ],
  [/permission denied/i, 'the user lacks the role root', 'Grant the role root: etcdctl user grant-role USER root.'],
  [
    /invalid user ID or password/,
    'it refused the user name or the password',
    'Check SNAPSHOT_ETCD_USERNAME and SNAPSHOT_ETCD_PASSWORD.',
  ],
  [
    /invalid auth token/,
    'it refused a token that it had just issued',
    'Check the clocks and the health of the members.',
  ],
  [
    /rpc not supported for learner/,
    'it is a learner, which does not serve this request',
    'Set SNAPSHOT_ETCD_ENDPOINTS to voting members.',
  ],
  [
    /etcdserver: (no leader|request timed out)/,
    'the cluster did not commit the request in time',
    'Run `etcd-snapshot health` to see whether a majority of the members works.',
  ],
  [
    /unhealthy cluster/,
    'it was not connected to all voting members throughout the last five seconds',
    'Run the command again when all are connected (`etcd-snapshot health`): only then does etcd change its members.',
  ],
  [
    /DEADLINE_EXCEEDED|Deadline/,
    'it did not answer in time',
    'Check the load of that member, and the firewalls on the path to it.',
  ],
  [
    /ECONNRESET|socket hang up|Connection dropped|RST_STREAM|UNAVAILABLE|CANCELLED/,
    'the connection broke',
    'Check whether etcd is restarting there and, with https, whether it accepts the client certificate.',
  ],
];

/** Turns what the etcd client threw into our error; errors of our own pass through. */
export function etcdError(endpoint: string, error: unknown): WorkerError {
  if (error instanceof WorkerError) return error;
  if (error instanceof RunTimeout) {
    return new EtcdError(
      `${error.message} while waiting for etcd at ${endpoint}.`,
      'If the member is slow or the database is large, raise SNAPSHOT_TIMEOUT and the deadlines of pod and Job.',
      error,
    );
  }
  const text = messageOf(error);
  const fits = ([pattern]: Row): boolean => pattern.test(text);
  const noConnection = CONNECTION_ERRORS.find(fits);
  if (noConnection !== undefined) {
    const [, why, hint] = noConnection;
    return new EtcdError(`Cannot connect to etcd at ${endpoint}: ${why}.`, hint, error);
  }
  const [, why, hint] = CALL_ERRORS.find(fits) ?? [/./, excerpt(text), 'Check the log of that member.'];
  return new EtcdError(`etcd at ${endpoint} failed: ${why}.`, hint, error);
}

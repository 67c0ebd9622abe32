import { EtcdError, messageOf, RunTimeout, WorkerError } from '../errors.ts';
import { excerpt } from '../text.ts';
import { speaksHttp, speaksTls } from './probes.ts';

type Row = readonly [pattern: RegExp, why: string, hint: string];

/** By the text of a gRPC error: why there is no connection, and what to do. The first row that fits counts. */
const CONNECTION_ERRORS: readonly Row[] = [
  [/ECONNREFUSED/, 'connection refused', 'Is etcd running there, and is the port its client port?'],
  [/ENOTFOUND|EAI_AGAIN|Name resolution/, 'host name cannot be resolved', 'Check SNAPSHOT_ETCD_ENDPOINTS and DNS.'],
  [
    /EHOSTUNREACH|ENETUNREACH/,
    'no route to host',
    'Run where the members can be reached (hostNetwork on a control-plane node).',
  ],
  [
    /altnames|ERR_TLS_CERT_ALTNAME/,
    'its certificate is for another host name',
    'Use an endpoint that its certificate names.',
  ],
  [/certificate has expired|CERT_HAS_EXPIRED/, 'its certificate has expired', "Renew etcd's server certificate."],
  [
    /self.signed|unable to (get|verify)|issuer|signature failure/i,
    'its certificate was not signed by the given CA',
    "SNAPSHOT_ETCD_CA_FILE must name the CA that signed etcd's server certificate.",
  ],
  [
    /wrong version number|packet length|Protocol error|preface|HTTP\/1/i,
    'it does not speak the expected protocol',
    'Check https:// or http:// in SNAPSHOT_ETCD_ENDPOINTS, and that the port is the client port (2379).',
  ],
  [
    /alert|bad certificate|certificate required|unknown ca|EPROTO/i,
    'it refused the TLS connection or our client certificate',
    'SNAPSHOT_ETCD_CERT_FILE and _KEY_FILE must be a client certificate signed by the CA that etcd trusts (--trusted-ca-file).',
  ],
];

/** Why a call failed, and what to do. */
const CALL_ERRORS: readonly Row[] = [
  [
    /user name is empty/,
    'authentication is on and no user was named',
    'Set SNAPSHOT_ETCD_USERNAME and _PASSWORD, which are sent to endpoints that are named and to https only, or use a client certificate whose common name is a user with the role root.',
  ],
  [/permission denied/i, 'the user lacks the role root', 'Grant the role root: etcdctl user grant-role USER root.'],
  [
    /invalid user ID or password/,
    'it refused the user name or the password',
    'Check SNAPSHOT_ETCD_USERNAME and SNAPSHOT_ETCD_PASSWORD.',
  ],
  [/invalid auth token/, 'it refused its own new token', 'Check the clocks and the health of the members.'],
  [
    /rpc not supported for learner/,
    'it is a learner, which answers few questions',
    'Name the endpoints of voting members.',
  ],
  [
    /etcdserver: (no leader|request timed out)/,
    'the cluster did not agree in time',
    'Does a majority of the members work? See `etcd-snapshot health`.',
  ],
  [
    /unhealthy cluster/,
    'it has not been connected to all voting members for five seconds',
    'etcd changes its members only when all of them are: see `etcd-snapshot health`, and run again.',
  ],
  [/DEADLINE_EXCEEDED|Deadline/, 'it did not answer in time', 'Is the member overloaded, or is there a firewall?'],
  [
    /ECONNRESET|socket hang up|Connection dropped|RST_STREAM|UNAVAILABLE|CANCELLED/,
    'the connection broke',
    'Is etcd restarting there? With https, does etcd accept the client certificate?',
  ],
];

/** Turns what the etcd client threw into our error; errors of our own pass through. */
export function etcdError(endpoint: string, error: unknown): WorkerError {
  if (error instanceof WorkerError) return error;
  if (error instanceof RunTimeout) {
    return new EtcdError(
      `${error.message} while waiting for etcd at ${endpoint}.`,
      'Is the member slow? Raise SNAPSHOT_TIMEOUT (and the Job deadline above it) for a large database.',
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
  const [, why, hint] = CALL_ERRORS.find(fits) ?? [/./, excerpt(text), 'Look into the log of that member.'];
  return new EtcdError(`etcd at ${endpoint} failed: ${why}.`, hint, error);
}

/** Texts of gRPC if the other side speaks another protocol, or closes the connection at once. */
const MAY_BE_PROTOCOL =
  /Failed to connect|disconnected before secure|wrong version|Protocol error|Connection dropped|ECONNRESET|socket hang up|EPROTO/;

/** The error for a server that speaks TLS although its endpoint has http, or the other way round; undefined if it does not. */
export async function wrongProtocol(endpoint: string, error: unknown): Promise<EtcdError | undefined> {
  if (!MAY_BE_PROTOCOL.test(messageOf(error)) || !/^https?:/.test(endpoint)) return undefined;
  const isHttp = endpoint.startsWith('http:');
  if (!(await (isHttp ? speaksTls(endpoint) : speaksHttp(endpoint)))) return undefined;
  return new EtcdError(
    `etcd at ${endpoint} failed: the server seems to expect ${isHttp ? 'https' : 'http, without TLS'}.`,
    isHttp
      ? 'Write https:// in SNAPSHOT_ETCD_ENDPOINTS, and name the certificates (SNAPSHOT_ETCD_CA_FILE, _CERT_FILE and _KEY_FILE).'
      : 'Write http:// in SNAPSHOT_ETCD_ENDPOINTS; better, give etcd a certificate.',
    error,
  );
}

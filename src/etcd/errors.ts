import { connect } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { EtcdError, messageOf, RunTimeout, WorkerError } from '../errors.ts';
import { excerpt } from '../text.ts';

/** How long a server may take to show what it speaks. */
const PROBE_MS = 2_000;

/** What gRPC says when the other side spoke another protocol, or hung up at once. */
const SUSPICIOUS =
  /Failed to connect|disconnected before secure|wrong version|Protocol error|Connection dropped|EPROTO/;

/**
 * The error for an endpoint whose server speaks TLS where it is named with http, or the other way round; undefined where that
 * is not what is wrong. Nothing secret is sent.
 */
export async function wrongProtocol(endpoint: string, error: unknown): Promise<EtcdError | undefined> {
  if (!SUSPICIOUS.test(messageOf(error)) || !/^https?:/.test(endpoint)) return undefined;
  const { protocol, hostname, port } = new URL(endpoint);
  const host = hostname.replace(/^\[|\]$/g, '');
  const isPlain = protocol === 'http:';
  // The URL class drops a port that is its protocol's own.
  const at = { host, port: Number(port || (isPlain ? 80 : 443)) };
  if (!(await (isPlain ? speaksTls(at) : speaksHttp(at)))) return undefined;
  const expected = isPlain ? 'https' : 'http, without TLS';
  return new EtcdError(
    `etcd at ${endpoint} failed: the server seems to expect ${expected}.`,
    isPlain
      ? 'Write https:// in SNAPSHOT_ETCD_ENDPOINTS, and name the certificates (SNAPSHOT_ETCD_CA_FILE, _CERT_FILE and _KEY_FILE).'
      : 'Write http:// in SNAPSHOT_ETCD_ENDPOINTS; better, give etcd a certificate.',
    error,
  );
}

interface Address {
  readonly host: string;
  readonly port: number;
}

async function speaksTls(at: Address): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connectTls({ ...at, rejectUnauthorized: false, timeout: PROBE_MS });
    const end = (speaks: boolean): void => {
      socket.destroy();
      resolve(speaks);
    };
    socket.once('secureConnect', () => end(true)).once('timeout', () => end(false));
    // It may demand a certificate of ours before anything else.
    socket.once('error', ({ message }) => end(/alert/i.test(message)));
  });
}

async function speaksHttp(at: Address): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ ...at, timeout: PROBE_MS });
    const end = (speaks: boolean): void => {
      socket.destroy();
      resolve(speaks);
    };
    socket.once('connect', () => socket.write('GET /version HTTP/1.0\r\n\r\n'));
    socket.once('data', (bytes: Buffer) => end(bytes.toString('latin1').startsWith('HTTP/1.')));
    socket.once('error', () => end(false)).once('timeout', () => end(false));
    socket.once('end', () => end(false));
  });
}

/** What stands in a gRPC error's text, what it means, and what to do. The first that fits is taken. */
const MEANINGS: readonly (readonly [pattern: RegExp, why: string, hint: string])[] = [
  [/ECONNREFUSED/, 'the connection was refused', 'Is etcd running there, and is the port its client port?'],
  [/ENOTFOUND|EAI_AGAIN|Name resolution/, 'its host name cannot be resolved', 'Check SNAPSHOT_ETCD_ENDPOINTS and DNS.'],
  [
    /EHOSTUNREACH|ENETUNREACH/,
    'there is no route to it',
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
  [
    /user name is empty/,
    'authentication is on and no user was named',
    'Set SNAPSHOT_ETCD_USERNAME and _PASSWORD, which go to endpoints that are named and to https only, or use a client certificate whose common name is a user with the role root.',
  ],
  [/permission denied/i, 'the user lacks the role root', 'Only the role root may: etcdctl user grant-role USER root.'],
  [
    /invalid user ID or password/,
    'it refused the user name or the password',
    'Check SNAPSHOT_ETCD_USERNAME and SNAPSHOT_ETCD_PASSWORD.',
  ],
  [/invalid auth token/, 'it refused a token that it had just given', 'Are the clocks and the members in order?'],
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
  [/DEADLINE_EXCEEDED|Deadline/, 'it did not answer in time', 'Is the member overloaded, or a firewall in between?'],
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
  const [, why, hint] = MEANINGS.find(([pattern]) => pattern.test(text)) ?? [
    /./,
    excerpt(text),
    'Look into the log of that member.',
  ];
  return new EtcdError(`etcd at ${endpoint} failed: ${why}.`, hint, error);
}

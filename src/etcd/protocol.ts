import { connect } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { EtcdError, messageOf } from '../errors.ts';

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

import { once } from 'node:events';
import { get as getHttp, type IncomingMessage } from 'node:http';
import { get as getHttps } from 'node:https';
import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { EtcdError, messageOf } from '../errors.ts';
import { addressOf } from '../url.ts';
import { etcdError } from './errors.ts';
import type { TlsCredentials } from './tls.ts';

// What can be learnt from a member's address by other means than gRPC. Nothing secret is sent.

/** Milliseconds for a connection. */
const CONNECT_MS = 5_000;

/** Milliseconds in which a server shows its protocol. */
const PROTOCOL_MS = 2_000;

/** Whether something accepts connections at the address of a URL: a sign of life if etcd itself does not answer. */
export async function acceptsConnections(url: string): Promise<boolean> {
  const failure = await failureOf(connect(addressOf(url)), 'connect', CONNECT_MS);
  return failure === undefined;
}

/** Texts of gRPC if the other side speaks another protocol, or closes the connection immediately. */
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
      ? 'Write https:// in SNAPSHOT_ETCD_ENDPOINTS, and set SNAPSHOT_ETCD_CA_FILE, _CERT_FILE and _KEY_FILE.'
      : 'Write http:// in SNAPSHOT_ETCD_ENDPOINTS; preferably configure TLS in etcd.',
    error,
  );
}

async function speaksTls(url: string): Promise<boolean> {
  const socket = connectTls({ ...addressOf(url), rejectUnauthorized: false });
  const failure = await failureOf(socket, 'secureConnect', PROTOCOL_MS);
  // It may require a certificate of ours first.
  return failure === undefined || /alert/i.test(failure);
}

async function speaksHttp(url: string): Promise<boolean> {
  const socket = connect({ ...addressOf(url), signal: AbortSignal.timeout(PROTOCOL_MS) });
  socket.write('GET /version HTTP/1.0\r\n\r\n');
  try {
    for await (const bytes of socket) return String(bytes).startsWith('HTTP/1.');
  } catch {
    // It closed the connection, or did not answer.
  }
  return false;
}

/** Why the event did not come in time; undefined if it did. */
async function failureOf(socket: Socket, event: string, ms: number): Promise<string | undefined> {
  try {
    await once(socket, event, { signal: AbortSignal.timeout(ms) });
    return undefined;
  } catch (error) {
    return messageOf(error);
  } finally {
    socket.destroy();
  }
}

/** The answer to a GET request; its body is not read. */
async function getHeaders(url: string, tls: TlsCredentials | undefined, ms: number): Promise<IncomingMessage> {
  const signal = AbortSignal.timeout(ms);
  const call = url.startsWith('https:') ? getHttps(url, { ...tls, signal }) : getHttp(url, { signal });
  const [answer] = (await once(call, 'response')) as [IncomingMessage];
  answer.destroy();
  return answer;
}

/**
 * The id of the cluster of the member that answers at a peer URL, in lower-case hex; undefined if none answers, or not with our
 * certificate.
 */
export async function clusterAtPeer(url: string, tls: TlsCredentials | undefined): Promise<string | undefined> {
  try {
    const id = (await getHeaders(`${url}/members`, tls, CONNECT_MS)).headers['x-etcd-cluster-id'];
    return typeof id === 'string' && /^[0-9a-f]{1,16}$/.test(id) ? id : undefined;
  } catch {
    return undefined;
  }
}

/** Node's codes if a gRPC server answers HTTP/1 in its own way, or closes the TLS connection. */
const NOT_HTTP = new Set<unknown>(['HPE_INVALID_CONSTANT', 'ECONNRESET']);

/**
 * Milliseconds by which the clock of this host is ahead of the member's, to a second; negative = behind. gRPC has no time, but an
 * answer to plain HTTP has a date. Undefined if etcd serves HTTP elsewhere (`--listen-client-http-urls`, which k3s sets).
 * @throws EtcdError
 */
export async function aheadOf(endpoint: string, tls: TlsCredentials | undefined): Promise<number | undefined> {
  try {
    const { headers } = await getHeaders(`${endpoint}/version`, tls, CONNECT_MS);
    // Dates are cut to seconds, so half a second is the best guess.
    const ahead = Date.now() - Date.parse(headers.date ?? '') - 500;
    return Number.isNaN(ahead) ? undefined : ahead;
  } catch (error) {
    if (error instanceof Error && 'code' in error && NOT_HTTP.has(error.code)) return undefined;
    throw etcdError(endpoint, error);
  }
}

import { once } from 'node:events';
import { get as getHttp, type IncomingMessage } from 'node:http';
import { get as getHttps } from 'node:https';
import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { messageOf } from '../errors.ts';
import { addressOf } from '../url.ts';
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

export async function speaksTls(url: string): Promise<boolean> {
  const socket = connectTls({ ...addressOf(url), rejectUnauthorized: false });
  const failure = await failureOf(socket, 'secureConnect', PROTOCOL_MS);
  // It may require a certificate of ours first.
  return failure === undefined || /alert/i.test(failure);
}

export async function speaksHttp(url: string): Promise<boolean> {
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
export async function getHeaders(url: string, tls: TlsCredentials | undefined, ms: number): Promise<IncomingMessage> {
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

import { once } from 'node:events';
import { get as getHttp, type IncomingMessage } from 'node:http';
import { get as getHttps } from 'node:https';
import { connect } from 'node:net';
import { EtcdError } from '../errors.ts';
import { ANSWER_MS, type Connection } from './connection.ts';
import { etcdError } from './errors.ts';
import type { TlsCredentials } from './tls.ts';

/** The arithmetic of a majority. Learners have no vote and do not count in it. */
export interface Quorum {
  readonly voters: number;
  /** Voters that were asked and proved to work with a majority. */
  readonly healthy: number;
  /** How many voters must agree on everything. */
  readonly needed: number;
}

export function quorumOf(voters: number, healthy: number): Quorum {
  return { voters, healthy, needed: Math.floor(voters / 2) + 1 };
}

/** How many more failures are survived; negative when fewer than a majority are known to be healthy. */
export function spareOf({ healthy, needed }: Quorum): number {
  return healthy - needed;
}

/** Whether the cluster works: one member that read through a majority proves it, even where the others cannot be asked. */
export function hasQuorum({ healthy }: Quorum): boolean {
  return healthy > 0;
}

/** Such as `3 members, 2 healthy, quorum 2`. */
export function arithmetic({ voters, healthy, needed }: Quorum): string {
  return `${plural(voters, 'member')}, ${healthy} healthy, quorum ${needed}`;
}

/** The arithmetic and what follows from it, such as `3 members, 2 healthy, quorum 2: one more failure stops the cluster`. */
export function quorumInWords(quorum: Quorum): string {
  return `${arithmetic(quorum)}: ${consequence(quorum)}`;
}

function consequence(quorum: Quorum): string {
  const spare = spareOf(quorum);
  const more = quorum.healthy === quorum.voters ? '' : ' more';
  if (!hasQuorum(quorum))
    return `quorum is lost, ${plural(-spare, 'member')} must come back before the cluster works again`;
  if (spare < 0) return 'the cluster works, but too few of its members can be asked from here';
  if (spare === 0) return `one${more} failure stops the cluster`;
  return `the cluster survives ${spare}${more} ${spare === 1 ? 'failure' : 'failures'}`;
}

function plural(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}

/** Answers of a member that went through quorum all the same: it looks at the user, and at a password, afterwards. */
const PROOFS = /permission denied|user name is empty|invalid user ID or password|corrupt cluster/;

/** What Node says when a server of gRPC answers HTTP/1 in its own way, or hangs up on it over TLS. */
const NOT_HTTP = new Set<unknown>(['HPE_INVALID_CONSTANT', 'ECONNRESET']);

/**
 * Reads a key the linearizable way, as `etcdctl endpoint health` does: only a member that a majority confirms can answer.
 * @throws EtcdError when it cannot
 */
export async function proveQuorum(connection: Connection): Promise<void> {
  try {
    const request = { key: Buffer.from('health'), count_only: true };
    await connection.range(request);
  } catch (error) {
    if (error instanceof EtcdError && PROOFS.test(String(error.cause))) return;
    throw error;
  }
}

/** Whether something takes connections at the host and port of a URL: a sign of life where etcd itself does not answer. */
export async function acceptsConnections(url: string): Promise<boolean> {
  const { protocol, hostname, port } = new URL(url);
  return new Promise((resolve) => {
    const host = hostname.replace(/^\[|\]$/g, '');
    // The URL class drops a port that is its protocol's own.
    const socket = connect({ host, port: Number(port || (protocol === 'https:' ? 443 : 80)), timeout: ANSWER_MS });
    const end = (accepts: boolean) => (): void => {
      socket.destroy();
      resolve(accepts);
    };
    socket.once('connect', end(true)).once('error', end(false)).once('timeout', end(false));
  });
}

/**
 * The id of the cluster to which the member belongs that answers at a peer URL, in lower-case hex; undefined where none answers,
 * or not to our certificate.
 */
export async function clusterAtPeer(url: string, tls: TlsCredentials | undefined): Promise<string | undefined> {
  const signal = AbortSignal.timeout(ANSWER_MS);
  try {
    const path = `${url}/members`;
    const call = url.startsWith('https:') ? getHttps(path, { ...tls, signal }) : getHttp(path, { signal });
    const [answer] = (await once(call, 'response')) as [IncomingMessage];
    answer.destroy();
    const id = answer.headers['x-etcd-cluster-id'];
    return typeof id === 'string' && /^[0-9a-f]{1,16}$/.test(id) ? id : undefined;
  } catch {
    return undefined;
  }
}

/**
 * By how many milliseconds the clock of this host is before the member's, to a second; negative = behind. gRPC tells no time,
 * but what a member answers to plain HTTP has a date. Undefined where it serves HTTP elsewhere (`--listen-client-http-urls`,
 * which k3s sets).
 * @throws EtcdError
 */
export async function aheadOf({ endpoint, tls }: Connection): Promise<number | undefined> {
  const signal = AbortSignal.timeout(ANSWER_MS);
  try {
    const call = endpoint.startsWith('https:')
      ? getHttps(`${endpoint}/version`, { ...tls, signal })
      : getHttp(`${endpoint}/version`, { signal });
    const [answer] = (await once(call, 'response')) as [IncomingMessage];
    answer.resume();
    const now = Date.now();
    const date = Date.parse(answer.headers.date ?? '');
    // Dates are cut to seconds, so half a second is the best guess.
    return Number.isNaN(date) ? undefined : now - date - 500;
  } catch (error) {
    if (error instanceof Error && 'code' in error && NOT_HTTP.has(error.code)) return undefined;
    throw etcdError(endpoint, error);
  }
}

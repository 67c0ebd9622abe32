import { EtcdError } from '../errors.ts';
import { ANSWER_MS, type Connection } from './connection.ts';
import { etcdError } from './errors.ts';
import { counted } from '../text.ts';
import { getHeaders } from './probes.ts';

/** The arithmetic of a majority. Learners have no vote and do not count in it. */
export interface Quorum {
  readonly voters: number;
  /** Voters that answered through a majority. */
  readonly healthy: number;
  /** How many voters must agree. */
  readonly needed: number;
}

export function quorumOf(voters: number, healthy: number): Quorum {
  return { voters, healthy, needed: Math.floor(voters / 2) + 1 };
}

/** The fault tolerance: how many more failures the cluster survives; negative if fewer than a majority are known to be healthy. */
export function spareOf({ healthy, needed }: Quorum): number {
  return healthy - needed;
}

/** Whether the cluster works: one member that read through a majority proves it, even if the others cannot be reached. */
export function hasQuorum({ healthy }: Quorum): boolean {
  return healthy > 0;
}

/** Such as `3 members, 2 healthy, quorum 2`. */
export function arithmetic({ voters, healthy, needed }: Quorum): string {
  return `${counted(voters, 'member')}, ${healthy} healthy, quorum ${needed}`;
}

/** The arithmetic and its consequence, such as `3 members, 2 healthy, quorum 2: one more failure stops the cluster`. */
export function quorumInWords(quorum: Quorum): string {
  return `${arithmetic(quorum)}: ${consequence(quorum)}`;
}

function consequence(quorum: Quorum): string {
  const spare = spareOf(quorum);
  const more = quorum.healthy === quorum.voters ? '' : ' more';
  if (!hasQuorum(quorum))
    return `quorum is lost, ${counted(-spare, 'member')} must come back before the cluster works again`;
  if (spare < 0) return 'the cluster works, but too few of its members can be reached from here';
  if (spare === 0) return `one${more} failure stops the cluster`;
  return `the cluster survives ${spare}${more} ${spare === 1 ? 'failure' : 'failures'}`;
}

/** Errors of a member that were decided through quorum: it checks users, and a password, after that. */
const THROUGH_QUORUM = /permission denied|user name is empty|invalid user ID or password|corrupt cluster/;

/**
 * Reads a key linearizably, as `etcdctl endpoint health` does: only a member that a majority confirms can answer.
 * @throws EtcdError if it cannot
 */
export async function proveQuorum(connection: Connection): Promise<void> {
  try {
    await connection.range({ key: Buffer.from('health'), count_only: true });
  } catch (error) {
    if (error instanceof EtcdError && THROUGH_QUORUM.test(String(error.cause))) return;
    throw error;
  }
}

/** Node's codes if a gRPC server answers HTTP/1 in its own way, or closes the TLS connection. */
const NOT_HTTP = new Set<unknown>(['HPE_INVALID_CONSTANT', 'ECONNRESET']);

/**
 * Milliseconds by which the clock of this host is ahead of the member's, to a second; negative = behind. gRPC has no time, but an
 * answer to plain HTTP has a date. Undefined if etcd serves HTTP elsewhere (`--listen-client-http-urls`, which k3s sets).
 * @throws EtcdError
 */
export async function aheadOf({ endpoint, tls }: Connection): Promise<number | undefined> {
  try {
    const { headers } = await getHeaders(`${endpoint}/version`, tls, ANSWER_MS);
    // Dates are cut to seconds, so half a second is the best guess.
    const ahead = Date.now() - Date.parse(headers.date ?? '') - 500;
    return Number.isNaN(ahead) ? undefined : ahead;
  } catch (error) {
    if (error instanceof Error && 'code' in error && NOT_HTTP.has(error.code)) return undefined;
    throw etcdError(endpoint, error);
  }
}

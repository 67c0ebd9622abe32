import { connect } from 'node:net';
import { EtcdError } from '../errors.ts';
import { ANSWER_MS, type Connection } from './connection.ts';

/** Answers of a member that went through quorum all the same: it looks at the user afterwards. */
const PROOFS = /permission denied|user name is empty|corrupt cluster/;

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

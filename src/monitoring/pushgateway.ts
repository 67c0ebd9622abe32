import { Agent as PlainAgent } from 'node:http';
import { Agent as TlsAgent } from 'node:https';
import { exposition, type Sample } from './metrics.ts';
import { send } from './send.ts';

/**
 * Pushes samples into the group of this cluster. By POST, which leaves the metrics of all other names as they are; PUT would
 * empty the group first. A Pushgateway stands in the cluster, so no proxy is on the way.
 * @param base its URL, perhaps with a path, a user and a password
 * @returns why it failed; undefined = it did not
 */
export async function push(
  base: URL,
  cluster: string,
  samples: readonly Sample[],
  signal: AbortSignal,
): Promise<string | undefined> {
  const { protocol, host, pathname, username, password } = base;
  const url = new URL(`${protocol}//${host}${pathname.replace(/\/$/, '')}${groupPath(cluster)}`);
  return send(url, {
    method: 'POST',
    headers: {
      'content-type': 'text/plain; version=0.0.4; charset=utf-8',
      ...(username && { authorization: basicAuthorization(username, password) }),
    },
    body: exposition(samples),
    agent: protocol === 'http:' ? new PlainAgent() : new TlsAgent(),
    signal,
  });
}

/**
 * The group of a cluster: container and prefix, for those are known even when etcd cannot be reached. The label is not called
 * `cluster`, which is the usual external label of a Prometheus, nor `container`, which is Kubernetes'. Base64, for it has slashes.
 */
function groupPath(cluster: string): string {
  return `/metrics/job/etcd-snapshot/etcd_cluster@base64/${Buffer.from(cluster).toString('base64url')}`;
}

function basicAuthorization(user: string, password: string): string {
  const pair = `${decodeURIComponent(user)}:${decodeURIComponent(password)}`;
  return `Basic ${Buffer.from(pair).toString('base64')}`;
}

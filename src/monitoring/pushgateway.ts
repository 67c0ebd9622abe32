import { exposition, type Samples } from './metrics.ts';
import { insideAgent, type SendFailure, sendRequest } from './send-request.ts';

/**
 * Pushes samples into the group of this cluster. By POST, which leaves the metrics of all other names as they are; PUT would
 * empty the group first.
 * @param base its URL, perhaps with a path, a user and a password
 * @param cluster container and prefix, which are known even when etcd cannot be reached. The label is not called `cluster`, the
 *   usual external label of a Prometheus, nor `container`, which is Kubernetes'. In base64, as it has slashes.
 * @returns why it failed; undefined = it did not
 */
export async function push(
  { protocol, host, pathname, username, password }: URL,
  cluster: string,
  samples: Samples,
  signal: AbortSignal,
): Promise<SendFailure | undefined> {
  const group = `/metrics/job/etcd-snapshot/etcd_cluster@base64/${Buffer.from(cluster).toString('base64url')}`;
  const user = Buffer.from(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`).toString('base64');
  return sendRequest(new URL(`${protocol}//${host}${pathname.replace(/\/$/, '')}${group}`), {
    method: 'POST',
    headers: {
      'content-type': 'text/plain; version=0.0.4; charset=utf-8',
      ...(username && { authorization: `Basic ${user}` }),
    },
    body: exposition(samples),
    agent: insideAgent({ protocol }),
    signal,
  });
}

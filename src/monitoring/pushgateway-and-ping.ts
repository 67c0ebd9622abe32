import { type Agent, Agent as PlainAgent, request as requestPlain } from 'node:http';
import { Agent as TlsAgent, request as requestTls } from 'node:https';
import { proxyOf } from '../config/azure.ts';
import type { MonitoringConfig } from '../config/config.ts';
import type { Environment } from '../config/environment.ts';
import { messageOf } from '../errors.ts';
import type { Log } from '../log.ts';
import { type End, exposition, isSuccess, metricsOf, type Samples } from './metrics.ts';

interface Message {
  readonly method: 'GET' | 'POST';
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly agent: Agent;
  /** Ends the attempt. */
  readonly signal: AbortSignal;
}

/** How many characters of a refusal are shown. */
const MAX_EXCERPT = 200;

/** Sends one request, once. Returns why it failed, without the URL, which can hold a secret; undefined = it did not. */
async function send(url: URL, { body, ...options }: Message): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  const request = url.protocol === 'http:' ? requestPlain : requestTls;
  const failed = (error: unknown): void =>
    resolve(options.signal.aborted ? 'no answer in time' : messageOf(error) || 'the connection failed');
  const call = request(url, options, (answer) => {
    const { statusCode = 0 } = answer;
    if (statusCode >= 200 && statusCode < 300) resolve(undefined);
    let said = '';
    answer
      .setEncoding('utf8')
      .on('data', (text: string) => (said = (said + text).slice(0, MAX_EXCERPT)))
      .on('error', failed)
      .on('end', () => resolve(`the answer was ${statusCode}${said.trim() && `: ${said.trim()}`}`));
  });
  call.on('error', failed);
  call.end(body);
  return promise;
}

/**
 * Reports a backup to a dead man's switch: it raises an alarm when there was no ping for too long.
 * @param env its proxy is used for https, as for Azure; plain http stays in the private network
 * @returns why it failed; undefined = it did not
 */
export async function ping(url: URL, env: Environment, signal: AbortSignal): Promise<string | undefined> {
  const agent = url.protocol === 'http:' ? new PlainAgent() : new TlsAgent({ proxyEnv: proxyOf(env) });
  return send(url, { method: 'GET', headers: {}, agent, signal });
}

/**
 * Pushes samples into the group of this cluster. By POST, which leaves the metrics of all other names as they are; PUT would
 * empty the group first. A Pushgateway is in the cluster: no proxy is used.
 * @param base its URL, perhaps with a path, a user and a password
 * @param cluster container and prefix, which are known even when etcd cannot be reached. The label is not called `cluster`, the
 *   usual external label of a Prometheus, nor `container`, which is Kubernetes'. In base64, as it has slashes.
 * @returns why it failed; undefined = it did not
 */
async function push(
  { protocol, host, pathname, username, password }: URL,
  cluster: string,
  samples: Samples,
  signal: AbortSignal,
): Promise<string | undefined> {
  const group = `/metrics/job/etcd-snapshot/etcd_cluster@base64/${Buffer.from(cluster).toString('base64url')}`;
  const user = Buffer.from(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`).toString('base64');
  return send(new URL(`${protocol}//${host}${pathname.replace(/\/$/, '')}${group}`), {
    method: 'POST',
    headers: {
      'content-type': 'text/plain; version=0.0.4; charset=utf-8',
      ...(username && { authorization: `Basic ${user}` }),
    },
    body: exposition(samples),
    agent: protocol === 'http:' ? new PlainAgent() : new TlsAgent(),
    signal,
  });
}

/** How long Pushgateway and ping together can take. */
const REPORT_MS = 3_000;

/** The same after an interruption or a timeout, when the process must end soon. */
const REPORT_AFTER_ABORT_MS = 1_000;

/**
 * Reports the end of a run to the Pushgateway and the ping URL. A failure here is only a warning.
 * @param signal aborted when the process must end, now or before the report began
 * @param env the environment of the process, for its proxy
 */
export async function reportEnd(
  end: End,
  { pushgatewayUrl, pingUrl, cluster }: MonitoringConfig,
  { signal, env, log }: { readonly signal: AbortSignal; readonly env: Environment; readonly log: Log },
): Promise<void> {
  const limit = signal.aborted
    ? AbortSignal.timeout(REPORT_AFTER_ABORT_MS)
    : AbortSignal.any([signal, AbortSignal.timeout(REPORT_MS)]);
  const report = async (what: string, hint: string, work: Promise<string | undefined>): Promise<void> => {
    const failure = await work.catch(messageOf);
    if (failure === undefined) log.debug(`${what} done`);
    else log.warn(`${what} failed (the result of the run is not affected): ${failure}`, { hint });
  };
  const works: Promise<void>[] = [];
  if (pushgatewayUrl !== undefined && cluster !== undefined) {
    const url = new URL(pushgatewayUrl.reveal());
    const what = `pushing metrics to ${url.host}`;
    const hint = 'Check SNAPSHOT_PUSHGATEWAY_URL: on the host network the names of Services do not resolve.';
    works.push(report(what, hint, push(url, cluster, metricsOf(end), limit)));
  }
  if (pingUrl !== undefined && end.command === 'backup' && isSuccess(end)) {
    const url = new URL(pingUrl.reveal());
    works.push(
      report(`ping to ${url.host}`, 'Check SNAPSHOT_PING_URL, the network and the proxy.', ping(url, env, limit)),
    );
  }
  await Promise.all(works);
}

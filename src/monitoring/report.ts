import type { MonitoringConfig } from '../config.ts';
import { messageOf } from '../errors.ts';
import type { Log } from '../log.ts';
import type { Environment } from '../reader.ts';
import { type End, isSuccess, metricsOf } from './metrics.ts';
import { ping } from './ping.ts';
import { push } from './pushgateway.ts';

/** How long Pushgateway and ping together may take. */
const PATIENCE_MS = 3_000;

/** The same when the run was interrupted or its time is over: then nobody waits much longer. */
const HASTE_MS = 1_000;

/**
 * Tells of a run's end where somebody may be watching. What fails here is a warning: it is no fault of the backup.
 * @param signal aborted when the process must end, now or before the report began
 * @param env the environment of the process, for its proxy
 */
export async function reportEnd(
  end: End,
  { pushgatewayUrl, pingUrl, cluster }: MonitoringConfig,
  { signal, env, log }: { readonly signal: AbortSignal; readonly env: Environment; readonly log: Log },
): Promise<void> {
  const limit = signal.aborted
    ? AbortSignal.timeout(HASTE_MS)
    : AbortSignal.any([signal, AbortSignal.timeout(PATIENCE_MS)]);
  const tell = async (what: string, hint: string, work: Promise<string | undefined>): Promise<void> => {
    const failure = await work.catch(messageOf);
    if (failure === undefined) log.debug(`told of the end: ${what}`);
    else log.warn(`${what} failed, which changes nothing about the run: ${failure}.`, { hint });
  };
  const works: Promise<void>[] = [];
  if (pushgatewayUrl !== undefined && cluster !== undefined) {
    const url = new URL(pushgatewayUrl.reveal());
    const what = `Pushing the metrics to ${url.host}`;
    const hint = 'Check SNAPSHOT_PUSHGATEWAY_URL. On the host network the names of Services do not resolve.';
    works.push(tell(what, hint, push(url, cluster, metricsOf(end), limit)));
  }
  if (pingUrl !== undefined && end.command === 'backup' && isSuccess(end)) {
    const url = new URL(pingUrl.reveal());
    works.push(tell(`The ping to ${url.host}`, 'Check SNAPSHOT_PING_URL, network and proxy.', ping(url, env, limit)));
  }
  await Promise.all(works);
}

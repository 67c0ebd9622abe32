import type { Environment } from '../config/environment.ts';
import type { MonitoringConfig } from '../config/monitoring.ts';
import { messageOf } from '../errors.ts';
import type { Log } from '../log.ts';
import type { Secret } from '../secret.ts';
import { type End, isSuccess, metricsOf } from './metrics.ts';
import { notificationBody, notificationOf } from './notification.ts';
import { ping } from './ping.ts';
import { push } from './pushgateway.ts';
import { outsideAgent, type SendFailure, sendRequest } from './send-request.ts';

/** How long all reports together can take. */
const REPORT_MS = 3_000;

/** The same after an interruption or a timeout, when the process must end soon. */
const REPORT_AFTER_ABORT_MS = 1_000;

interface Tools {
  /** Aborted when the process must end, now or before the report began. */
  readonly signal: AbortSignal;
  /** The environment of the process, for its proxy. */
  readonly env: Environment;
  readonly log: Log;
}

interface EndTools extends Tools {
  /** Hides the secrets of the run. */
  readonly mask: (text: string) => string;
  /** The ping of its start, which must arrive before that of its end. */
  readonly started: Promise<void>;
  /** Notes in the container that the run failed. Never rejects. */
  readonly noteFailure: (signal: AbortSignal) => Promise<void>;
}

/** Tells the ping URL that a backup begins. A failure is only a warning. */
export async function reportStart(pingUrl: Secret, { signal, env, log }: Tools): Promise<void> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(REPORT_MS)]);
  const url = new URL(pingUrl.reveal());
  await report(log, `ping to ${url.host} at the start`, PING_HINT, ping(url, 'start', env, limit));
}

/** Reports the end of a run to the Pushgateway, the ping URL and the webhook. A failure here is only a warning. */
export async function reportEnd(end: End, config: MonitoringConfig, tools: EndTools): Promise<void> {
  const { pushgatewayUrl, pingUrl, notifyUrl, notifyFormat, cluster } = config;
  const { signal, env, log, mask, started, noteFailure } = tools;
  const limit = signal.aborted
    ? AbortSignal.timeout(REPORT_AFTER_ABORT_MS)
    : AbortSignal.any([signal, AbortSignal.timeout(REPORT_MS)]);
  const works: Promise<void>[] = [];
  if (pushgatewayUrl !== undefined && cluster !== undefined) {
    const url = new URL(pushgatewayUrl.reveal());
    const hint = 'Check SNAPSHOT_PUSHGATEWAY_URL: on the host network the names of Services do not resolve.';
    works.push(report(log, `pushing metrics to ${url.host}`, hint, push(url, cluster, metricsOf(end), limit)));
  }
  if (pingUrl !== undefined && end.command === 'backup') {
    const url = new URL(pingUrl.reveal());
    const what = isSuccess(end) ? 'success' : { failure: mask(`${end.message} (exit code ${end.exitCode})`) };
    const pinging = started.then(async () => ping(url, what, env, limit));
    works.push(report(log, `ping to ${url.host}`, PING_HINT, pinging));
  }
  const notification = notificationOf(end, cluster);
  if (notifyUrl !== undefined && notification !== undefined) {
    const url = new URL(notifyUrl.reveal());
    const headers = { 'content-type': 'application/json' };
    const body = notificationBody(notification, notifyFormat, mask);
    const posting = sendRequest(url, { method: 'POST', headers, body, agent: outsideAgent(url, env), signal: limit });
    const hint = 'Check SNAPSHOT_NOTIFY_URL, SNAPSHOT_NOTIFY_FORMAT, the network and the proxy.';
    works.push(report(log, `notification to ${url.host}`, hint, posting));
    if (notification.status === 'failed') works.push(noteFailure(limit));
  }
  await Promise.all(works);
}

const PING_HINT = 'Check SNAPSHOT_PING_URL, the network and the proxy.';

async function report(log: Log, what: string, hint: string, work: Promise<SendFailure | undefined>): Promise<void> {
  const failure = await work.catch((error: unknown) => ({ reason: messageOf(error) }));
  if (failure === undefined) log.debug(`${what} done`);
  else log.warn(`${what} failed (the result of the run is not affected): ${failure.reason}`, { hint });
}

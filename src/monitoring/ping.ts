import type { Environment } from '../config/environment.ts';
import { outsideAgent, type SendFailure, sendRequest } from './send-request.ts';

/** What is reported: that a run begins, that it succeeded, or why it failed, in one line with its exit code. */
export type Ping = 'start' | 'success' | { readonly failure: string };

/**
 * Reports a backup to a dead man's switch, which raises an alarm when there was no ping for too long. The paths are those of
 * Healthchecks (healthchecks.io/docs/http_api).
 * @param env its proxy is used for https
 * @returns why it failed; undefined = it did not
 */
export async function ping(
  url: URL,
  what: Ping,
  env: Environment,
  signal: AbortSignal,
): Promise<SendFailure | undefined> {
  const agent = outsideAgent(url, env);
  if (what === 'success') return sendRequest(url, { method: 'GET', agent, signal });
  const headers = { 'content-type': 'text/plain; charset=utf-8' };
  const failure =
    what === 'start'
      ? await sendRequest(below(url, 'start'), { method: 'GET', agent, signal })
      : await sendRequest(below(url, 'fail'), { method: 'POST', headers, body: what.failure, agent, signal });
  // Other switches have no such paths, and need only to be told of successes.
  return failure?.status === 404 || failure?.status === 405 ? undefined : failure;
}

/** The URL with one more part of its path; its query stays. */
function below(url: URL, part: string): URL {
  const target = new URL(url);
  target.pathname = `${url.pathname.replace(/\/$/, '')}/${part}`;
  return target;
}

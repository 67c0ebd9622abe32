import { type Agent, Agent as PlainAgent, request as requestPlain } from 'node:http';
import { Agent as TlsAgent, request as requestTls } from 'node:https';
import { proxyOf } from '../config/azure.ts';
import type { Environment } from '../config/environment.ts';
import { messageOf } from '../errors.ts';

interface Message {
  readonly method: 'GET' | 'POST';
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly agent: Agent;
  /** Ends the attempt. */
  readonly signal: AbortSignal;
}

/** Why a request failed. */
export interface SendFailure {
  /** Without the URL, which can hold a secret. */
  readonly reason: string;
  /** Of the answer, if there was one. */
  readonly status?: number;
}

/** How many characters of a refusal are shown. */
const MAX_EXCERPT = 200;

/**
 * Sends one request, once. No redirect is followed: only the configured host gets a secret.
 * @returns why it failed; undefined = it did not
 */
export async function sendRequest(
  url: URL,
  { body, headers = {}, ...options }: Message,
): Promise<SendFailure | undefined> {
  const { promise, resolve } = Promise.withResolvers<SendFailure | undefined>();
  const request = url.protocol === 'http:' ? requestPlain : requestTls;
  const failed = (error: unknown): void =>
    resolve({ reason: options.signal.aborted ? 'no answer in time' : messageOf(error) || 'the connection failed' });
  const call = request(url, { ...options, headers }, (answer) => {
    const { statusCode: status = 0 } = answer;
    if (status >= 200 && status < 300) resolve(undefined);
    let said = '';
    answer
      .setEncoding('utf8')
      .on('data', (text: string) => (said = (said + text).slice(0, MAX_EXCERPT)))
      .on('error', failed)
      .on('end', () => resolve({ reason: `the answer was ${status}${said.trim() && `: ${said.trim()}`}`, status }));
  });
  call.on('error', failed);
  call.end(body);
  return promise;
}

/** For a host outside of the cluster: https goes through the proxy, as for Azure; plain http stays in the private network. */
export function outsideAgent({ protocol }: URL, env: Environment): Agent {
  return protocol === 'http:' ? new PlainAgent() : new TlsAgent({ proxyEnv: proxyOf(env) });
}

/** For a host in the cluster: no proxy is used. */
export function insideAgent({ protocol }: Pick<URL, 'protocol'>): Agent {
  return protocol === 'http:' ? new PlainAgent() : new TlsAgent();
}

import { type Agent, request as requestPlain } from 'node:http';
import { request as requestTls } from 'node:https';
import { messageOf } from '../errors.ts';

export interface Message {
  readonly method: 'GET' | 'POST';
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly agent: Agent;
  /** Ends the try. */
  readonly signal: AbortSignal;
}

/** How many characters of a refusal are shown. */
const MAX_EXCERPT = 200;

/** Sends one request, once. Returns why it failed, in words without the URL, which may hold a secret; undefined = it did not. */
export async function send(url: URL, { body, ...options }: Message): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  const request = url.protocol === 'http:' ? requestPlain : requestTls;
  const failed = (error: unknown): void =>
    resolve(options.signal.aborted ? 'there was no answer in time' : messageOf(error) || 'the connection failed');
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

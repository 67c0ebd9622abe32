import { Agent as PlainAgent } from 'node:http';
import { Agent as TlsAgent } from 'node:https';
import { proxyOf } from '../azure/proxy.ts';
import type { Environment } from '../reader.ts';
import { send } from './send.ts';

/**
 * Tells a dead man's switch that there is a backup: it raises the alarm when it hears nothing for too long.
 * @param env whose proxy is taken for https, as on the way to Azure; plain http stays in the private network
 * @returns why it failed; undefined = it did not
 */
export async function ping(url: URL, env: Environment, signal: AbortSignal): Promise<string | undefined> {
  const agent = url.protocol === 'http:' ? new PlainAgent() : new TlsAgent({ proxyEnv: proxyOf(env) });
  return send(url, { method: 'GET', headers: {}, agent, signal });
}

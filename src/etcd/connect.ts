import type { EtcdConfig } from '../config.ts';
import type { Findings } from '../findings.ts';
import { Connection } from './connection.ts';
import { certificateWarnings, loadTls } from './tls.ts';

/** A connection for each endpoint; nothing is sent yet. @throws UsageError for certificate files that cannot be used */
export async function connectAll(config: EtcdConfig | undefined, now: Date, findings: Findings): Promise<Connection[]> {
  if (config === undefined) throw new Error('the command did not say that it needs etcd');
  const { endpoints, tls, user } = config;
  const credentials = tls === undefined ? undefined : await loadTls(tls, now);
  if (credentials !== undefined) for (const warning of certificateWarnings(credentials, now)) findings.add(warning);
  return endpoints.map((endpoint) => new Connection(endpoint, credentials, user));
}

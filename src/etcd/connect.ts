import type { EtcdConfig } from '../config.ts';
import { Connection } from './connection.ts';
import { loadTls } from './tls.ts';

/** A connection for each endpoint; nothing is sent yet. @throws UsageError for certificate files that cannot be used */
export async function connectAll(config: EtcdConfig | undefined): Promise<Connection[]> {
  if (config === undefined) throw new Error('the command did not say that it needs etcd');
  const { endpoints, tls } = config;
  const credentials = tls === undefined ? undefined : await loadTls(tls);
  return endpoints.map((endpoint) => new Connection(endpoint, credentials));
}

import type { EtcdConfig } from '../config.ts';
import { Connection } from './connection.ts';
import { loadTls } from './tls.ts';

/** A connection for each endpoint; nothing is sent yet. @throws UsageError for certificate files that cannot be used */
export async function connectAll({ endpoints, tls }: EtcdConfig): Promise<Connection[]> {
  const credentials = tls === undefined ? undefined : await loadTls(tls);
  return endpoints.map((endpoint) => new Connection(endpoint, credentials));
}

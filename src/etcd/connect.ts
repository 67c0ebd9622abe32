import type { EtcdConfig } from '../config.ts';
import type { Findings } from '../findings.ts';
import { Connection } from './connection.ts';
import { certificateWarnings, expiryOf, loadTls } from './tls.ts';

/** The connections to a cluster's members, all with the same credentials; nothing is sent before something is asked. */
export class Connections {
  /** To the configured endpoints, in their order. */
  readonly configured: readonly Connection[];
  /** Null without TLS. */
  readonly clientCertificateExpiresAt: Date | null;
  readonly #make: (endpoint: string) => Connection;
  readonly #others = new Map<string, Connection>();

  constructor(endpoints: readonly string[], expiresAt: Date | null, make: (endpoint: string) => Connection) {
    this.clientCertificateExpiresAt = expiresAt;
    this.configured = endpoints.map(make);
    this.#make = make;
  }

  /** To any endpoint; the same one whenever it is asked for again. */
  to(endpoint: string): Connection {
    const known = this.configured.find((connection) => connection.endpoint === endpoint) ?? this.#others.get(endpoint);
    if (known !== undefined) return known;
    const connection = this.#make(endpoint);
    this.#others.set(endpoint, connection);
    return connection;
  }

  close(): void {
    for (const connection of [...this.configured, ...this.#others.values()]) connection.close();
  }
}

/** @throws UsageError for certificate files that cannot be used */
export async function connectAll(config: EtcdConfig | undefined, now: Date, findings: Findings): Promise<Connections> {
  if (config === undefined) throw new Error('the command did not say that it needs etcd');
  const { endpoints, tls, user } = config;
  const credentials = tls === undefined ? undefined : await loadTls(tls, now);
  if (credentials !== undefined) for (const warning of certificateWarnings(credentials, now)) findings.add(warning);
  const expiresAt = credentials === undefined ? null : expiryOf(credentials);
  return new Connections(endpoints, expiresAt, (endpoint) => new Connection(endpoint, credentials, user));
}

import type { EtcdConfig, EtcdUser } from '../config/config.ts';
import type { Warnings } from '../log.ts';
import { Connection } from './connection.ts';
import { certificateWarnings, expiryOf, loadTls, type TlsCredentials } from './tls.ts';

/**
 * The connections to a cluster's members; nothing is sent before something is asked. The user's password goes to the configured
 * endpoints only, and to those that prove with the configured CA who they are: other URLs are what a member says of itself.
 */
export class Connections {
  /** To the configured endpoints, in their order. */
  readonly configured: readonly Connection[];
  /** Null without TLS. */
  readonly clientCertificateExpiresAt: Date | null;
  readonly #tls: TlsCredentials | undefined;
  readonly #user: EtcdUser | undefined;
  readonly #others = new Map<string, Connection>();

  constructor({ endpoints, user }: Pick<EtcdConfig, 'endpoints' | 'user'>, tls: TlsCredentials | undefined) {
    this.clientCertificateExpiresAt = tls === undefined ? null : expiryOf(tls);
    this.configured = endpoints.map((endpoint) => new Connection(endpoint, tls, user));
    this.#tls = tls;
    this.#user = user;
  }

  /** To any endpoint; the same one whenever it is asked for again. */
  to(endpoint: string): Connection {
    const known = this.configured.find((connection) => connection.endpoint === endpoint) ?? this.#others.get(endpoint);
    if (known !== undefined) return known;
    const provesItself = this.#tls !== undefined && endpoint.startsWith('https://');
    const connection = new Connection(endpoint, this.#tls, provesItself ? this.#user : undefined);
    this.#others.set(endpoint, connection);
    return connection;
  }

  close(): void {
    for (const connection of [...this.configured, ...this.#others.values()]) connection.close();
  }
}

/** @throws UsageError for certificate files that cannot be used */
export async function connectAll(config: EtcdConfig | undefined, now: Date, findings: Warnings): Promise<Connections> {
  if (config === undefined) throw new Error('the command did not say that it needs etcd');
  const credentials = config.tls === undefined ? undefined : await loadTls(config.tls, now);
  if (credentials !== undefined) for (const warning of certificateWarnings(credentials, now)) findings.add(warning);
  return new Connections(config, credentials);
}

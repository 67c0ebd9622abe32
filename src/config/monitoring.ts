import { Secret } from '../secret.ts';
import { cleaned, type Environment, Reader } from './environment.ts';
import { TYPES } from './value-types.ts';
import type { VariableName } from './variables.ts';

export const NOTIFICATION_FORMATS = ['json', 'slack', 'teams'] as const;
export type NotificationFormat = (typeof NOTIFICATION_FORMATS)[number];

/** Where the result of a run is reported. */
export interface MonitoringConfig {
  /** May have a path, a user and a password. */
  readonly pushgatewayUrl: Secret | undefined;
  readonly pingUrl: Secret | undefined;
  readonly notifyUrl: Secret | undefined;
  readonly notifyFormat: NotificationFormat;
  /** Container and prefix, as `my-cluster` or `backups/prod-eu`: the label that distinguishes clusters. */
  readonly cluster: string | undefined;
}

/** Independent of the rest of the configuration, so that its problems can be reported, too; what is invalid here is omitted. */
export function readMonitoring(env: Environment, reader = new Reader(env)): MonitoringConfig {
  const container = cleaned(env['SNAPSHOT_AZURE_CONTAINER_NAME']) ?? '';
  const prefix = cleaned(env['SNAPSHOT_BLOB_PREFIX']);
  const isKnown =
    TYPES.container.pattern.test(container) && (prefix === undefined || TYPES.prefix.pattern.test(prefix));
  return {
    pushgatewayUrl: readUrl(reader, 'SNAPSHOT_PUSHGATEWAY_URL', ({ password }) => password !== ''),
    pingUrl: readUrl(reader, 'SNAPSHOT_PING_URL', () => true),
    notifyUrl: readUrl(reader, 'SNAPSHOT_NOTIFY_URL', () => true),
    notifyFormat: reader.choice('SNAPSHOT_NOTIFY_FORMAT', NOTIFICATION_FORMATS) ?? 'json',
    cluster: isKnown ? `${container}/${prefix ?? ''}`.replace(/\/$/, '') : undefined,
  };
}

/** Hosts that are not public: single names, those of a cluster, private addresses. */
const PRIVATE_HOST =
  /^([^.:]+|.+\.(svc|local|internal)|(127|10)(\.\d+){3}|192\.168(\.\d+){2}|172\.(1[6-9]|2\d|3[01])(\.\d+){2}|\[(::1|f[cd].*)\])$/;

function readUrl(reader: Reader, name: VariableName, isSecret: (url: URL) => boolean): Secret | undefined {
  const value = reader.text(name);
  if (value === undefined) return undefined;
  const url = URL.parse(value);
  if (url === null || !/^https?:$/.test(url.protocol)) {
    reader.problem(name, 'must be a URL that begins with http:// or https://');
    return undefined;
  }
  // Anybody who reads it on the way could report success in our name.
  if (url.protocol === 'http:' && isSecret(url) && !PRIVATE_HOST.test(url.hostname)) {
    reader.problem(name, 'contains a secret: outside a private network it must begin with https://');
    return undefined;
  }
  return new Secret(value);
}

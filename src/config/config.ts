import { statSync } from 'node:fs';
import { pathProblem } from '../files.ts';
import { LOG_FORMATS, LOG_LEVELS, type LogFormat, type LogLevel } from '../log.ts';
import { Secret } from '../secret.ts';
import { isLoopback } from '../url.ts';
import { CONTAINER_RULE, judgeProxy, proxyPasswords, proxyWarnings } from './azure.ts';
import { type Access, readAccess } from './credential.ts';
import { cleaned, type Environment, Reader, type Rule } from './variable-reader.ts';
import { nearestName, type VariableName, VARIABLES } from './variables.ts';

export interface TlsFiles {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

export interface EtcdUser {
  readonly name: string;
  readonly password: Secret;
}

export interface EtcdConfig {
  /** Origins such as `https://10.0.0.5:2379`, in the given order, without repeats. */
  readonly endpoints: readonly string[];
  /** Only where an endpoint speaks https; a file that is not named is looked for in the known places. */
  readonly tls: Partial<TlsFiles> | undefined;
  /** Besides the client certificate, or instead of it. */
  readonly user: EtcdUser | undefined;
}

export interface StorageConfig extends Access {
  readonly container: string;
  readonly prefix: string;
}

/** How many to keep: the newest ones, or the newest of each of the newest periods. A snapshot kept by any rule stays. */
export interface RetentionRules {
  readonly last: number | undefined;
  readonly hourly: number | undefined;
  readonly daily: number | undefined;
  readonly weekly: number | undefined;
  readonly monthly: number | undefined;
  readonly yearly: number | undefined;
  /** Seconds before the newest snapshot. */
  readonly within: number | undefined;
}

export interface RetentionConfig {
  /** None set = nothing is ever deleted. */
  readonly rules: RetentionRules;
  /** Cluster ids, in lower-case hex, of earlier lives of this cluster: their snapshots age out as its own do. */
  readonly previousClusterIds: readonly string[];
}

export interface Config {
  /** Undefined where the command does not need it. */
  readonly etcd: EtcdConfig | undefined;
  readonly storage: StorageConfig | undefined;
  readonly retention: RetentionConfig;
  /** Seconds for the whole run. */
  readonly timeout: number;
  readonly readBack: 'full' | 'off';
  /** Where to spill what the upload is too slow for; undefined = nowhere. */
  readonly spoolDir: string | undefined;
  /** What the spool leaves free of its file system: bytes, or a share; undefined = the default. */
  readonly spoolReserve: { readonly bytes: number } | { readonly percent: number } | undefined;
  /** Bytes of database up to which HashKV is compared with other members. */
  readonly hashKvMaxSize: number;
}

/** Where the end of a run is told. */
export interface MonitoringConfig {
  /** Perhaps with a path, a user and a password. */
  readonly pushgatewayUrl: Secret | undefined;
  readonly pingUrl: Secret | undefined;
  /** Container and prefix, as `my-cluster` or `backups/prod-eu`: what metrics of clusters are told apart by. */
  readonly cluster: string | undefined;
}

interface LogConfig {
  readonly format: LogFormat | undefined;
  readonly level: LogLevel;
}

/** Which halves of the configuration a command needs; another half may be absent, and is not looked at. */
export interface Needs {
  /** `if set`: used where its endpoints are set, and absent otherwise. */
  readonly etcd: boolean | 'if set';
  /** `if set`: used where any of its variables is set, and absent otherwise. */
  readonly storage: boolean | 'if set';
  /** Whether it stores snapshots. */
  readonly writes?: boolean;
  /** Under which name its end is told to whoever watches; undefined = it is not. */
  readonly reports?: 'backup' | 'drill';
  /** Seconds for the whole run where SNAPSHOT_TIMEOUT is not set; those of a CronJob's run unless told. */
  readonly timeout?: number;
  /** What may be meant where the configuration has faults, as a sentence without its period. */
  readonly hint?: string | undefined;
}

/**
 * Reads the whole configuration.
 * @throws UsageError that lists every fault at once, each with its variable, what is wrong and an example
 */
export function readConfig(env: Environment, needs: Needs): Config {
  const reader = new Reader(env);
  const needsEtcd = needs.etcd === 'if set' ? cleaned(env['SNAPSHOT_ETCD_ENDPOINTS']) !== undefined : needs.etcd;
  const needsStorage = needs.storage === 'if set' ? isStorageSet(env) : needs.storage;
  const config: Config = {
    etcd: needsEtcd ? readEtcd(reader) : undefined,
    storage: needsStorage ? readStorage(reader, needs.writes === true) : undefined,
    retention: readRetention(reader),
    timeout: reader.seconds('SNAPSHOT_TIMEOUT') ?? needs.timeout ?? 570,
    readBack: reader.choice('SNAPSHOT_READ_BACK', ['full', 'off']) ?? 'full',
    spoolDir: readSpoolDir(reader, needs),
    spoolReserve: reader.sizeOrPercent('SNAPSHOT_SPOOL_RESERVE'),
    hashKvMaxSize: reader.size('SNAPSHOT_HASHKV_MAX_SIZE') ?? 2 ** 30,
  };
  if (needsStorage) judgeProxy(reader, env);
  if (needs.reports !== undefined) readMonitoring(env, reader);
  readLogConfig(env, reader);
  reader.text('NODE_EXTRA_CA_CERTS');
  if (cleaned(env['NODE_TLS_REJECT_UNAUTHORIZED']) === '0') {
    reader.refuse('NODE_TLS_REJECT_UNAUTHORIZED=0 would accept any certificate (remove it, name a CA instead)');
  }
  reader.throwFaults(needs.hint);
  return config;
}

/** The log's own settings: read first, and never a reason to fail, so that everything else can be reported. */
export function readLogConfig(env: Environment, reader = new Reader(env)): LogConfig {
  return {
    format: reader.choice('SNAPSHOT_LOG_FORMAT', LOG_FORMATS),
    level: reader.choice('SNAPSHOT_LOG_LEVEL', LOG_LEVELS) ?? 'info',
  };
}

/** Needs no other part of the configuration, so that a fault there can be told, too; what is faulty here is left out. */
export function readMonitoring(env: Environment, reader = new Reader(env)): MonitoringConfig {
  const container = cleaned(env['SNAPSHOT_AZURE_CONTAINER_NAME']) ?? '';
  const prefix = cleaned(env['SNAPSHOT_BLOB_PREFIX']);
  const isKnown = CONTAINER_RULE.pattern.test(container) && (prefix === undefined || PREFIX_RULE.pattern.test(prefix));
  return {
    pushgatewayUrl: readUrl(reader, 'SNAPSHOT_PUSHGATEWAY_URL', ({ password }) => password !== ''),
    pingUrl: readUrl(reader, 'SNAPSHOT_PING_URL', () => true),
    cluster: isKnown ? `${container}/${prefix ?? ''}`.replace(/\/$/, '') : undefined,
  };
}

/** Hosts that no public name leads to: single names, those of a cluster, private addresses. */
const PRIVATE_HOST =
  /^([^.:]+|.+\.(svc|local|internal)|(127|10)(\.\d+){3}|192\.168(\.\d+){2}|172\.(1[6-9]|2\d|3[01])(\.\d+){2}|\[(::1|f[cd].*)\])$/;

function readUrl(reader: Reader, name: VariableName, isSecret: (url: URL) => boolean): Secret | undefined {
  const value = reader.text(name);
  if (value === undefined) return undefined;
  const url = URL.canParse(value) ? new URL(value) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol)) {
    reader.fault(name, 'must be a URL that begins with http:// or https://');
    return undefined;
  }
  // Whoever reads it on the way could say in our name that all is well.
  if (url.protocol === 'http:' && isSecret(url) && !PRIVATE_HOST.test(url.hostname)) {
    reader.fault(name, 'holds a secret, so outside the private network it must begin with https://');
    return undefined;
  }
  return new Secret(value);
}

/** Characters: what is shorter is no token, and would be masked wherever it stands by chance. */
const MIN_TOKEN = 8;

/** What is secret of the URLs for monitoring: a user's password, and the path of a ping, which is all that it proves itself with. */
function monitoringSecrets(env: Environment): string[] {
  const [gateway, ping] = ['SNAPSHOT_PUSHGATEWAY_URL', 'SNAPSHOT_PING_URL'].map((name) => cleaned(env[name]) ?? '');
  const passwords = [gateway, ping].flatMap((value) => {
    const [, user, password] = /\/\/([^\s/:@]*):([^\s/@]*)@/.exec(value ?? '') ?? [];
    return password === undefined ? [] : [password, `${user}:${password}`];
  });
  const path = /^\w+:\/\/[^/?#]*([^#]*)/.exec(ping ?? '')?.[1] ?? '';
  return path.length < MIN_TOKEN ? passwords : [...passwords, path];
}

/** What stands where the path of a file should: it is not shown, and neither is any line of it. */
function misplacedSecrets(env: Environment): string[] {
  const names = (Object.keys(VARIABLES) as VariableName[]).filter((name) => 'isPath' in VARIABLES[name]);
  const values = names.map((name) => cleaned(env[name]) ?? '').filter((value) => pathProblem(value) !== undefined);
  return [...values, ...values.flatMap((value) => value.split(/\s*\n\s*/))];
}

const SECRETS_WITHIN = [/AccountKey=([^;]+)/g, /SharedAccessSignature=([^;]+)/g, /\bsig=([^&;]+)/g];

/**
 * Every secret that is set, used or not: what no output may contain. Besides our own these are the password of a proxy and
 * the header by which the endpoint of a managed identity knows us.
 */
export function secretsOf(env: Environment): Secret[] {
  const names = (Object.keys(VARIABLES) as VariableName[]).filter((name) => 'secret' in VARIABLES[name]);
  const values = [...names, 'IDENTITY_HEADER'].map((name) => cleaned(env[name])).filter((value) => value !== undefined);
  const within = values.flatMap((value) =>
    SECRETS_WITHIN.flatMap((pattern) => [...value.matchAll(pattern)].map((match) => match[1] ?? '')),
  );
  return [...values, ...within, ...proxyPasswords(env), ...monitoringSecrets(env), ...misplacedSecrets(env)]
    .flatMap((value) => [value, decoded(value)])
    .map((value) => new Secret(value));
}

/** A signature or a password stands percent-encoded in a URL. */
function decoded(value: string): string {
  try {
    return decodeURIComponent(value);
  } catch {
    return value;
  }
}

/** A sentence for every `SNAPSHOT_…` variable that means nothing to this program, and for what a known one cannot mean. */
export function unknownVariables(env: Environment): string[] {
  const unknown = Object.keys(env)
    .filter((name) => name.startsWith('SNAPSHOT_') && !Object.hasOwn(VARIABLES, name))
    .map((name) => {
      const nearest = nearestName(name);
      return `${name} is not a known variable and is ignored${nearest === undefined ? '' : `; did you mean ${nearest}?`}`;
    });
  return [...unknown, ...proxyWarnings(env)];
}

function isStorageSet(env: Environment): boolean {
  return Object.entries(env).some(
    ([name, value]) => name.startsWith('SNAPSHOT_AZURE_') && cleaned(value) !== undefined,
  );
}

function readEtcd(reader: Reader): EtcdConfig {
  const endpoints = reader.endpoints('SNAPSHOT_ETCD_ENDPOINTS');
  const [ca, cert, key] = [
    reader.text('SNAPSHOT_ETCD_CA_FILE'),
    reader.text('SNAPSHOT_ETCD_CERT_FILE'),
    reader.text('SNAPSHOT_ETCD_KEY_FILE'),
  ];
  const tls = { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) };
  const name = reader.text('SNAPSHOT_ETCD_USERNAME');
  const password = reader.text('SNAPSHOT_ETCD_PASSWORD');
  if (name !== undefined && password === undefined) reader.missing('SNAPSHOT_ETCD_PASSWORD');
  if (name === undefined && password !== undefined) reader.missing('SNAPSHOT_ETCD_USERNAME');
  const open = endpoints.filter((url) => url.startsWith('http:') && !isLoopback(new URL(url).hostname));
  if (password !== undefined && open.length > 0) {
    reader.fault('SNAPSHOT_ETCD_ENDPOINTS', `must be https: the password would travel in clear to ${open.join(', ')}`);
  }
  return {
    endpoints,
    tls: endpoints.some((endpoint) => endpoint.startsWith('https:')) ? tls : undefined,
    user: name === undefined || password === undefined ? undefined : { name, password: new Secret(password) },
  };
}

function readStorage(reader: Reader, writes: boolean): StorageConfig {
  return {
    ...readAccess(reader, writes),
    container:
      reader.text('SNAPSHOT_AZURE_CONTAINER_NAME', CONTAINER_RULE) ?? reader.missing('SNAPSHOT_AZURE_CONTAINER_NAME'),
    prefix: reader.text('SNAPSHOT_BLOB_PREFIX', PREFIX_RULE) ?? '',
  };
}

/** `doctor` looks at it in its own way. */
function readSpoolDir(reader: Reader, { writes }: Needs): string | undefined {
  const dir = reader.text('SNAPSHOT_SPOOL_DIR');
  if (dir === undefined || writes !== true) return dir;
  if (!isDirectory(dir)) reader.fault('SNAPSHOT_SPOOL_DIR', 'names no directory that exists');
  return dir;
}

function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}

function readRetention(reader: Reader): RetentionConfig {
  const previous = reader.text('SNAPSHOT_PREVIOUS_CLUSTER_IDS', CLUSTER_IDS_RULE) ?? '';
  return {
    rules: {
      last: reader.count('SNAPSHOT_KEEP_LAST'),
      hourly: reader.count('SNAPSHOT_KEEP_HOURLY'),
      daily: reader.count('SNAPSHOT_KEEP_DAILY'),
      weekly: reader.count('SNAPSHOT_KEEP_WEEKLY'),
      monthly: reader.count('SNAPSHOT_KEEP_MONTHLY'),
      yearly: reader.count('SNAPSHOT_KEEP_YEARLY'),
      within: reader.age('SNAPSHOT_KEEP_WITHIN'),
    },
    previousClusterIds: previous.split(/[\s,]+/).filter((id) => id !== ''),
  };
}

const CLUSTER_IDS_RULE: Rule = {
  pattern: /^[0-9a-f]{1,16}(\s*,\s*[0-9a-f]{1,16})*$/,
  demand: 'must be cluster ids as `list` shows them, separated by commas',
};
export const PREFIX_RULE: Rule = {
  pattern: /^(?!.*(\/\/|\.\/|\.$))[A-Za-z0-9][A-Za-z0-9._/-]{0,199}$/,
  demand:
    'must be letters, digits and ._-/ only, without a leading slash, an empty part or a part that ends with a dot',
};

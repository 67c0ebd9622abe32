import { statSync } from 'node:fs';
import { pathProblem } from '../files.ts';
import { LOG_FORMATS, LOG_LEVELS, type LogFormat, type LogLevel } from '../log.ts';
import { Secret } from '../secret.ts';
import type { Encoding } from '../snapshot/snapshot-name.ts';
import { nearest } from '../text.ts';
import { isLoopback } from '../url.ts';
import { type Access, checkProxy, proxyPasswords, proxyWarnings } from './azure.ts';
import { cleaned, type Environment, Reader } from './environment.ts';
import { readMonitoring } from './monitoring.ts';
import type { Place } from './place.ts';
import { readBundle, readIdentityFile, readSealing, readSignatures } from './protection.ts';
import { namesCopy, readCopy, readPlace } from './storage.ts';
import { type VariableName, VARIABLES } from './variables.ts';

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
  /** Origins such as `https://10.0.0.5:2379`, in the given order, without duplicates. */
  readonly endpoints: readonly string[];
  /** Only if an endpoint has https; files that are not named are looked for in the known places. */
  readonly tls: Partial<TlsFiles> | undefined;
  /** Names of the variables for TLS that are set although an endpoint has http, which does not use their files. */
  readonly unusedTls?: readonly VariableName[];
  /** In addition to the client certificate, or instead of it. */
  readonly user: EtcdUser | undefined;
}

export interface StorageConfig extends Access {
  readonly place: Place;
  readonly container: string;
  readonly prefix: string;
  /** Of new blobs; undefined = that of the account. */
  readonly accessTier: AccessTier | undefined;
  /** Bytes per second; undefined = no limit. */
  readonly maxUploadRate: number | undefined;
}

/** As Azure writes them. */
export type AccessTier = 'Hot' | 'Cool' | 'Cold';

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
  /** Without any rule nothing is ever deleted. */
  readonly rules: RetentionRules;
  /** Cluster ids, in lower-case hex, that this cluster had before a restore: their snapshots age out with its own. */
  readonly previousClusterIds: readonly string[];
}

/** Files with keys, PEM; at least one of the two. */
export interface SignatureConfig {
  /** The private key with which a backup signs; undefined for commands that store nothing. */
  readonly signingKeyFile: string | undefined;
  /** Public keys: only what one of them verifies counts. */
  readonly verificationKeysFile: string | undefined;
}

/** How snapshots are sealed. */
export interface SealingConfig {
  readonly encoding: Encoding;
  /** Recipients of age, separated by commas or blanks; they are checked only by a run that seals. */
  readonly recipients: string | undefined;
  /** Where they were given, if not in the variable. */
  readonly recipientsFrom?: 'SNAPSHOT_ENCRYPTION_RECIPIENTS' | '--recipients';
  /** A file with one recipient per line, and remarks that begin with #. */
  readonly recipientsFile: string | undefined;
}

export interface Config {
  /** Undefined if the command does not need it. */
  readonly etcd: EtcdConfig | undefined;
  readonly storage: StorageConfig | undefined;
  /** The second place; undefined if the command does not use it as such. */
  readonly copy: StorageConfig | undefined;
  /** Whether there is a second place that `--from-copy` would use instead of the first. */
  readonly hasCopy: boolean;
  readonly retention: RetentionConfig;
  /** Seconds for the whole run. */
  readonly timeout: number;
  readonly readBack: 'full' | 'off';
  readonly contentMd5: 'on' | 'off';
  /** How snapshots are stored; undefined = as etcd makes them. */
  readonly sealing: SealingConfig | undefined;
  /** File with the identities of age that open encrypted snapshots. */
  readonly identityFile: string | undefined;
  /** Undefined where no key is named, or the command uses no stored snapshot. */
  readonly signatures: SignatureConfig | undefined;
  /** Layouts and absolute paths whose files are stored with each snapshot; undefined = none, or the command does not use them. */
  readonly bundle: readonly string[] | undefined;
  /** Directory of the spool; undefined = no spool. */
  readonly spoolDir: string | undefined;
  /** Space of its file system that the spool leaves free: bytes, or a share; undefined = the default. */
  readonly spoolReserve: { readonly bytes: number } | { readonly percent: number } | undefined;
  /** Bytes of database up to which HashKV is compared with other members. */
  readonly hashKvMaxSize: number;
}

interface LogConfig {
  readonly format: LogFormat | undefined;
  readonly level: LogLevel;
}

/** The parts of the configuration that a command needs; other parts may be absent, and are not checked. */
export interface Needs {
  /** `if set`: used if its endpoints are set, and absent otherwise. */
  readonly etcd: boolean | 'if set';
  /** `if set`: used if any of its variables is set, and absent otherwise. */
  readonly storage: boolean | 'if set';
  /** Where its storage is; by default the first place. */
  readonly place?: Place;
  /** When it uses the second place in addition to the first; by default never. */
  readonly copies?: 'always' | 'after backup' | 'if set';
  /** Whether the second place can have the endpoint and the credential of the first. */
  readonly allowsSameAccount?: boolean;
  /** Whether it uses other containers than the configured one, which need not be set then. */
  readonly otherContainers?: boolean;
  /** Whether it stores snapshots. */
  readonly writes?: boolean;
  /** Whether it needs the key that signs, although it stores none. */
  readonly signs?: boolean;
  /** Whether it reads the files of SNAPSHOT_BUNDLE. */
  readonly readsBundle?: boolean;
  /** The name under which its result is reported to monitoring; undefined = it is not. */
  readonly reports?: 'backup' | 'drill' | 'copy' | 'import';
  /** Seconds for the whole run if SNAPSHOT_TIMEOUT is not set. */
  readonly timeout?: number;
  /** Another possible cause of problems in the configuration, as a sentence without its period. */
  readonly hint?: string | undefined;
}

/** The default of SNAPSHOT_TIMEOUT fits the deadline of the CronJob. */
const TIMEOUT_S = 570;

/**
 * Reads the whole configuration.
 * @throws UsageError that lists all problems, each with its variable, the problem and an example
 */
export function readConfig(env: Environment, needs: Needs): Config {
  const reader = new Reader(env);
  const needsEtcd = needs.etcd === 'if set' ? reader.isSet('SNAPSHOT_ETCD_ENDPOINTS') : needs.etcd;
  const needsStorage = needs.storage === 'if set' ? isStorageSet(env) : needs.storage;
  const { place = 'first', writes = false } = needs;
  const storage = needsStorage ? readPlace(reader.at(place), writes, needs.otherContainers) : undefined;
  const config: Config = {
    etcd: needsEtcd ? readEtcd(reader) : undefined,
    storage,
    copy: readCopy(reader, needs, storage),
    hasCopy: place === 'first' && namesCopy(reader),
    retention: readRetention(reader),
    timeout: reader.number('SNAPSHOT_TIMEOUT') ?? needs.timeout ?? TIMEOUT_S,
    readBack: reader.choice('SNAPSHOT_READ_BACK', ['full', 'off']) ?? 'full',
    contentMd5: reader.choice('SNAPSHOT_CONTENT_MD5', ['on', 'off']) ?? 'off',
    sealing: readSealing(reader, needs),
    identityFile: readIdentityFile(reader),
    signatures: needsStorage ? readSignatures(reader, needs) : undefined,
    bundle: needs.readsBundle === true ? readBundle(reader) : undefined,
    spoolDir: reader.text('SNAPSHOT_SPOOL_DIR'),
    spoolReserve: reader.sizeOrPercent('SNAPSHOT_SPOOL_RESERVE'),
    hashKvMaxSize: reader.number('SNAPSHOT_HASHKV_MAX_SIZE') ?? 2 ** 30,
  };
  // doctor checks the directory in its own way.
  if (needs.writes === true && config.spoolDir !== undefined && !isDirectory(config.spoolDir)) {
    reader.problem('SNAPSHOT_SPOOL_DIR', 'is not an existing directory');
  }
  if (needsStorage) checkProxy(reader, env);
  if (needs.reports !== undefined) readMonitoring(env, reader);
  readLogConfig(env, reader);
  reader.text('NODE_EXTRA_CA_CERTS');
  if (cleaned(env['NODE_TLS_REJECT_UNAUTHORIZED']) === '0') {
    reader.refuse('NODE_TLS_REJECT_UNAUTHORIZED=0 would accept any certificate (remove it, and set a CA instead)');
  }
  reader.throwProblems(needs.hint);
  return config;
}

function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}

function isStorageSet(env: Environment): boolean {
  return Object.entries(env).some(
    ([name, value]) => name.startsWith('SNAPSHOT_AZURE_') && cleaned(value) !== undefined,
  );
}

const TLS_VARIABLES = ['SNAPSHOT_ETCD_CA_FILE', 'SNAPSHOT_ETCD_CERT_FILE', 'SNAPSHOT_ETCD_KEY_FILE'] as const;

function readEtcd(reader: Reader): EtcdConfig {
  const endpoints = reader.endpoints('SNAPSHOT_ETCD_ENDPOINTS');
  const [ca, cert, key] = TLS_VARIABLES.map((variable) => reader.text(variable));
  const tls = { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) };
  const name = reader.text('SNAPSHOT_ETCD_USERNAME');
  const password = reader.text('SNAPSHOT_ETCD_PASSWORD');
  if (name !== undefined && password === undefined) reader.missing('SNAPSHOT_ETCD_PASSWORD');
  if (name === undefined && password !== undefined) reader.missing('SNAPSHOT_ETCD_USERNAME');
  const open = endpoints.filter((url) => url.startsWith('http:') && !isLoopback(new URL(url).hostname));
  if (password !== undefined && open.length > 0) {
    reader.problem(
      'SNAPSHOT_ETCD_ENDPOINTS',
      `must begin with https://: the password must not be sent unencrypted to ${open.join(', ')}`,
    );
  }
  const hasPlain = endpoints.some((endpoint) => endpoint.startsWith('http:'));
  return {
    endpoints,
    tls: endpoints.some((endpoint) => endpoint.startsWith('https:')) ? tls : undefined,
    unusedTls: hasPlain ? TLS_VARIABLES.filter((variable) => reader.isSet(variable)) : [],
    user: name === undefined || password === undefined ? undefined : { name, password: new Secret(password) },
  };
}

function readRetention(reader: Reader): RetentionConfig {
  return {
    rules: {
      last: reader.number('SNAPSHOT_KEEP_LAST'),
      hourly: reader.number('SNAPSHOT_KEEP_HOURLY'),
      daily: reader.number('SNAPSHOT_KEEP_DAILY'),
      weekly: reader.number('SNAPSHOT_KEEP_WEEKLY'),
      monthly: reader.number('SNAPSHOT_KEEP_MONTHLY'),
      yearly: reader.number('SNAPSHOT_KEEP_YEARLY'),
      within: reader.number('SNAPSHOT_KEEP_WITHIN'),
    },
    previousClusterIds: reader.text('SNAPSHOT_PREVIOUS_CLUSTER_IDS')?.split(/[\s,]+/) ?? [],
  };
}

/** The settings of the log: read first, and never a reason to fail, because the log reports everything else. */
export function readLogConfig(env: Environment, reader = new Reader(env)): LogConfig {
  return {
    format: reader.choice('SNAPSHOT_LOG_FORMAT', LOG_FORMATS),
    level: reader.choice('SNAPSHOT_LOG_LEVEL', LOG_LEVELS) ?? 'info',
  };
}

/** Characters. A shorter text is not a token, and would be masked wherever it occurs by chance. */
const MIN_TOKEN = 8;

/** Whose paths can contain a token. */
const SECRET_URLS = ['SNAPSHOT_PING_URL', 'SNAPSHOT_NOTIFY_URL'];

const SECRETS_WITHIN = [/AccountKey=([^;]+)/g, /SharedAccessSignature=([^;]+)/g, /\bsig=([^&;]+)/g];

/**
 * Every secret that is set, used or not: no output may contain it. Besides the secret variables these are the password of a
 * proxy, the header that authenticates to the endpoint of a managed identity, the passwords of the URLs for monitoring, the paths of
 * ping and webhook with their longer parts, and a value that is not a path in place of one, with each of its lines.
 */
export function secretsOf(env: Environment): Secret[] {
  const value = (name: string): string => cleaned(env[name]) ?? '';
  const variables = Object.entries(VARIABLES);
  const secrets = variables.filter(([, row]) => 'secret' in row).map(([name]) => value(name));
  const misplaced = variables
    .filter(([name, { type }]) => type === 'path' && pathProblem(value(name)) !== undefined)
    .map(([name]) => value(name));
  const lines = misplaced.flatMap((text) => text.split(/\s*\n\s*/));
  const passwords = ['SNAPSHOT_PUSHGATEWAY_URL', ...SECRET_URLS].flatMap((name) => {
    const [, user, password] = /\/\/([^\s/:@]*):([^\s/@]*)@/.exec(value(name)) ?? [];
    return password === undefined ? [] : [password, `${user}:${password}`];
  });
  const paths = SECRET_URLS.map((name) => /^\w+:\/\/[^/?#]*([^#]*)/.exec(value(name))?.[1] ?? '');
  const parts = paths.flatMap((path) => path.split(/[/?&]/)).filter((part) => part.length >= 2 * MIN_TOKEN);
  const tokens = [...paths.filter((path) => path.length >= MIN_TOKEN), ...parts];
  const own = [...secrets, value('IDENTITY_HEADER')];
  const within = SECRETS_WITHIN.flatMap((pattern) =>
    own.flatMap((text) => [...text.matchAll(pattern)].map(([, secret = '']) => secret)),
  );
  return [...own, ...within, ...proxyPasswords(env), ...passwords, ...tokens, ...misplaced, ...lines]
    .flatMap((text) => (text === '' ? [] : [text, decoded(text)]))
    .map((text) => new Secret(text));
}

/** A signature or a password is percent-encoded in a URL. */
function decoded(value: string): string {
  try {
    return decodeURIComponent(value);
  } catch {
    return value;
  }
}

/** A warning for each unknown `SNAPSHOT_…` variable, and for entries of NO_PROXY that are ignored. */
export function unknownVariables(env: Environment): string[] {
  const unknown = Object.keys(env).filter((name) => name.startsWith('SNAPSHOT_') && !Object.hasOwn(VARIABLES, name));
  const warnings = unknown.map((name) => {
    const meant = nearest(name, Object.keys(VARIABLES), 6);
    return `${name} is not a known variable and is ignored${meant === undefined ? '' : `; the most similar variable is ${meant}`}`;
  });
  return [...warnings, ...proxyWarnings(env)];
}

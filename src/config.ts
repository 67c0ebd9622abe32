import { LOG_FORMATS, LOG_LEVELS, type LogFormat, type LogLevel } from './log.ts';
import { cleaned, type Environment, Reader, type Rule } from './reader.ts';
import { Secret } from './secret.ts';
import { nearestName, VARIABLES, type VariableName } from './variables.ts';

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

export type StorageCredential =
  | { readonly kind: 'key'; readonly account: string; readonly key: Secret }
  | { readonly kind: 'connection-string'; readonly connectionString: Secret }
  | {
      readonly kind: 'principal';
      readonly appId: string;
      readonly password: Secret;
      readonly tenant: string;
      readonly authorityHost: string;
    };

export interface StorageConfig {
  readonly credential: StorageCredential;
  /** Credentials that are set too and are not used: named in the log. */
  readonly unused: readonly StorageCredential['kind'][];
  /** URL of the blob service; a connection string brings its own. */
  readonly endpoint: string | undefined;
  readonly container: string;
  readonly prefix: string;
}

export interface Config {
  /** Undefined where the command does not need it. */
  readonly etcd: EtcdConfig | undefined;
  readonly storage: StorageConfig | undefined;
  /** Number of newest snapshots to keep; undefined = nothing is ever deleted. */
  readonly keepLast: number | undefined;
  /** Seconds for the whole run. */
  readonly timeout: number;
  readonly readBack: 'full' | 'off';
  /** Where to spill what the upload is too slow for; undefined = nowhere. */
  readonly spoolDir: string | undefined;
  /** Bytes of database up to which HashKV is compared with other members. */
  readonly hashKvMaxSize: number;
}

export interface LogConfig {
  readonly format: LogFormat | undefined;
  readonly level: LogLevel;
}

const CLOUDS = {
  public: { authority: 'https://login.microsoftonline.com', suffix: 'blob.core.windows.net' },
  china: { authority: 'https://login.chinacloudapi.cn', suffix: 'blob.core.chinacloudapi.cn' },
  usgov: { authority: 'https://login.microsoftonline.us', suffix: 'blob.core.usgovcloudapi.net' },
} as const;

/** Which halves of the configuration a command needs; another half may be absent, and is not looked at. */
export interface Needs {
  readonly etcd: boolean;
  readonly storage: boolean;
}

/**
 * Reads the whole configuration.
 * @throws UsageError that lists every fault at once, each with its variable, what is wrong and an example
 */
export function readConfig(env: Environment, needs: Needs): Config {
  const reader = new Reader(env);
  const config: Config = {
    etcd: needs.etcd ? readEtcd(reader) : undefined,
    storage: needs.storage ? readStorage(reader) : undefined,
    keepLast: reader.count('SNAPSHOT_KEEP_LAST'),
    timeout: reader.seconds('SNAPSHOT_TIMEOUT') ?? 570,
    readBack: reader.choice('SNAPSHOT_READ_BACK', ['full', 'off']) ?? 'full',
    spoolDir: reader.text('SNAPSHOT_SPOOL_DIR'),
    hashKvMaxSize: reader.size('SNAPSHOT_HASHKV_MAX_SIZE') ?? 2 ** 30,
  };
  readLogConfig(env, reader);
  reader.throwFaults();
  return config;
}

/** The log's own settings: read first, and never a reason to fail, so that everything else can be reported. */
export function readLogConfig(env: Environment, reader = new Reader(env)): LogConfig {
  return {
    format: reader.choice('SNAPSHOT_LOG_FORMAT', LOG_FORMATS),
    level: reader.choice('SNAPSHOT_LOG_LEVEL', LOG_LEVELS) ?? 'info',
  };
}

/** Every secret that is set, used or not: what no output may contain. */
export function secretsOf(env: Environment): Secret[] {
  const names = (Object.keys(VARIABLES) as VariableName[]).filter((name) => 'secret' in VARIABLES[name]);
  const values = names.map((name) => cleaned(env[name])).filter((value) => value !== undefined);
  const keysInside = values.flatMap((value) => [...value.matchAll(/(?:AccountKey|SharedAccessSignature)=([^;]+)/g)]);
  return [...values, ...keysInside.map((match) => match[1] ?? '')].map((value) => new Secret(value));
}

/** A sentence for every `SNAPSHOT_…` variable that means nothing to this program. */
export function unknownVariables(env: Environment): string[] {
  return Object.keys(env)
    .filter((name) => name.startsWith('SNAPSHOT_') && !(name in VARIABLES))
    .map((name) => {
      const nearest = nearestName(name);
      return `${name} is not a known variable and is ignored${nearest === undefined ? '' : `; did you mean ${nearest}?`}`;
    });
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
  return {
    endpoints,
    tls: endpoints.some((endpoint) => endpoint.startsWith('https:')) ? tls : undefined,
    user: name === undefined || password === undefined ? undefined : { name, password: new Secret(password) },
  };
}

function readStorage(reader: Reader): StorageConfig {
  const cloud = CLOUDS[reader.choice('SNAPSHOT_AZURE_CLOUD', ['public', 'china', 'usgov']) ?? 'public'];
  const account = reader.text('SNAPSHOT_AZURE_ACCOUNT_NAME', ACCOUNT_RULE);
  const { credential, unused } = readCredential(reader, account, cloud.authority);
  const endpoint = reader.blobEndpoint('SNAPSHOT_AZURE_BLOB_ENDPOINT', account);
  if (credential.kind === 'principal' && account === undefined && endpoint === undefined) {
    reader.missing('SNAPSHOT_AZURE_ACCOUNT_NAME');
  }
  if (credential.kind === 'principal' && endpoint?.startsWith('http:') === true) {
    reader.fault(
      'SNAPSHOT_AZURE_BLOB_ENDPOINT',
      'must be https for a service principal: its token would travel in clear',
    );
  }
  return {
    credential,
    unused,
    endpoint: endpoint ?? (account === undefined ? undefined : `https://${account}.${cloud.suffix}`),
    container:
      reader.text('SNAPSHOT_AZURE_CONTAINER_NAME', CONTAINER_RULE) ?? reader.missing('SNAPSHOT_AZURE_CONTAINER_NAME'),
    prefix: reader.text('SNAPSHOT_BLOB_PREFIX', PREFIX_RULE) ?? '',
  };
}

/** The first complete set wins in the order connection string, key, principal, unless SNAPSHOT_AZURE_AUTH names one. */
function readCredential(
  reader: Reader,
  account: string | undefined,
  authority: string,
): { credential: StorageCredential; unused: StorageCredential['kind'][] } {
  const connectionString = reader.connectionString('SNAPSHOT_AZURE_CONNECTION_STRING', account);
  const key = reader.text('SNAPSHOT_AZURE_ACCOUNT_KEY', KEY_RULE);
  const appId = reader.text('SNAPSHOT_AZURE_PRINCIPAL_APPID', DIRECTORY_ID_RULE);
  const password = reader.text('SNAPSHOT_AZURE_PRINCIPAL_PASSWORD');
  const tenant = reader.text('SNAPSHOT_AZURE_PRINCIPAL_TENANT', DIRECTORY_ID_RULE);
  const authorityHost = reader.origin('SNAPSHOT_AZURE_AUTHORITY_HOST') ?? authority;
  const present: StorageCredential['kind'][] = [];
  if (connectionString !== undefined) present.push('connection-string');
  if (key !== undefined) present.push('key');
  if (appId !== undefined || password !== undefined || tenant !== undefined) present.push('principal');

  const asked = reader.choice('SNAPSHOT_AZURE_AUTH', ['auto', 'key', 'connection-string', 'principal']) ?? 'auto';
  const kind = asked === 'auto' ? (present[0] ?? 'key') : asked;
  const unused = present.filter((other) => other !== kind);
  switch (kind) {
    case 'connection-string':
      return {
        credential: {
          kind,
          connectionString: new Secret(connectionString ?? reader.missing('SNAPSHOT_AZURE_CONNECTION_STRING')),
        },
        unused,
      };
    case 'key':
      return {
        credential: {
          kind,
          account: account ?? reader.missing('SNAPSHOT_AZURE_ACCOUNT_NAME'),
          key: new Secret(key ?? reader.missing('SNAPSHOT_AZURE_ACCOUNT_KEY')),
        },
        unused,
      };
    case 'principal':
      return {
        credential: {
          kind,
          appId: appId ?? reader.missing('SNAPSHOT_AZURE_PRINCIPAL_APPID'),
          password: new Secret(password ?? reader.missing('SNAPSHOT_AZURE_PRINCIPAL_PASSWORD')),
          tenant: tenant ?? reader.missing('SNAPSHOT_AZURE_PRINCIPAL_TENANT'),
          authorityHost,
        },
        unused,
      };
  }
}

const ACCOUNT_RULE: Rule = { pattern: /^[a-z0-9]{3,24}$/, demand: 'must be 3 to 24 lower-case letters and digits' };
const KEY_RULE: Rule = {
  pattern: /^[A-Za-z0-9+/]{86}==$/,
  demand: 'must be the base64 text of 64 bytes, as the portal shows it (88 characters)',
};
const CONTAINER_RULE: Rule = {
  pattern: /^(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$/,
  demand: 'must be 3 to 63 lower-case letters, digits and single hyphens inside',
};
const DIRECTORY_ID_RULE: Rule = { pattern: /^[A-Za-z0-9.-]+$/, demand: 'must be an id such as the example' };
const PREFIX_RULE: Rule = {
  pattern: /^(?!.*(\/\/|\.\/|\.$))[A-Za-z0-9][A-Za-z0-9._/-]{0,199}$/,
  demand:
    'must be letters, digits and ._-/ only, without a leading slash, an empty part or a part that ends with a dot',
};

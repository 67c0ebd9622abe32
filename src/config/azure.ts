import { isIP } from 'node:net';
import { Secret } from '../secret.ts';
import { excerpt } from '../text.ts';
import { isLoopback } from '../url.ts';
import type { Environment, Reader } from './environment.ts';
import { TYPES } from './value-types.ts';
import type { VariableName } from './variables.ts';

/** The sources of a credential, as logs and messages call them, in the order in which `auto` looks for them. */
export const CREDENTIAL_NAMES = {
  'connection-string': 'connection string',
  key: 'account key',
  sas: 'SAS token',
  principal: 'service principal',
  'workload-identity': 'workload identity',
  'managed-identity': 'managed identity',
} as const;

export type CredentialSource = keyof typeof CREDENTIAL_NAMES;

/** An identity that gets tokens from Entra ID. `authorityHost` is an origin, such as `https://login.microsoftonline.com`. */
export type Identity =
  | {
      readonly kind: 'principal';
      readonly clientId: string;
      readonly tenant: string;
      readonly authorityHost: string;
      readonly proof: { readonly password: Secret } | { readonly certificateFile: string };
    }
  | {
      readonly kind: 'workload-identity';
      readonly clientId: string;
      readonly tenant: string;
      readonly authorityHost: string;
      readonly tokenFile: string;
    }
  /** Without a client id the system-assigned one. The SDK finds the endpoint of the machine. */
  | { readonly kind: 'managed-identity'; readonly clientId: string | undefined };

export type Credential =
  | { readonly kind: 'key'; readonly account: string; readonly key: Secret }
  /** Without a question mark. */
  | { readonly kind: 'sas'; readonly token: Secret }
  | Identity;

/** A credential, and the endpoint that it is for. */
export interface Access {
  readonly credential: Credential;
  readonly source: CredentialSource;
  /** Other sources that are set but not used, for the log. */
  readonly unused: readonly CredentialSource[];
  /** URL of the blob service, without a slash at the end. */
  readonly endpoint: string;
  /** Undefined where only the endpoint is known. */
  readonly account: string | undefined;
  /** Of the storage services of the cloud, such as `core.windows.net`. */
  readonly suffix: string;
}

/**
 * Whether both are one blob endpoint with one credential. The proof of an identity does not matter. No two accounts have the same
 * key or token: the names of their endpoints do not matter then.
 */
export function isSameAccess(one: Access, other: Access): boolean {
  const [a, b] = [one.credential, other.credential];
  if (a.kind === 'key') return b.kind === 'key' && a.key.reveal() === b.key.reveal();
  if (a.kind === 'sas') return b.kind === 'sas' && a.token.reveal() === b.token.reveal();
  return one.endpoint === other.endpoint && a.kind === b.kind && a.clientId === b.clientId;
}

interface SourceVariables {
  /** The source is meant if one of these is set. */
  readonly signs: readonly VariableName[];
  /** Of each of these, one must be set. */
  readonly needed: readonly (readonly [VariableName, ...VariableName[]])[];
}

const ACCOUNT = ['SNAPSHOT_AZURE_ACCOUNT_NAME', 'SNAPSHOT_AZURE_BLOB_ENDPOINT'] as const;
const PROOF = ['SNAPSHOT_AZURE_PRINCIPAL_PASSWORD', 'SNAPSHOT_AZURE_PRINCIPAL_CERTIFICATE_FILE'] as const;
const CONNECTION_STRING = 'SNAPSHOT_AZURE_CONNECTION_STRING';

const SOURCES: Readonly<Record<CredentialSource, SourceVariables>> = {
  'connection-string': { signs: [CONNECTION_STRING], needed: [[CONNECTION_STRING]] },
  key: {
    signs: ['SNAPSHOT_AZURE_ACCOUNT_KEY'],
    needed: [['SNAPSHOT_AZURE_ACCOUNT_NAME'], ['SNAPSHOT_AZURE_ACCOUNT_KEY']],
  },
  sas: { signs: ['SNAPSHOT_AZURE_SAS_TOKEN'], needed: [['SNAPSHOT_AZURE_SAS_TOKEN'], ACCOUNT] },
  principal: {
    signs: ['SNAPSHOT_AZURE_PRINCIPAL_APPID', 'SNAPSHOT_AZURE_PRINCIPAL_TENANT', ...PROOF],
    needed: [['SNAPSHOT_AZURE_PRINCIPAL_APPID'], ['SNAPSHOT_AZURE_PRINCIPAL_TENANT'], PROOF, ACCOUNT],
  },
  'workload-identity': {
    signs: ['AZURE_FEDERATED_TOKEN_FILE'],
    needed: [['AZURE_FEDERATED_TOKEN_FILE'], ['AZURE_CLIENT_ID'], ['AZURE_TENANT_ID'], ACCOUNT],
  },
  // Variables do not show whether a virtual machine has one, and a failing request takes long: it must be named.
  'managed-identity': { signs: [], needed: [ACCOUNT] },
};
const SOURCE_ORDER = Object.keys(SOURCES) as CredentialSource[];

/** Azure's clouds, each with its token endpoint and the suffix of its storage services. */
const CLOUDS = {
  public: { authority: 'https://login.microsoftonline.com', suffix: 'core.windows.net' },
  china: { authority: 'https://login.chinacloudapi.cn', suffix: 'core.chinacloudapi.cn' },
  usgov: { authority: 'https://login.microsoftonline.us', suffix: 'core.usgovcloudapi.net' },
} as const;
const CLOUD_NAMES = Object.keys(CLOUDS) as (keyof typeof CLOUDS)[];

/** The same clouds as Azure's own tools call them. */
const CLOUD_ALIASES = new Map<string, keyof typeof CLOUDS>([
  ...CLOUD_NAMES.map((name) => [name, name] as const),
  ['azurecloud', 'public'],
  ['azurepubliccloud', 'public'],
  ['azurechinacloud', 'china'],
  ['azureusgovernment', 'usgov'],
  ['azureusgovernmentcloud', 'usgov'],
]);

/**
 * Reads the credential in use and its endpoint, and checks no other. Problems go to the reader.
 * @param writes whether snapshots are going to be stored, which a SAS token must allow
 */
export function readAccess(reader: Reader, writes: boolean): Access {
  const cloud = CLOUDS[reader.choice('SNAPSHOT_AZURE_CLOUD', CLOUD_NAMES, CLOUD_ALIASES) ?? 'public'];
  const named = reader.text('SNAPSHOT_AZURE_ACCOUNT_NAME');
  const { source, unused } = chooseSource(reader);
  const connection = source === 'connection-string' ? readConnectionString(reader, named, cloud.suffix) : undefined;
  const account = connection?.account ?? named;
  const endpoint = readEndpoint(reader, account, connection?.endpoint) ?? `https://${account}.blob.${cloud.suffix}`;
  const credential =
    source === 'principal' || source === 'workload-identity' || source === 'managed-identity'
      ? readIdentity(reader, source, cloud.authority)
      : readKeyOrSas(reader, source, account, connection);
  if (credential.kind === 'sas') {
    const name = connection === undefined ? 'SNAPSHOT_AZURE_SAS_TOKEN' : CONNECTION_STRING;
    for (const problem of sasProblems(credential.token.reveal(), endpoint, writes)) reader.problem(name, problem);
  } else if (credential.kind !== 'key' && endpoint.startsWith('http:')) {
    reader.problem('SNAPSHOT_AZURE_BLOB_ENDPOINT', 'must begin with https://: the token must not be sent unencrypted');
  }
  return { credential, source, unused, endpoint, account, suffix: cloud.suffix };
}

/**
 * The source that SNAPSHOT_AZURE_AUTH names, or else the first whose variables are complete, or else the first with a variable
 * set (specification: sources and precedence).
 */
function chooseSource(reader: Reader): Pick<Access, 'source' | 'unused'> {
  const isSet = (name: VariableName): boolean => reader.isSet(name);
  const begun = SOURCE_ORDER.filter((source) => SOURCES[source].signs.some(isSet));
  const complete = begun.find((source) => SOURCES[source].needed.every((names) => names.some(isSet)));
  const named = reader.choice('SNAPSHOT_AZURE_AUTH', ['auto', ...SOURCE_ORDER]) ?? 'auto';
  const source = named === 'auto' ? (complete ?? begun[0] ?? 'key') : named;
  for (const names of SOURCES[source].needed) if (!names.some(isSet)) reader.missing(names[0]);
  return { source, unused: begun.filter((other) => other !== source) };
}

interface ConnectionString {
  readonly account: string | undefined;
  readonly key: string | undefined;
  readonly sas: string | undefined;
  readonly endpoint: string | undefined;
}

/**
 * The SDK's own parser reports only the first problem, and takes long to load. No message quotes the string: a typing error in the
 * name of a part would show the part.
 * @param account of its own variable, which must be the same
 * @param suffix of the cloud's services, if the string has none
 */
function readConnectionString(reader: Reader, account: string | undefined, suffix: string): ConnectionString {
  const text = reader.text(CONNECTION_STRING) ?? '';
  // A value may contain equals signs: the padding of a key, the fields of a SAS token.
  const parts = new Map([...text.matchAll(/([^;=]+)=([^;]*)/g)].map(([, name = '', value]) => [name.trim(), value]));
  const [own, key, sas] = [parts.get('AccountName'), parts.get('AccountKey'), parts.get('SharedAccessSignature')];
  const protocol = parts.get('DefaultEndpointsProtocol') ?? 'https';
  const derived = own && `${protocol}://${own}.blob.${parts.get('EndpointSuffix') ?? suffix}`;
  const endpoint = parts.get('BlobEndpoint') ?? derived;
  if (text === '') return { account: own, key, sas, endpoint };
  if (endpoint === undefined || (key ?? sas) === undefined || (key !== undefined && own === undefined)) {
    reader.problem(CONNECTION_STRING, 'must be a connection string as the portal shows it');
  }
  if (key !== undefined && !TYPES.accountKey.pattern.test(key)) {
    reader.problem(CONNECTION_STRING, 'has an AccountKey that is not 64 bytes in base64');
  }
  if (account !== undefined && own !== undefined && own !== account) {
    reader.problem(CONNECTION_STRING, `is for account ${own}, but SNAPSHOT_AZURE_ACCOUNT_NAME is ${account}`);
  }
  return { account: own, key, sas, endpoint };
}

function readKeyOrSas(
  reader: Reader,
  source: 'connection-string' | 'key' | 'sas',
  account = '',
  connection: ConnectionString | undefined,
): Credential {
  const key = source === 'key' ? (reader.text('SNAPSHOT_AZURE_ACCOUNT_KEY') ?? '') : connection?.key;
  if (key !== undefined) return { kind: 'key', account, key: new Secret(key) };
  const token = (source === 'sas' ? reader.text('SNAPSHOT_AZURE_SAS_TOKEN') : connection?.sas) ?? '';
  // In a URL a plus is a space, which a signature cannot contain: a decoded token means the plus.
  const encoded = token.replace(/^\?/, '').replace(/(^|&)sig=[^&]*/, (field) => field.replaceAll(/[+ ]/g, '%2B'));
  return { kind: 'sas', token: new Secret(encoded) };
}

/** @param authority of the cloud, if no variable names another */
function readIdentity(
  reader: Reader,
  kind: 'principal' | 'workload-identity' | 'managed-identity',
  authority: string,
): Identity {
  if (kind === 'managed-identity') return { kind, clientId: reader.text('SNAPSHOT_AZURE_MANAGED_IDENTITY_CLIENT_ID') };
  const named = reader.origin('SNAPSHOT_AZURE_AUTHORITY_HOST');
  if (kind === 'workload-identity') {
    return {
      kind,
      clientId: reader.text('AZURE_CLIENT_ID') ?? '',
      tenant: reader.text('AZURE_TENANT_ID') ?? '',
      authorityHost: named ?? reader.origin('AZURE_AUTHORITY_HOST') ?? authority,
      tokenFile: reader.text('AZURE_FEDERATED_TOKEN_FILE') ?? '',
    };
  }
  const certificateFile = reader.text('SNAPSHOT_AZURE_PRINCIPAL_CERTIFICATE_FILE');
  const password = new Secret(reader.text('SNAPSHOT_AZURE_PRINCIPAL_PASSWORD') ?? '');
  return {
    kind,
    clientId: reader.text('SNAPSHOT_AZURE_PRINCIPAL_APPID') ?? '',
    tenant: reader.text('SNAPSHOT_AZURE_PRINCIPAL_TENANT') ?? '',
    authorityHost: named ?? authority,
    proof: certificateFile === undefined ? { password } : { certificateFile },
  };
}

/** Hosts of the service itself, whose names contain the account, so that the path is empty. */
const SERVICE_HOST = /\.blob\.(core|storage)\./;

/** The URL of the blob service without a slash at the end; its own variable takes precedence over a connection string. */
function readEndpoint(reader: Reader, account: string | undefined, connected: string | undefined): string | undefined {
  const named = reader.text('SNAPSHOT_AZURE_BLOB_ENDPOINT');
  const name = named === undefined ? CONNECTION_STRING : 'SNAPSHOT_AZURE_BLOB_ENDPOINT';
  const value = named ?? connected;
  if (value === undefined) return undefined;
  const url = URL.canParse(value) ? new URL(value) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || `${url.search}${url.hash}${url.username}` !== '') {
    reader.problem(name, 'must be the full URL of the blob service');
    return '';
  }
  if (url.protocol === 'http:' && !isLoopback(url.hostname)) {
    reader.problem(name, 'must begin with https://: snapshots must not be sent unencrypted');
  }
  const [first, second] = url.pathname.split('/').filter((part) => part !== '');
  const isContainer = first === reader.text('SNAPSHOT_AZURE_CONTAINER_NAME') && first !== account;
  if (first !== undefined && (second !== undefined || isContainer || SERVICE_HOST.test(url.hostname))) {
    const how = 'set the container in SNAPSHOT_AZURE_CONTAINER_NAME only';
    reader.problem(name, `must be the URL of the blob service, not of a container: ${how}`);
  }
  // An address cannot contain the account, so the account is in the path, as with Azurite.
  const isAddress = isIP(url.hostname.replace(/^\[|\]$/g, '')) !== 0 || url.hostname === 'localhost';
  if (url.pathname === '/' && isAddress && account !== undefined) url.pathname = `/${account}`;
  return url.href.replace(/\/$/, '');
}

/**
 * The problems that a SAS token itself shows, each completing "SNAPSHOT_AZURE_SAS_TOKEN …". Only Azure knows whether the signature is
 * valid, and the rights of a stored access policy (specification: rights; https-only tokens).
 */
function sasProblems(token: string, endpoint: string, writes: boolean): string[] {
  if (token === '') return [];
  const fields = new URLSearchParams(token);
  if (!fields.has('sig') || !fields.has('sv') || token.includes('://')) {
    return ['must be a SAS token as the portal shows it, without a URL before it'];
  }
  const [expiry, start] = [new Date(fields.get('se') ?? ''), new Date(fields.get('st') ?? '')];
  const now = new Date();
  const lacks = (field: string, letters: RegExp): boolean =>
    fields.has(field) && !letters.test(fields.get(field) ?? '');
  const problems: string[] = [];
  if (expiry <= now) problems.push(`expired on ${expiry.toISOString()}`);
  if (start > now) problems.push(`is not valid before ${start.toISOString()}`);
  // A token for an account names services and kinds of resource; sr=d is a directory, which is a prefix.
  if (lacks('sr', /^[cd]$/) || lacks('ss', /b/) || lacks('srt', /o/)) {
    problems.push(
      'must be for a container, or for the blob service of the account including its objects (ss=b, srt=o)',
    );
  }
  if (writes && lacks('sp', /[cw]/)) problems.push('grants no permission to write (w) or create (c)');
  if (fields.get('spr') === 'https' && endpoint.startsWith('http:')) {
    problems.push('allows https only, but the endpoint is http');
  }
  return problems;
}

/** The proxy that the SDK uses, and the hosts that it reaches directly. */
export function proxyOf(env: Environment): { HTTPS_PROXY?: string; NO_PROXY?: string } {
  const [proxy] = proxies(env);
  const direct = env['NO_PROXY'] ?? env['no_proxy'];
  return { ...(proxy !== undefined && { HTTPS_PROXY: proxy }), ...(direct !== undefined && { NO_PROXY: direct }) };
}

/** The SDK takes the value as it is, quotation marks included, and its error for an invalid URL does not name the variable. */
export function checkProxy(reader: Reader, env: Environment): void {
  const [value] = proxies(env);
  if (value === undefined || (/^https?:\/\//.test(value) && URL.canParse(value))) return;
  reader.problem('HTTPS_PROXY', '(or HTTP_PROXY, ALL_PROXY) must be a URL that begins with http:// or https://');
}

/** A warning for entries of NO_PROXY that the SDK does not understand, if there is a proxy. */
export function proxyWarnings(env: Environment): string[] {
  const { HTTPS_PROXY: proxy, NO_PROXY: direct = '' } = proxyOf(env);
  const entries = direct.split(',').map((entry) => entry.trim());
  const ignored = entries.filter((entry) => /\/\d+$|^\*|:\d+$/.test(entry)).map((entry) => excerpt(entry, 60));
  if (proxy === undefined || ignored.length === 0) return [];
  return [`NO_PROXY accepts whole host names and suffixes such as .example.com; ignored: ${ignored.join(', ')}.`];
}

export function proxyPasswords(env: Environment): string[] {
  return proxies(env).flatMap((value) => (URL.canParse(value) ? [new URL(value).password] : []));
}

/** In the order in which the SDK looks for them. */
function proxies(env: Environment): string[] {
  const names = ['HTTPS_PROXY', 'https_proxy', 'ALL_PROXY', 'all_proxy', 'HTTP_PROXY', 'http_proxy'];
  return names.map((name) => env[name] ?? '').filter((value) => value !== '');
}

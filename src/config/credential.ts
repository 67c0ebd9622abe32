import { Secret } from '../secret.ts';
import { ACCOUNT_RULE, blobUrl, CLOUD_ALIASES, CLOUDS, DIRECTORY_ID_RULE, KEY_RULE, sasFaults } from './azure.ts';
import type { Reader } from './variable-reader.ts';
import type { VariableName } from './variables.ts';

/** Where a credential can come from, as logs and messages call it, in the order in which `auto` asks. */
export const CREDENTIAL_NAMES = {
  'connection-string': 'connection string',
  key: 'account key',
  sas: 'SAS token',
  principal: 'service principal',
  'workload-identity': 'workload identity',
  'managed-identity': 'managed identity',
} as const;

export type CredentialSource = keyof typeof CREDENTIAL_NAMES;
type IdentitySource = 'principal' | 'workload-identity' | 'managed-identity';

interface Variables {
  /** One of these is set where the source is meant at all. */
  readonly signs: readonly VariableName[];
  /** Of each of these, one must be set. */
  readonly needed: readonly (readonly [VariableName, ...VariableName[]])[];
}

const ACCOUNT = ['SNAPSHOT_AZURE_ACCOUNT_NAME', 'SNAPSHOT_AZURE_BLOB_ENDPOINT'] as const;
const PROOF = ['SNAPSHOT_AZURE_PRINCIPAL_PASSWORD', 'SNAPSHOT_AZURE_PRINCIPAL_CERTIFICATE_FILE'] as const;

const SOURCES: Readonly<Record<CredentialSource, Variables>> = {
  'connection-string': {
    signs: ['SNAPSHOT_AZURE_CONNECTION_STRING'],
    needed: [['SNAPSHOT_AZURE_CONNECTION_STRING']],
  },
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
  // Nothing in the environment of a virtual machine tells that it has one, and asking in vain takes long: it must be named.
  'managed-identity': { signs: [], needed: [ACCOUNT] },
};

const SOURCE_ORDER = Object.keys(SOURCES) as CredentialSource[];

interface Choice {
  readonly source: CredentialSource;
  /** Sources that are set too and are not used. */
  readonly unused: readonly CredentialSource[];
}

/**
 * What SNAPSHOT_AZURE_AUTH names, or else the first source whose variables are complete, or else the first that is begun
 * (specification: sources and precedence). What the choice lacks is noted as a fault.
 */
function chooseSource(reader: Reader): Choice {
  const isSet = (name: VariableName): boolean => reader.isSet(name);
  const begun = SOURCE_ORDER.filter((source) => SOURCES[source].signs.some(isSet));
  const complete = begun.find((source) => SOURCES[source].needed.every((names) => names.some(isSet)));
  const asked = reader.choice('SNAPSHOT_AZURE_AUTH', ['auto', ...SOURCE_ORDER]) ?? 'auto';
  const source = asked === 'auto' ? (complete ?? begun[0] ?? 'key') : asked;
  for (const names of SOURCES[source].needed) {
    if (!names.some(isSet)) reader.missing(names[0]);
  }
  return { source, unused: begun.filter((other) => other !== source) };
}

/** What a connection string holds for the blob service. */
interface ConnectionString {
  readonly account: string | undefined;
  readonly key: string | undefined;
  readonly sas: string | undefined;
  /** As it is written, or made of the account's name as the string demands. */
  readonly endpoint: string | undefined;
}

const NAME = 'SNAPSHOT_AZURE_CONNECTION_STRING';

/**
 * @param account named besides, which must be the same
 * @param suffix of the cloud's services, where the string names none
 */
function readConnectionString(reader: Reader, account: string | undefined, suffix: string): ConnectionString {
  const text = reader.text(NAME) ?? '';
  // A value may hold further equals signs: the padding of a key, the fields of a SAS token.
  const parts = new Map(
    [...text.matchAll(/([^;=]+)=([^;]*)/g)].map(([, name = '', value = '']) => [name.trim(), value]),
  );
  const own = parts.get('AccountName');
  const derived = `${parts.get('DefaultEndpointsProtocol') ?? 'https'}://${own}.blob.${parts.get('EndpointSuffix') ?? suffix}`;
  const connection = {
    account: own,
    key: parts.get('AccountKey'),
    sas: parts.get('SharedAccessSignature'),
    endpoint: parts.get('BlobEndpoint') ?? (own === undefined ? undefined : derived),
  };
  if (text !== '') judge(reader, connection, account);
  return connection;
}

/** No fault quotes the string: a part with a typing error in its name would be quoted with it. */
function judge(reader: Reader, { account: own, key, sas, endpoint }: ConnectionString, account?: string): void {
  if (endpoint === undefined || (key ?? sas) === undefined || (key !== undefined && own === undefined)) {
    reader.fault(NAME, 'must be a connection string as the portal shows it');
  }
  if (key !== undefined && !KEY_RULE.pattern.test(key)) {
    reader.fault(NAME, 'has an AccountKey that is not the base64 text of 64 bytes');
  }
  if (account !== undefined && own !== undefined && own !== account) {
    reader.fault(NAME, `is for account ${own}, but SNAPSHOT_AZURE_ACCOUNT_NAME is ${account}`);
  }
}

/** Who asks Entra ID for a token, and what proves it. */
export type Identity = ServicePrincipal | WorkloadIdentity | ManagedIdentity;

interface ServicePrincipal {
  readonly kind: 'principal';
  readonly clientId: string;
  readonly tenant: string;
  readonly proof: { readonly password: Secret } | { readonly certificateFile: string };
  /** Origin, such as `https://login.microsoftonline.com`. */
  readonly authorityHost: string;
}

interface WorkloadIdentity {
  readonly kind: 'workload-identity';
  readonly clientId: string;
  readonly tenant: string;
  readonly tokenFile: string;
  readonly authorityHost: string;
}

/** Its endpoint is a matter of the machine: the SDK finds it. */
interface ManagedIdentity {
  readonly kind: 'managed-identity';
  /** Undefined = the system-assigned one. */
  readonly clientId: string | undefined;
}

/** @param authority the cloud's, where no variable names another */
function readIdentity(reader: Reader, source: IdentitySource, authority: string): Identity {
  // What is missing is noted as a fault already.
  const id = (name: Parameters<Reader['text']>[0]): string => reader.text(name, DIRECTORY_ID_RULE) ?? '';
  const named = reader.origin('SNAPSHOT_AZURE_AUTHORITY_HOST');
  switch (source) {
    case 'principal': {
      const certificateFile = reader.text('SNAPSHOT_AZURE_PRINCIPAL_CERTIFICATE_FILE');
      const password = new Secret(reader.text('SNAPSHOT_AZURE_PRINCIPAL_PASSWORD') ?? '');
      return {
        kind: source,
        clientId: id('SNAPSHOT_AZURE_PRINCIPAL_APPID'),
        tenant: id('SNAPSHOT_AZURE_PRINCIPAL_TENANT'),
        proof: certificateFile === undefined ? { password } : { certificateFile },
        authorityHost: named ?? authority,
      };
    }
    case 'workload-identity':
      return {
        kind: source,
        clientId: id('AZURE_CLIENT_ID'),
        tenant: id('AZURE_TENANT_ID'),
        tokenFile: reader.text('AZURE_FEDERATED_TOKEN_FILE') ?? '',
        authorityHost: named ?? reader.origin('AZURE_AUTHORITY_HOST') ?? authority,
      };
    case 'managed-identity':
      return { kind: source, clientId: reader.text('SNAPSHOT_AZURE_MANAGED_IDENTITY_CLIENT_ID', DIRECTORY_ID_RULE) };
  }
}

/** What a request to Azure proves its right with. */
export type Credential =
  | { readonly kind: 'key'; readonly account: string; readonly key: Secret }
  /** Without a question mark. */
  | { readonly kind: 'sas'; readonly token: Secret }
  | Identity;

/** A credential, and where it is good for. */
export interface Access {
  readonly credential: Credential;
  readonly source: CredentialSource;
  /** Sources that are set too and are not used: named in the log. */
  readonly unused: readonly CredentialSource[];
  /** URL of the blob service, without a slash at the end. */
  readonly endpoint: string;
}

/**
 * Reads the credential in use and its endpoint, and judges no other; whatever is wrong is noted as a fault.
 * @param writes whether snapshots are going to be stored, which a SAS token must allow
 */
export function readAccess(reader: Reader, writes: boolean): Access {
  const cloud = CLOUDS[reader.choice('SNAPSHOT_AZURE_CLOUD', ['public', 'china', 'usgov'], CLOUD_ALIASES) ?? 'public'];
  const named = reader.text('SNAPSHOT_AZURE_ACCOUNT_NAME', ACCOUNT_RULE);
  const { source, unused } = chooseSource(reader);
  const connection = source === 'connection-string' ? readConnectionString(reader, named, cloud.suffix) : undefined;
  const account = connection?.account ?? named;
  const endpoint = readEndpoint(reader, account, connection?.endpoint, cloud.suffix);
  const credential = readCredential(reader, source, account, connection, cloud.authority);
  if (credential.kind === 'sas') {
    const name = connection === undefined ? 'SNAPSHOT_AZURE_SAS_TOKEN' : 'SNAPSHOT_AZURE_CONNECTION_STRING';
    const use = { endpoint, writes, now: new Date() };
    for (const fault of sasFaults(credential.token.reveal(), use)) reader.fault(name, fault);
  } else if (credential.kind !== 'key' && endpoint.startsWith('http:')) {
    reader.fault('SNAPSHOT_AZURE_BLOB_ENDPOINT', 'must be https: the token would travel in clear');
  }
  return { credential, source, unused, endpoint };
}

/** What is named goes before what a connection string or the account's name lead to. */
function readEndpoint(
  reader: Reader,
  account: string | undefined,
  connected: string | undefined,
  suffix: string,
): string {
  const named = reader.text('SNAPSHOT_AZURE_BLOB_ENDPOINT');
  const place = { account, container: reader.text('SNAPSHOT_AZURE_CONTAINER_NAME') };
  if (named !== undefined) return blobUrl(reader, 'SNAPSHOT_AZURE_BLOB_ENDPOINT', named, place);
  if (connected !== undefined) return blobUrl(reader, 'SNAPSHOT_AZURE_CONNECTION_STRING', connected, place);
  return `https://${account}.blob.${suffix}`;
}

/** Where something is missing, which is a fault already, an empty text stands in for it. */
function readCredential(
  reader: Reader,
  source: CredentialSource,
  account = '',
  connection: ConnectionString | undefined,
  authority: string,
): Credential {
  switch (source) {
    case 'connection-string':
      return connection?.key === undefined ? sasToken(connection?.sas) : sharedKey(account, connection.key);
    case 'key':
      return sharedKey(account, reader.text('SNAPSHOT_AZURE_ACCOUNT_KEY', KEY_RULE));
    case 'sas':
      return sasToken(reader.text('SNAPSHOT_AZURE_SAS_TOKEN'));
    default:
      return readIdentity(reader, source, authority);
  }
}

function sharedKey(account: string, key = ''): Credential {
  return { kind: 'key', account, key: new Secret(key) };
}

function sasToken(token = ''): Credential {
  // In the text of a URL a plus is a space, which a signature cannot have: whoever decoded it meant the plus.
  const encoded = token.replace(/^\?/, '').replace(/(^|&)sig=[^&]*/, (field) => field.replaceAll(/[+ ]/g, '%2B'));
  return { kind: 'sas', token: new Secret(encoded) };
}

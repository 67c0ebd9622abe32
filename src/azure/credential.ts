import type { Reader } from '../reader.ts';
import { Secret } from '../secret.ts';
import { type ConnectionString, readConnectionString } from './connectionstring.ts';
import { blobUrl, CLOUD_ALIASES, CLOUDS } from './endpoint.ts';
import { type Identity, readIdentity } from './identity.ts';
import { ACCOUNT_RULE, KEY_RULE } from './rules.ts';
import { sasFaults } from './sas.ts';
import { chooseSource, type CredentialSource } from './source.ts';

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
      return connection?.key === undefined ? sas(connection?.sas) : sharedKey(account, connection.key);
    case 'key':
      return sharedKey(account, reader.text('SNAPSHOT_AZURE_ACCOUNT_KEY', KEY_RULE));
    case 'sas':
      return sas(reader.text('SNAPSHOT_AZURE_SAS_TOKEN'));
    default:
      return readIdentity(reader, source, authority);
  }
}

function sharedKey(account: string, key = ''): Credential {
  return { kind: 'key', account, key: new Secret(key) };
}

function sas(token = ''): Credential {
  // In the text of a URL a plus is a space, which a signature cannot have: whoever decoded it meant the plus.
  const encoded = token.replace(/^\?/, '').replace(/(^|&)sig=[^&]*/, (field) => field.replaceAll(/[+ ]/g, '%2B'));
  return { kind: 'sas', token: new Secret(encoded) };
}

import type { Reader } from '../reader.ts';
import { KEY_RULE } from './rules.ts';

/** What a connection string holds for the blob service. */
export interface ConnectionString {
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
export function readConnectionString(reader: Reader, account: string | undefined, suffix: string): ConnectionString {
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

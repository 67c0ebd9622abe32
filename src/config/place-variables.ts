import type { TYPES } from './value-types.ts';

/** A row of the table of variables. */
export interface Variable {
  readonly type: keyof typeof TYPES;
  readonly example: string;
  readonly meaning: string;
  /** As the table of the documentation shows it. */
  readonly default?: string;
  readonly secret?: true;
}

/** The variables that describe a place for snapshots: account, credential, container and prefix. */
export const PLACE_VARIABLES = {
  SNAPSHOT_AZURE_ACCOUNT_NAME: { type: 'account', example: 'aksenginebackups', meaning: 'Storage account.' },
  SNAPSHOT_AZURE_ACCOUNT_KEY: {
    type: 'accountKey',
    example: 'the 88 characters of key1',
    meaning: 'Key of the storage account.',
    secret: true,
  },
  SNAPSHOT_AZURE_CONTAINER_NAME: {
    type: 'container',
    example: 'my-cluster',
    meaning: 'Container for the snapshots, created when it is missing. One container (or prefix) per cluster.',
  },
  SNAPSHOT_AZURE_PRINCIPAL_APPID: {
    type: 'directoryId',
    example: '1775963c-8414-434d-839c-db5d417c4293',
    meaning: 'Application (client) id of a service principal.',
  },
  SNAPSHOT_AZURE_PRINCIPAL_PASSWORD: {
    type: 'text',
    example: 'the secret value, not the secret id',
    meaning: "The service principal's client secret.",
    secret: true,
  },
  SNAPSHOT_AZURE_PRINCIPAL_TENANT: {
    type: 'directoryId',
    example: '86be0945-a0f3-44c2-8868-9b6aa96b0b62',
    meaning: 'Directory (tenant) id of the service principal.',
  },
  SNAPSHOT_AZURE_PRINCIPAL_CERTIFICATE_FILE: {
    type: 'path',
    example: '/etc/etcd-snapshot/principal.pem',
    meaning:
      "The service principal's certificate and its RSA key, not encrypted, in one PEM file; takes precedence over the secret.",
  },
  SNAPSHOT_AZURE_CONNECTION_STRING: {
    type: 'text',
    example: 'AccountName=aksenginebackups;AccountKey=…;EndpointSuffix=core.windows.net',
    meaning: 'Connection string of the storage account, with `AccountKey` or `SharedAccessSignature`.',
    secret: true,
  },
  SNAPSHOT_AZURE_SAS_TOKEN: {
    type: 'text',
    example: 'sv=2024-11-04&sr=c&sp=rcwl&se=2027-01-01&spr=https&sig=…',
    meaning: 'SAS token for the account or the container.',
    secret: true,
  },
  SNAPSHOT_AZURE_MANAGED_IDENTITY_CLIENT_ID: {
    type: 'directoryId',
    example: '5bd3a0fb-7c5c-4a4e-8b2e-2f4c0a4f6a55',
    meaning: 'Client id of a user-assigned managed identity.',
    default: 'the system-assigned identity',
  },
  SNAPSHOT_AZURE_AUTH: {
    type: 'choice',
    example: 'principal',
    meaning:
      '`connection-string`, `key`, `sas`, `principal`, `workload-identity` or `managed-identity`; `auto` uses the first of these whose variables are all set, but never a managed identity.',
    default: '`auto`',
  },
  SNAPSHOT_AZURE_CLOUD: {
    type: 'choice',
    example: 'usgov',
    meaning: "`public`, `china` or `usgov`, or the name that Azure's tools use, such as `AzureChinaCloud`.",
    default: '`public`',
  },
  SNAPSHOT_AZURE_AUTHORITY_HOST: {
    type: 'origin',
    example: 'https://login.microsoftonline.us',
    meaning: 'Token endpoint of service principals and workload identities.',
    default: 'that of the cloud',
  },
  SNAPSHOT_AZURE_BLOB_ENDPOINT: {
    type: 'url',
    example: 'https://aksenginebackups.privatelink.blob.core.windows.net',
    meaning:
      'Full URL of the blob service, without the container, for private endpoints and Azurite (`http://` on loopback only).',
    default: 'that of the account in the cloud',
  },
  SNAPSHOT_BLOB_PREFIX: { type: 'prefix', example: 'prod-eu/', meaning: 'Prefix of every blob name.', default: 'none' },
} as const satisfies Record<string, Variable>;

type PlaceName = keyof typeof PLACE_VARIABLES;
type CopyName = PlaceName extends infer Name
  ? Name extends `SNAPSHOT_${infer Rest}`
    ? `SNAPSHOT_COPY_${Rest}`
    : never
  : never;

/** The same for the second place, which has the copies. */
export const COPY_VARIABLES = Object.fromEntries(
  Object.entries(PLACE_VARIABLES).map(([name, row]) => [
    name.replace('SNAPSHOT_', 'SNAPSHOT_COPY_'),
    { ...row, meaning: `\`${name}\` of the second place.` },
  ]),
) as Record<CopyName, Variable>;

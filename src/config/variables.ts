import { nearest } from '../text.ts';

interface Variable {
  readonly example: string;
  /** What the value means, as the README's table says it. */
  readonly meaning: string;
  /** As the README's table shows it. */
  readonly default?: string;
  readonly secret?: true;
  /** Names a file or a directory: a value that cannot be a path is refused and never shown. */
  readonly isPath?: true;
}

/** Every variable there is. The README's table is made from this one, in this order. */
export const VARIABLES = {
  SNAPSHOT_ETCD_ENDPOINTS: {
    example: 'https://10.255.255.5:2379,https://10.255.255.6:2379',
    meaning: 'Client URLs of the members, separated by commas. `https://` demands the certificates below.',
  },
  SNAPSHOT_ETCD_CA_FILE: {
    example: '/etc/kubernetes/pki/etcd/ca.crt',
    meaning: "CA that signed the members' certificates, PEM or DER.",
    default: '`/etc/kubernetes/certs/ca.crt`, or found',
    isPath: true,
  },
  SNAPSHOT_ETCD_CERT_FILE: {
    example: '/etc/kubernetes/pki/etcd/healthcheck-client.crt',
    meaning: 'Client certificate, PEM or DER.',
    default: '`/etc/kubernetes/certs/etcdclient.crt`, or found',
    isPath: true,
  },
  SNAPSHOT_ETCD_KEY_FILE: {
    example: '/etc/kubernetes/pki/etcd/healthcheck-client.key',
    meaning: "The client certificate's private key, PEM or DER, not encrypted.",
    default: '`/etc/kubernetes/certs/etcdclient.key`, or found',
    isPath: true,
  },
  SNAPSHOT_ETCD_USERNAME: {
    example: 'backup',
    meaning: 'User with the role `root`, where authentication is on and the client certificate names no such user.',
  },
  SNAPSHOT_ETCD_PASSWORD: {
    example: "the user's password",
    meaning: "The user's password; endpoints must then be https (or on loopback).",
    secret: true,
  },
  SNAPSHOT_AZURE_ACCOUNT_NAME: { example: 'aksenginebackups', meaning: 'Storage account.' },
  SNAPSHOT_AZURE_ACCOUNT_KEY: {
    example: 'the 88 characters of key1',
    meaning: 'Key of the storage account.',
    secret: true,
  },
  SNAPSHOT_AZURE_CONTAINER_NAME: {
    example: 'my-cluster',
    meaning: 'Container for the snapshots, created when it is missing. One container (or prefix) per cluster.',
  },
  SNAPSHOT_AZURE_PRINCIPAL_APPID: {
    example: '1775963c-8414-434d-839c-db5d417c4293',
    meaning: 'Application (client) id of a service principal.',
  },
  SNAPSHOT_AZURE_PRINCIPAL_PASSWORD: {
    example: 'the secret value, not the secret id',
    meaning: "The service principal's client secret.",
    secret: true,
  },
  SNAPSHOT_AZURE_PRINCIPAL_TENANT: {
    example: '86be0945-a0f3-44c2-8868-9b6aa96b0b62',
    meaning: 'Directory (tenant) id of the service principal.',
  },
  SNAPSHOT_AZURE_PRINCIPAL_CERTIFICATE_FILE: {
    example: '/etc/etcd-snapshot/principal.pem',
    meaning:
      "The service principal's certificate and its RSA key, not encrypted, in one PEM file; goes before the secret.",
    isPath: true,
  },
  SNAPSHOT_AZURE_CONNECTION_STRING: {
    example: 'AccountName=aksenginebackups;AccountKey=…;EndpointSuffix=core.windows.net',
    meaning: 'Connection string of the storage account, with `AccountKey` or `SharedAccessSignature`.',
    secret: true,
  },
  SNAPSHOT_AZURE_SAS_TOKEN: {
    example: 'sv=2024-11-04&sr=c&sp=rcwl&se=2027-01-01&spr=https&sig=…',
    meaning: 'SAS token for the account or the container.',
    secret: true,
  },
  SNAPSHOT_AZURE_MANAGED_IDENTITY_CLIENT_ID: {
    example: '5bd3a0fb-7c5c-4a4e-8b2e-2f4c0a4f6a55',
    meaning: 'Client id of a user-assigned managed identity.',
    default: 'the system-assigned one',
  },
  SNAPSHOT_AZURE_AUTH: {
    example: 'principal',
    meaning:
      '`connection-string`, `key`, `sas`, `principal`, `workload-identity` or `managed-identity`; `auto` takes the first complete one of these, but never a managed identity.',
    default: '`auto`',
  },
  SNAPSHOT_AZURE_CLOUD: {
    example: 'usgov',
    meaning: "`public`, `china` or `usgov`, or the cloud's name in Azure's own tools, such as `AzureChinaCloud`.",
    default: '`public`',
  },
  SNAPSHOT_AZURE_AUTHORITY_HOST: {
    example: 'https://login.microsoftonline.us',
    meaning: 'Where service principals and workload identities get their tokens.',
    default: "the cloud's",
  },
  SNAPSHOT_AZURE_BLOB_ENDPOINT: {
    example: 'https://aksenginebackups.privatelink.blob.core.windows.net',
    meaning:
      'Full URL of the blob service, without the container: private endpoints, Azurite (`http://` on loopback only).',
    default: "the account's in the cloud",
  },
  AZURE_FEDERATED_TOKEN_FILE: {
    example: '/var/run/secrets/azure/tokens/azure-identity-token',
    meaning:
      'Workload identity: the service-account token. The webhook in the cluster sets this variable and the next three.',
    isPath: true,
  },
  AZURE_CLIENT_ID: {
    example: '5bd3a0fb-7c5c-4a4e-8b2e-2f4c0a4f6a55',
    meaning: 'Workload identity: client id of the application or the managed identity.',
  },
  AZURE_TENANT_ID: {
    example: '86be0945-a0f3-44c2-8868-9b6aa96b0b62',
    meaning: 'Workload identity: directory (tenant) id.',
  },
  AZURE_AUTHORITY_HOST: {
    example: 'https://login.microsoftonline.com/',
    meaning: 'Workload identity: where it gets its tokens, unless `SNAPSHOT_AZURE_AUTHORITY_HOST` is set.',
    default: "the cloud's",
  },
  HTTPS_PROXY: {
    example: 'http://user:password@proxy.example.com:3128',
    meaning:
      'Proxy on the way to Azure, for tokens and for blobs; never for etcd. This variable and the next two count in the environment of the process only, not in a file of `--env-file`.',
    default: 'none',
  },
  NO_PROXY: {
    example: '.privatelink.blob.core.windows.net',
    meaning: 'Hosts that are reached directly: whole names, or suffixes with a dot before them, separated by commas.',
    default: 'none',
  },
  NODE_EXTRA_CA_CERTS: {
    example: '/etc/ssl/certs/company.pem',
    meaning: 'PEM file with further CAs, for a private endpoint or a proxy that opens TLS.',
    default: 'none',
    isPath: true,
  },
  SNAPSHOT_BLOB_PREFIX: { example: 'prod-eu/', meaning: 'Put before every blob name.', default: 'none' },
  SNAPSHOT_KEEP_LAST: {
    example: '28',
    meaning: 'How many of the newest snapshots of this cluster to keep.',
    default: 'no rule; without any, nothing is ever deleted',
  },
  SNAPSHOT_KEEP_HOURLY: {
    example: '24',
    meaning: 'Keeps the newest snapshot of each of so many hours that have one.',
    default: 'no rule',
  },
  SNAPSHOT_KEEP_DAILY: { example: '14', meaning: 'The same for days, in UTC.', default: 'no rule' },
  SNAPSHOT_KEEP_WEEKLY: { example: '8', meaning: 'The same for ISO weeks.', default: 'no rule' },
  SNAPSHOT_KEEP_MONTHLY: { example: '12', meaning: 'The same for months.', default: 'no rule' },
  SNAPSHOT_KEEP_YEARLY: { example: '3', meaning: 'The same for years.', default: 'no rule' },
  SNAPSHOT_KEEP_WITHIN: {
    example: '14d',
    meaning: 'Keeps all snapshots taken within this time before the newest one. Units: `m` (minutes), `h`, `d`.',
    default: 'no rule',
  },
  SNAPSHOT_PREVIOUS_CLUSTER_IDS: {
    example: 'cdf818194e3a8c32',
    meaning:
      'Cluster ids that this cluster had before it was restored, separated by commas: their snapshots age out with its own.',
    default: 'none',
  },
  SNAPSHOT_TIMEOUT: {
    example: '10m',
    meaning:
      "Time for one run, which is one attempt of a Job; plain numbers are seconds. Keep the pod's `activeDeadlineSeconds` 150 s longer, and the Job's six times as long as the pod's.",
    default: '`570s`; for `restore` a day',
  },
  SNAPSHOT_SPOOL_DIR: {
    example: '/spool',
    meaning:
      'Where a slow upload may park what etcd has sent already: one encrypted, unlinked file. Without it etcd waits.',
    default: 'none',
    isPath: true,
  },
  SNAPSHOT_SPOOL_RESERVE: {
    example: '2GiB',
    meaning:
      'What the spool leaves free of its file system: a size, or a percentage such as `10%`. A kubelet evicts pods below 15 %.',
    default: '`20%`',
  },
  SNAPSHOT_READ_BACK: {
    example: 'full',
    meaning:
      '`full` reads the stored blob back and compares its sha256 before the run counts as a success; `off` does not.',
    default: '`full`',
  },
  SNAPSHOT_HASHKV_MAX_SIZE: {
    example: '2GiB',
    meaning:
      "Up to this database size the snapshot's content is compared with the other members' (HashKV reads all of it).",
    default: '`1GiB`',
  },
  SNAPSHOT_PUSHGATEWAY_URL: {
    example: 'http://user:password@10.0.171.12:9091',
    meaning:
      'Pushgateway that gets the metrics of every `backup` and `drill`; with a password `https://`, or `http://` in the private network.',
    default: 'none',
  },
  SNAPSHOT_PING_URL: {
    example: 'https://hc-ping.com/2f0c1a6e-5a5b-4b1c-9d5e-0c3f8e6a7b11',
    meaning:
      "Asked for (GET) after each backup that is stored and proven, for a dead man's switch; `http://` in the private network only.",
    default: 'none',
    secret: true,
  },
  SNAPSHOT_TERMINATION_LOG: {
    example: '/dev/termination-log',
    meaning: 'Existing file that gets the result of the run in one line, for the status of the pod.',
    default: '`/dev/termination-log`, if there',
    isPath: true,
  },
  SNAPSHOT_LOG_FORMAT: { example: 'text', meaning: '`json` or `text`.', default: '`text` on a terminal, else `json`' },
  SNAPSHOT_LOG_LEVEL: { example: 'debug', meaning: '`debug`, `info`, `warn` or `error`.', default: '`info`' },
} as const satisfies Record<string, Variable>;

export type VariableName = keyof typeof VARIABLES;

/** The known name that a misspelt one most likely means, if one is near. */
export function nearestName(name: string): string | undefined {
  return nearest(name, Object.keys(VARIABLES), 6);
}

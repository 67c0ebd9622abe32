import { COPY_VARIABLES, PLACE_VARIABLES, type Variable } from './place-variables.ts';

/** All variables. The table of the documentation is made from this one, in this order. */
export const VARIABLES = {
  SNAPSHOT_ETCD_ENDPOINTS: {
    type: 'endpoints',
    example: 'https://10.255.255.5:2379,https://10.255.255.6:2379',
    meaning: 'Client URLs of the members, separated by commas. `https://` requires the certificates below.',
  },
  SNAPSHOT_ETCD_CA_FILE: {
    type: 'path',
    example: '/etc/kubernetes/pki/etcd/ca.crt',
    meaning: "CA that signed the members' certificates, PEM or DER.",
    default: '`/etc/kubernetes/certs/ca.crt`, or detected',
  },
  SNAPSHOT_ETCD_CERT_FILE: {
    type: 'path',
    example: '/etc/kubernetes/pki/etcd/healthcheck-client.crt',
    meaning: 'Client certificate, PEM or DER.',
    default: '`/etc/kubernetes/certs/etcdclient.crt`, or detected',
  },
  SNAPSHOT_ETCD_KEY_FILE: {
    type: 'path',
    example: '/etc/kubernetes/pki/etcd/healthcheck-client.key',
    meaning: "The client certificate's private key, PEM or DER, not encrypted.",
    default: '`/etc/kubernetes/certs/etcdclient.key`, or detected',
  },
  SNAPSHOT_ETCD_USERNAME: {
    type: 'text',
    example: 'backup',
    meaning:
      'User with the role `root`, if authentication is enabled and the common name of the client certificate is not such a user.',
  },
  SNAPSHOT_ETCD_PASSWORD: {
    type: 'text',
    example: "the user's password",
    meaning: "The user's password; endpoints must then use https (or be on loopback).",
    secret: true,
  },
  ...PLACE_VARIABLES,
  AZURE_FEDERATED_TOKEN_FILE: {
    type: 'path',
    example: '/var/run/secrets/azure/tokens/azure-identity-token',
    meaning:
      'Workload identity: the service-account token. The webhook in the cluster sets this variable and the next three.',
  },
  AZURE_CLIENT_ID: {
    type: 'directoryId',
    example: '5bd3a0fb-7c5c-4a4e-8b2e-2f4c0a4f6a55',
    meaning: 'Workload identity: client id of the application or the managed identity.',
  },
  AZURE_TENANT_ID: {
    type: 'directoryId',
    example: '86be0945-a0f3-44c2-8868-9b6aa96b0b62',
    meaning: 'Workload identity: directory (tenant) id.',
  },
  AZURE_AUTHORITY_HOST: {
    type: 'origin',
    example: 'https://login.microsoftonline.com/',
    meaning: 'Workload identity: its token endpoint, unless `SNAPSHOT_AZURE_AUTHORITY_HOST` is set.',
    default: 'that of the cloud',
  },
  HTTPS_PROXY: {
    type: 'url',
    example: 'http://user:password@proxy.example.com:3128',
    meaning:
      'Proxy for requests to Azure (tokens and blobs), never for etcd. This variable and the next two are read only from the environment of the process, not from an env file.',
    default: 'none',
  },
  NO_PROXY: {
    type: 'text',
    example: '.privatelink.blob.core.windows.net',
    meaning:
      'Hosts that are reached without the proxy: whole names, or suffixes that begin with a dot, separated by commas.',
    default: 'none',
  },
  NODE_EXTRA_CA_CERTS: {
    type: 'path',
    example: '/etc/ssl/certs/company.pem',
    meaning: 'PEM file with additional CAs, for a private endpoint or a proxy that intercepts TLS.',
    default: 'none',
  },
  SNAPSHOT_KEEP_LAST: {
    type: 'count',
    example: '28',
    meaning: 'Keeps the newest n snapshots of this cluster.',
    default: 'no rule; without any rule nothing is ever deleted',
  },
  SNAPSHOT_KEEP_HOURLY: {
    type: 'count',
    example: '24',
    meaning: 'For the newest n hours that have snapshots, keeps the newest snapshot of each hour.',
    default: 'no rule',
  },
  SNAPSHOT_KEEP_DAILY: { type: 'count', example: '14', meaning: 'The same for days, in UTC.', default: 'no rule' },
  SNAPSHOT_KEEP_WEEKLY: { type: 'count', example: '8', meaning: 'The same for ISO weeks.', default: 'no rule' },
  SNAPSHOT_KEEP_MONTHLY: { type: 'count', example: '12', meaning: 'The same for months.', default: 'no rule' },
  SNAPSHOT_KEEP_YEARLY: { type: 'count', example: '3', meaning: 'The same for years.', default: 'no rule' },
  SNAPSHOT_KEEP_WITHIN: {
    type: 'age',
    example: '14d',
    meaning: 'Keeps all snapshots taken within this time before the newest one. Units: `m` (minutes), `h`, `d`.',
    default: 'no rule',
  },
  SNAPSHOT_PREVIOUS_CLUSTER_IDS: {
    type: 'clusterIds',
    example: 'cdf818194e3a8c32',
    meaning:
      'Earlier ids of this cluster, from before a restore, separated by commas: retention treats their snapshots like its own.',
    default: 'none',
  },
  SNAPSHOT_TIMEOUT: {
    type: 'duration',
    example: '10m',
    meaning:
      "Time limit for one run, which is one attempt of a Job; plain numbers are seconds. Keep the pod's `activeDeadlineSeconds` 150 s longer, and the Job's six times as long as the pod's, plus 180 s.",
    default: '`570s`; a day for `restore`',
  },
  SNAPSHOT_SPOOL_DIR: {
    type: 'path',
    example: '/spool',
    meaning:
      'Directory for data that etcd sends faster than the upload takes it: one encrypted, unlinked file. Without it, etcd has to wait.',
    default: 'none',
  },
  SNAPSHOT_SPOOL_RESERVE: {
    type: 'sizeOrPercent',
    example: '2GiB',
    meaning:
      'Space that the spool leaves free on its file system: a size, or a percentage such as `10%`. A kubelet evicts pods below 15%.',
    default: '`20%`',
  },
  SNAPSHOT_MAX_UPLOAD_RATE: {
    type: 'rate',
    example: '20MiB',
    meaning:
      'Bytes per second that are uploaded at most, at least `256KiB`. etcd does not wait for them if there is a spool (`SNAPSHOT_SPOOL_DIR`).',
    default: 'no limit',
  },
  SNAPSHOT_ACCESS_TIER: {
    type: 'choice',
    example: 'cool',
    meaning:
      'Access tier of new blobs: `hot`, `cool` or `cold`. Azure charges for at least 30 days in `cool` and 90 in `cold`, and for each read.',
    default: 'that of the account',
  },
  SNAPSHOT_COMPRESSION: {
    type: 'choice',
    example: 'zstd',
    meaning: '`zstd` compresses snapshots, whose names then end with `.db.zst`; `none` stores them as etcd makes them.',
    default: '`none`',
  },
  SNAPSHOT_ENCRYPTION_RECIPIENTS: {
    type: 'text',
    example: 'age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p',
    meaning:
      'Encrypts snapshots for these recipients of age (`age1…` or `age1pq1…`), separated by commas or blanks. Use at least two. Names then end with `.age`.',
    default: 'no encryption',
  },
  SNAPSHOT_ENCRYPTION_RECIPIENTS_FILE: {
    type: 'path',
    example: '/etc/etcd-snapshot/recipients.txt',
    meaning: 'The same from a file with one recipient per line, in addition to the variable above.',
    default: 'none',
  },
  SNAPSHOT_ENCRYPTION_IDENTITY_FILE: {
    type: 'path',
    example: '/root/identity.txt',
    meaning:
      'File with the private keys of age that open encrypted snapshots, for `verify`, `inspect`, `restore` and `drill`. A backup does not need it.',
    default: 'none',
  },
  SNAPSHOT_SIGNING_KEY_FILE: {
    type: 'path',
    example: '/etc/etcd-snapshot/signing.pem',
    meaning: 'Ed25519 private key, PEM (PKCS#8), with which a backup signs the record of its snapshot.',
    default: 'no signature',
  },
  SNAPSHOT_VERIFICATION_KEYS_FILE: {
    type: 'path',
    example: '/etc/etcd-snapshot/verification.pem',
    meaning:
      'Ed25519 public keys, PEM, one after the other. Only snapshots that one of them verifies count: for a restore, a drill, retention and everything else.',
    default: 'none',
  },
  SNAPSHOT_BUNDLE: {
    type: 'text',
    example: 'kubeadm',
    meaning:
      'Stores the keys that a restore needs with each snapshot, encrypted: those of `kubeadm`, `k3s`, `rke2` or `aks-engine`, or files and directories, separated by commas. Requires recipients.',
    default: 'none',
  },
  SNAPSHOT_COPY: {
    type: 'choice',
    example: 'after-backup',
    meaning:
      '`after-backup` copies what the second place lacks after each backup; `off` leaves that to the command `copy`. The second place is described by the variables that begin with `SNAPSHOT_COPY_`.',
    default: '`off`',
  },
  ...COPY_VARIABLES,
  SNAPSHOT_READ_BACK: {
    type: 'choice',
    example: 'full',
    meaning:
      '`full` reads the stored blob back and compares its sha256 before the run counts as a success; `off` skips this.',
    default: '`full`',
  },
  SNAPSHOT_CONTENT_MD5: {
    type: 'choice',
    example: 'on',
    meaning:
      '`on` stores the MD5 of the blob, which `az` and `azcopy` check when they download it. It needs a third more CPU time.',
    default: '`off`',
  },
  SNAPSHOT_HASHKV_MAX_SIZE: {
    type: 'size',
    example: '2GiB',
    meaning: 'Largest database whose content is compared with that of the other members: HashKV reads all of it.',
    default: '`1GiB`',
  },
  SNAPSHOT_PUSHGATEWAY_URL: {
    type: 'url',
    example: 'http://user:password@10.0.171.12:9091',
    meaning:
      'Pushgateway for the metrics of every `backup` and `drill`; a URL with a password must use `https://`, except in a private network.',
    default: 'none',
  },
  SNAPSHOT_PING_URL: {
    type: 'url',
    example: 'https://hc-ping.com/2f0c1a6e-5a5b-4b1c-9d5e-0c3f8e6a7b11',
    meaning:
      "URL of a dead man's switch, as Healthchecks has it: gets a GET request after each backup that is stored and verified, one with `/start` when a backup begins, and a POST request with `/fail` when it failed; `http://` only in a private network.",
    default: 'none',
    secret: true,
  },
  SNAPSHOT_NOTIFY_URL: {
    type: 'url',
    example: 'https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX',
    meaning:
      'Webhook that gets a POST request when a `backup`, `drill`, `copy` or `import` failed, when a `backup` is incomplete, and after the first `backup` or `drill` that succeeds again; `http://` only in a private network.',
    default: 'none',
    secret: true,
  },
  SNAPSHOT_NOTIFY_FORMAT: {
    type: 'choice',
    example: 'slack',
    meaning: 'What is sent there: `json`, or a message for `slack` or `teams`.',
    default: '`json`',
  },
  SNAPSHOT_TERMINATION_LOG: {
    type: 'path',
    example: '/dev/termination-log',
    meaning: 'Existing file to which the run writes its result in one line: the termination message of the pod.',
    default: '`/dev/termination-log`, if it exists',
  },
  SNAPSHOT_LOG_FORMAT: {
    type: 'choice',
    example: 'text',
    meaning: '`json` or `text`.',
    default: '`text` on a terminal, else `json`',
  },
  SNAPSHOT_LOG_LEVEL: {
    type: 'choice',
    example: 'debug',
    meaning: '`debug`, `info`, `warn` or `error`.',
    default: '`info`',
  },
} as const satisfies Record<string, Variable>;

export type VariableName = keyof typeof VARIABLES;

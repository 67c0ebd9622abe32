/* Options of the command line that all commands have, or several. */

/** One option of the command line, as Node's parser takes it and as the help shows it. */
interface Option {
  readonly type: 'boolean' | 'string';
  readonly short?: string;
  readonly multiple?: boolean;
  /** Placeholder of its value, such as `FILE`. */
  readonly value?: string;
  /** Its value where it is given without one: then another value needs `=`. */
  readonly alone?: string;
  readonly help: string;
}

export type Options = Readonly<Record<string, Option>>;

/** What follows the name of an option in the help: ` FILE`, or `[=90d]` where the value can be omitted. */
export function placeholder({ value, alone }: Option): string {
  if (value === undefined) return '';
  return alone === undefined ? ` ${value}` : `[=${value}]`;
}

export const GLOBAL_OPTIONS = {
  json: { type: 'boolean', help: 'print the result, or the error, as JSON on stdout' },
  'env-file': {
    type: 'string',
    value: 'FILE',
    help: 'read variables from FILE as well (default: .env in the working directory, if you own it)',
  },
  help: { type: 'boolean', short: 'h', help: 'show this help' },
  version: { type: 'boolean', short: 'v', help: 'show the version' },
} as const satisfies Options;

/** For files only: a snapshot in the container always has its sha256. */
export const SKIP_HASH_CHECK = {
  'skip-hash-check': {
    type: 'boolean',
    help: 'do not check the sha256; for a FILE that has none, such as a copy of member/snap/db',
  },
} as const;

export const IDENTITY = {
  identity: {
    type: 'string',
    value: 'FILE',
    help: 'file with the private key of age that opens an encrypted snapshot (default: SNAPSHOT_ENCRYPTION_IDENTITY_FILE)',
  },
} as const;

export const ENCRYPTION_CONFIG = {
  'encryption-config': {
    type: 'string',
    value: 'FILE',
    help: "the API server's encryption configuration, whose keys must be those of the snapshot's Secrets (default: that of the bundle, if it can be opened)",
  },
} as const;

/** Which snapshot to use where none is named. */
export const NEWEST = {
  'taken-before': {
    type: 'string',
    value: 'TIME',
    help: 'use the newest snapshot taken before TIME, such as 2026-01-02T03:04:05Z or a date in UTC; no snapshot is named then',
  },
  'cluster-id': { type: 'string', value: 'ID', help: 'use the newest snapshot of this cluster, if there are several' },
} as const;

/** Wherever snapshots in the container are read or removed. */
export const FROM_COPY = {
  'from-copy': { type: 'boolean', help: 'use the second place (SNAPSHOT_COPY_…) instead of the first' },
} as const;

export const KEEP_NOTE = {
  note: { type: 'string', value: 'TEXT', help: 'why it is kept, in at most 200 characters: list and prune show it' },
} as const;

export const ALLOW_SAME_ACCOUNT = {
  'allow-same-account': {
    type: 'boolean',
    help: 'allow a second place with the endpoint and the credential of the first',
  },
} as const;

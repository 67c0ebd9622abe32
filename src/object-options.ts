import { IDENTITY, NEWEST, type Options, SKIP_HASH_CHECK } from './command-options.ts';

/* Options of the commands that read objects of Kubernetes. */

const DECRYPTION = {
  'encryption-config': {
    type: 'string',
    value: 'FILE',
    help: "the API server's encryption configuration, to decrypt objects (default: that of the bundle, if it can be opened)",
  },
} as const;

/** Which objects. */
const SELECTION = {
  namespace: {
    type: 'string',
    short: 'n',
    multiple: true,
    value: 'N',
    help: 'only of this namespace, the namespace itself included (can be repeated)',
  },
  kind: {
    type: 'string',
    multiple: true,
    value: 'K,...',
    help: 'only of these types, such as Deployment or widgets.example.com (can be repeated)',
  },
  'etcd-prefix': {
    type: 'string',
    value: 'PREFIX',
    help: "only keys under PREFIX, where a database has the objects of several clusters (the API server's --etcd-prefix)",
  },
} as const;

export const INSPECT_OPTIONS = {
  keys: { type: 'string', value: 'PREFIX', help: 'list the live keys with this prefix' },
  get: { type: 'string', value: 'KEY', help: 'write the value of this key to stdout' },
  output: {
    type: 'string',
    short: 'o',
    value: 'FORMAT',
    help: 'with --get: yaml or json, as the API server returns the object; raw, as it is stored (default). With --objects: wide, more columns. With two snapshots and --objects: diff, the lines that differ',
  },
  objects: { type: 'boolean', help: 'list the objects of Kubernetes, or those that differ between two snapshots' },
  ...SELECTION,
  'show-secrets': { type: 'boolean', help: 'with -o diff: show the values of Secrets, in place of digests' },
  ...NEWEST,
  ...DECRYPTION,
  ...IDENTITY,
  ...SKIP_HASH_CHECK,
} as const satisfies Options;

export const EXTRACT_OPTIONS = {
  output: {
    type: 'string',
    short: 'o',
    value: 'DIR',
    help: 'write into DIR, which must be new or empty; - is stdout (required)',
  },
  ...SELECTION,
  name: { type: 'string', value: 'GLOB', help: 'only objects with such a name; * is any text, ? any character' },
  selector: { type: 'string', short: 'l', value: 'LABELS', help: 'only objects with these labels, as for kubectl' },
  'as-stored': { type: 'boolean', help: 'remove nothing' },
  'show-secrets': { type: 'boolean', help: 'with -o - to a terminal: show the values of Secrets' },
  ...NEWEST,
  ...DECRYPTION,
  ...IDENTITY,
  ...SKIP_HASH_CHECK,
} as const satisfies Options;

export const BROWSE_OPTIONS = {
  port: { type: 'string', value: 'PORT', help: 'port to listen on (default: 8001)' },
  'etcd-prefix': SELECTION['etcd-prefix'],
  ...NEWEST,
  ...DECRYPTION,
  ...IDENTITY,
  ...SKIP_HASH_CHECK,
} as const satisfies Options;

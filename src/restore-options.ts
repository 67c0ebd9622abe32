import { NEWEST, ENCRYPTION_CONFIG, FROM_COPY, IDENTITY, type Options, SKIP_HASH_CHECK } from './command-options.ts';

/** The options of `restore`. */
export const RESTORE_OPTIONS = {
  plan: { type: 'boolean', help: 'print the steps for all members, and change nothing' },
  layout: {
    type: 'string',
    value: 'LAYOUT',
    help: 'with --plan: aks-engine, kubeadm, k3s or rke2 (default: detected on this host)',
  },
  'from-plan': { type: 'string', value: 'FILE', help: 'restore according to a saved plan; with --plan: show it' },
  member: { type: 'string', value: 'NAME', help: 'with --from-plan: the member on this host' },
  from: {
    type: 'string',
    value: 'FILE',
    help: "take name, URLs and directory from the member's own configuration: /etc/default/etcd, a systemd unit, a static pod or the file of --config-file",
  },
  output: {
    type: 'string',
    short: 'o',
    value: 'FILE',
    help: 'with --plan: write the plan to FILE, which must not exist yet',
  },
  name: {
    type: 'string',
    value: 'NAME',
    help: 'name of the member to restore; without --initial-cluster it must be in the snapshot, and becomes the only member',
  },
  'initial-cluster': {
    type: 'string',
    value: 'LIST',
    help: 'all members as NAME=PEER-URL, separated by commas, as in etcdutl snapshot restore',
  },
  'initial-cluster-token': { type: 'string', value: 'TOKEN', help: 'as in etcdutl snapshot restore' },
  'initial-advertise-peer-urls': { type: 'string', value: 'URLS', help: 'as in etcdutl snapshot restore' },
  'data-dir': {
    type: 'string',
    value: 'DIR',
    help: 'the directory to create; with --swap, the data directory of the stopped etcd',
  },
  'wal-dir': {
    type: 'string',
    value: 'DIR',
    help: 'directory for the write-ahead log, as in etcdutl snapshot restore',
  },
  'owner-from': { type: 'string', value: 'DIR', help: 'give the new directory the owner and mode of DIR' },
  'no-bump': { type: 'boolean', help: 'do not raise the revision' },
  force: { type: 'boolean', help: 'restore, or create a plan, even if the cluster has quorum or this is unknown' },
  swap: { type: 'boolean', help: 'replace the data of a stopped member with restored data; the old data is kept' },
  download: {
    type: 'string',
    value: 'FILE',
    help: 'only write the verified snapshot to FILE, for k3s, RKE2 or another tool',
  },
  open: {
    type: 'boolean',
    help: 'with --download: write the snapshot itself, decrypted and decompressed, not the sealed bytes as they are stored',
  },
  rehydrate: {
    type: 'boolean',
    help: 'make a snapshot in the archive tier readable again, which takes hours; run the command again later to continue',
  },
  restored: { type: 'string', value: 'DIR', help: 'with --swap: the restored data (default: DIR/restored)' },
  ...IDENTITY,
  ...ENCRYPTION_CONFIG,
  ...NEWEST,
  ...SKIP_HASH_CHECK,
  ...FROM_COPY,
} as const satisfies Options;

import { IDENTITY } from './command-options.ts';
import type { Command } from './command-table.ts';
import { ExitCode } from './errors.ts';

/** Seconds. It reads each file twice, and can be given many. */
const TIMEOUT = 86_400;

const { etcd, verification, storage, noSuchSnapshot } = ExitCode;

/** `import` in the table of commands. */
export const IMPORT: Command = {
  load: async () => (await import('./commands/import.ts')).importFiles,
  needs: ({ options }) => ({
    etcd: options['cluster-id'] === undefined ? 'if set' : false,
    storage: true,
    writes: true,
    reports: 'import',
    timeout: TIMEOUT,
  }),
  operands: ['FILE|DIR...'],
  summary: 'store snapshot files of k3s, RKE2, Talos or etcdctl',
  about:
    'Verifies snapshot files as a backup does, and stores them under the usual names: plain files, zip archives of k3s and RKE2, and files compressed with gzip or zstd. A file whose sha256 the container already has is skipped; of a damaged file nothing is stored. The time comes from the name of a file, or else from its modification time.',
  options: {
    'taken-at': { type: 'string', value: 'TIME', help: 'when the snapshot in a single FILE was taken (RFC 3339)' },
    'cluster-id': {
      type: 'string',
      value: 'HEX',
      help: 'id of the cluster, in lower-case hex (default: that of SNAPSHOT_ETCD_ENDPOINTS, if its members are those in the files)',
    },
    ...IDENTITY,
  },
  examples: [
    'import /var/lib/rancher/k3s/server/db/snapshots',
    'import db.snapshot --taken-at 2026-01-02T03:04:05Z --cluster-id cdf818194e3a8c32',
  ],
  exitCodes: [etcd, verification, storage, noSuchSnapshot],
};

import type { Command } from './command-table.ts';
import { FROM_COPY, KEEP_NOTE, NEWEST } from './command-options.ts';
import { ExitCode } from './errors.ts';

const NAME = 'kubernetes-etcd-snapshot_20260102_030405.db';

const { verification, storage, noSuchSnapshot } = ExitCode;

/** `keep` in the table of commands. */
export const KEEP: Command = {
  load: async () => (await import('./commands/keep.ts')).keep,
  needs: () => ({ etcd: false, storage: true, writes: true }),
  operands: ['NAME'],
  summary: 'keep a snapshot, whatever the retention rules say',
  about:
    'Stores a mark next to the snapshots: retention then keeps this snapshot, with its bundle and all its forms, and it takes no place of any rule. A later mark replaces an earlier one, with its note. The snapshot itself is not changed.',
  options: {
    until: {
      type: 'string',
      value: 'DATE|90d',
      help: 'until the end of a day in UTC, or hours, days or weeks from now (default: until it is released)',
    },
    ...KEEP_NOTE,
    ...NEWEST,
    ...FROM_COPY,
    'legal-hold': { type: 'boolean', help: "set Azure's legal hold as well: nobody can delete the blobs then" },
  },
  examples: [`keep ${NAME} --until 90d --note "before 1.36"`, `keep ${NAME} --until 2027-02-26`],
  exitCodes: [verification, storage, noSuchSnapshot],
};

/** `release` in the table of commands. */
export const RELEASE: Command = {
  load: async () => (await import('./commands/release.ts')).release,
  needs: () => ({ etcd: false, storage: true, writes: true }),
  operands: ['NAME'],
  summary: 'let the retention rules decide about a kept snapshot again',
  about: 'Stores a mark that ends what keep, or backup --keep, began. Deletes nothing.',
  options: { ...FROM_COPY, 'legal-hold': { type: 'boolean', help: "remove Azure's legal hold as well" } },
  examples: [`release ${NAME}`],
  exitCodes: [verification, storage, noSuchSnapshot],
};

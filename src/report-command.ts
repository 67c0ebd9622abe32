import type { Command } from './command-table.ts';
import { ExitCode } from './errors.ts';

/** Seconds: it can read ten thousand containers. */
const TIMEOUT = 86_400;

const { storage, unsafe } = ExitCode;

/** `report` in the table of commands. */
export const REPORT: Command = {
  load: async () => (await import('./commands/report.ts')).report,
  needs: ({ options }) => {
    const otherContainers = options['containers'] !== undefined || options['account'] === true;
    return {
      ...{ etcd: false, storage: true, timeout: TIMEOUT, otherContainers },
      // It is that of the configured container.
      ...(otherContainers ? {} : { copies: 'if set' as const, allowsSameAccount: true }),
    };
  },
  operands: [],
  summary: 'show for one cluster or many when they were backed up and drilled',
  about:
    'Reads the container, those of a list or all of an account, and shows for each cluster, the worst first: the newest valid snapshot, gaps, whether the recovery point objective held, the last drill and how long the recovery took, and what an auditor should know. Contacts no cluster. Ends with 20 if a cluster is late, its newest snapshot is not valid, or it was not drilled; with 12 if a container cannot be read.',
  options: {
    containers: {
      type: 'string',
      value: 'FILE',
      help: 'read the containers that FILE lists: account/container[/prefix] [name], or a URL, one per line',
    },
    account: { type: 'boolean', help: 'read every container of the account that the identity can list' },
    rpo: {
      type: 'string',
      value: 'TIME',
      help: 'recovery point objective, such as 6h (default: the usual time between snapshots of each cluster)',
    },
    'drill-within': {
      type: 'string',
      value: 'TIME',
      help: 'time within which a drill must have succeeded (default: 14d)',
    },
    metrics: { type: 'boolean', help: 'print metrics for the textfile collector of Prometheus' },
    html: { type: 'string', value: 'FILE', help: 'also write a page, which needs no network, to FILE' },
    'upload-to': {
      type: 'string',
      value: 'CONTAINER',
      help: 'also store the page and the JSON in this container of the account, which must exist',
    },
  },
  examples: ['report', 'report --containers clusters.txt --rpo 6h --html report.html', 'report --account --metrics'],
  exitCodes: [storage, unsafe],
};

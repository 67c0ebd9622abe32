import { parseArgs, type ParseArgsOptionsConfig } from 'node:util';
import type { Arguments, Context, Outcome } from './commands/command.ts';
import type { Needs } from './config.ts';
import { UsageError } from './errors.ts';
import { isFileName } from './source.ts';

type Command = (context: Context, args: Arguments) => Promise<Outcome>;

interface Verb {
  /** Each command is loaded only when it runs: what they all need takes longer to load than a small backup takes. */
  readonly load: () => Promise<Command>;
  readonly needs: (args: Arguments) => Needs;
  /** Its arguments, as the help shows them; those in brackets may be left out. */
  readonly operands: readonly string[];
  readonly summary: string;
  readonly options?: ParseArgsOptionsConfig;
}

const VERBS: Readonly<Record<string, Verb>> = {
  backup: {
    load: async () => (await import('./commands/backup.ts')).backup,
    needs: () => ({ etcd: true, storage: true, writes: true, reports: 'backup' }),
    operands: [],
    summary: 'take a snapshot, verify it, store it, read it back, apply retention (the default)',
  },
  list: {
    load: async () => (await import('./commands/list.ts')).list,
    needs: () => ({ etcd: false, storage: true }),
    operands: [],
    summary: 'show the snapshots in the container, newest first',
  },
  prune: {
    load: async () => (await import('./commands/prune.ts')).prune,
    needs: () => ({ etcd: false, storage: true }),
    operands: [],
    summary: 'apply retention without a backup, with the reasons for what stays and what goes',
    options: { 'dry-run': { type: 'boolean' }, 'cluster-id': { type: 'string', multiple: true } },
  },
  verify: {
    load: async () => (await import('./commands/verify.ts')).verify,
    needs: ({ operands }) => ({ etcd: false, storage: !operands.every(isFileName) }),
    operands: ['NAME|FILE'],
    summary: 'check every page of a stored snapshot or of a local file',
  },
  inspect: {
    load: async () => (await import('./commands/inspect.ts')).inspect,
    needs: ({ operands }) => ({ etcd: false, storage: !operands.every(isFileName) }),
    operands: ['NAME|FILE', '[NAME|FILE]'],
    summary: 'what is in a snapshot, or what differs between two',
    options: { keys: { type: 'string' }, get: { type: 'string' } },
  },
  health: {
    load: async () => (await import('./commands/health.ts')).health,
    needs: () => ({ etcd: true, storage: false }),
    operands: [],
    summary: 'how every member of the cluster is, and what its quorum bears',
  },
  doctor: {
    load: async () => (await import('./commands/doctor.ts')).doctor,
    needs: () => ({ etcd: true, storage: true }),
    operands: [],
    summary: 'before the disaster: certificates, members, rights, clocks, room, age of the newest snapshot',
  },
  'replace-member': {
    load: async () => (await import('./commands/replace-member.ts')).replaceMember,
    needs: ({ options }) => ({ etcd: true, storage: options['no-backup'] === true ? false : 'if set', writes: true }),
    operands: ['ID|NAME'],
    summary: 'remove a failed member and add its replacement, safely and step by step',
    options: {
      name: { type: 'string' },
      'peer-urls': { type: 'string' },
      'client-urls': { type: 'string' },
      'data-dir': { type: 'string' },
      voter: { type: 'boolean' },
      wait: { type: 'boolean' },
      'dry-run': { type: 'boolean' },
      yes: { type: 'boolean' },
      'no-backup': { type: 'boolean' },
    },
  },
  restore: {
    load: async () => (await import('./commands/restore.ts')).restore,
    needs: needsOfRestore,
    operands: ['[NAME|FILE]'],
    summary: "make a member's data directory from a snapshot; or plan that for all members, or swap it in",
    options: {
      plan: { type: 'boolean' },
      layout: { type: 'string' },
      'from-plan': { type: 'string' },
      member: { type: 'string' },
      from: { type: 'string' },
      name: { type: 'string' },
      'initial-cluster': { type: 'string' },
      'initial-cluster-token': { type: 'string' },
      'initial-advertise-peer-urls': { type: 'string' },
      'data-dir': { type: 'string' },
      'wal-dir': { type: 'string' },
      'owner-from': { type: 'string' },
      'no-bump': { type: 'boolean' },
      force: { type: 'boolean' },
      swap: { type: 'boolean' },
      download: { type: 'string' },
      restored: { type: 'string' },
    },
  },
  drill: {
    load: async () => (await import('./commands/drill.ts')).drill,
    needs: needsOfDrill,
    operands: ['[NAME|FILE]'],
    summary: 'prove a snapshot restorable: restore it aside, start etcd from it, compare',
    options: { 'temp-dir': { type: 'string' } },
  },
};

const GLOBAL_OPTIONS = {
  json: { type: 'boolean' },
  'env-file': { type: 'string' },
  help: { type: 'boolean', short: 'h' },
  version: { type: 'boolean', short: 'v' },
} as const satisfies ParseArgsOptionsConfig;

/** On the day of the disaster nobody wants to be cut off by a CronJob's time. */
const RESTORE_SECONDS = 86_400;

function needsOfRestore({ operands, options }: Arguments): Needs {
  const needsNothing = options['swap'] === true || (options['plan'] === true && options['from-plan'] !== undefined);
  const makesNoData = options['plan'] === true || options['download'] !== undefined;
  return {
    etcd: needsNothing || makesNoData || options['force'] === true ? false : 'if set',
    storage: !needsNothing && !(operands.length > 0 && operands.every(isFileName)),
    timeout: RESTORE_SECONDS,
  };
}

/** What a drill of a file proves is nothing about the snapshots of a cluster. */
function needsOfDrill({ operands }: Arguments): Needs {
  const storage = !(operands.length > 0 && operands.every(isFileName));
  return { etcd: false, storage, ...(storage && { reports: 'drill' }) };
}

export interface CommandLine {
  readonly name: string;
  readonly run: (context: Context) => Promise<Outcome>;
  readonly needs: Needs;
  readonly json: boolean;
  /** Named with `--env-file`; undefined = `.env`, if there. */
  readonly envFile: string | undefined;
  readonly ask: 'help' | 'version' | undefined;
}

/** @throws UsageError */
export function parseCommandLine(words: readonly string[]): CommandLine {
  const everyOption = Object.assign({}, GLOBAL_OPTIONS, ...Object.values(VERBS).map(({ options }) => options ?? {}));
  const [name = 'backup'] = parse(words, everyOption).positionals;
  const verb = Object.hasOwn(VERBS, name) ? VERBS[name] : undefined;
  if (verb === undefined) {
    throw new UsageError(`There is no command ${name}.`, `Commands: ${Object.keys(VERBS).join(', ')}; see --help.`);
  }
  const { values, positionals } = parse(words, { ...GLOBAL_OPTIONS, ...verb.options });
  const args = { operands: positionals.slice(1), options: values };
  const ask = values['help'] === true ? 'help' : values['version'] === true ? 'version' : undefined;
  const least = verb.operands.filter((operand) => !operand.startsWith('[')).length;
  const isFit = args.operands.length >= least && args.operands.length <= verb.operands.length;
  if (ask === undefined && !isFit) {
    const wanted = verb.operands.length === 0 ? 'no argument' : verb.operands.join(' ');
    throw new UsageError(`${name} takes ${wanted}, but was given ${args.operands.join(' ') || 'none'}.`, 'See --help.');
  }
  return {
    name,
    run: async (context) => (await verb.load())(context, args),
    needs: verb.needs(args),
    json: values['json'] === true,
    envFile: typeof values['env-file'] === 'string' ? values['env-file'] : undefined,
    ask,
  };
}

function parse(words: readonly string[], options: ParseArgsOptionsConfig): Parsed {
  try {
    return parseArgs({ args: [...words], allowPositionals: true, options });
  } catch (error) {
    const [sentence] = String(error instanceof Error ? error.message : error).split('. ');
    throw new UsageError(`The command line cannot be understood: ${sentence}.`, 'See --help.', error);
  }
}

interface Parsed {
  readonly positionals: string[];
  readonly values: Arguments['options'];
}

export function helpText(): string {
  const verbs = Object.entries(VERBS).map(
    ([name, { operands, summary }]) => `  ${[name, ...operands].join(' ').padEnd(32)}${summary}`,
  );
  return [
    'etcd-snapshot [command] [options]',
    '',
    'Backs up etcd to Azure Blob Storage. Configured by SNAPSHOT_… environment variables (see the README).',
    '',
    'Commands:',
    ...verbs,
    '',
    'Options:',
    '  --json                          the result as one JSON document on stdout',
    '  --env-file FILE                 read variables from FILE too (default: .env in the working directory, if there)',
    '  --dry-run                       prune, replace-member: change nothing, and show what would be done',
    '  --cluster-id ID                 prune: an id that this cluster had before (may be repeated)',
    '  --keys PREFIX                   inspect: list the live keys that begin so',
    '  --get KEY                       inspect: write the value of this key to stdout, as it is',
    '  --name NEW, --peer-urls URL     replace-member: name and peer URL of the new member (both needed)',
    '  --data-dir DIR                  replace-member: its data directory (default: /var/lib/etcd/NEW)',
    '  --client-urls URL               replace-member: its client URL, where the settings are to name it',
    '  --voter                         replace-member: add it as a voting member at once, not as a learner first',
    '  --wait                          replace-member: wait until the new member is started, healthy and promoted',
    '  --yes, --no-backup              replace-member: do not ask before each step; do not take a backup first',
    '  --data-dir DIR                  restore: the directory to make; --swap: that of the stopped etcd',
    '  --name, --initial-cluster, --initial-cluster-token, --initial-advertise-peer-urls, --wal-dir',
    "                                  restore: as for etcd's own tool",
    "  --from FILE                     restore: take them from the member's own configuration",
    '  --plan [--layout LAYOUT]        restore: the steps for all members (aks-engine, kubeadm, k3s, rke2); changes nothing',
    '  --from-plan FILE --member NAME  restore: as a saved plan says (restore --plan --json)',
    '  --owner-from DIR                restore: owner and mode of the new directory, else those of the member beside it',
    '  --no-bump                       restore: do not raise the revision',
    '  --force                         restore: although the cluster has its quorum',
    '  --swap [--restored DIR]         restore: put restored data into the place of a stopped member; the old is kept',
    '  --download FILE                 restore: only write the snapshot to FILE, verified, for k3s, RKE2 or another tool',
    '  --temp-dir DIR                  drill: where there is room for the database twice (default: /tmp)',
    '  -h, --help                      this text',
    '  -v, --version                   the version',
    '',
    'Exit codes: 0 done, 1 unexpected, 2 usage or configuration, 3 stored but retention incomplete, 10 etcd,',
    '11 verification, 12 storage, 13 no such snapshot, 20 cluster unhealthy or step unsafe, 130/143 interrupted.',
  ].join('\n');
}

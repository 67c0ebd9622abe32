import { parseArgs } from 'node:util';
import type { Arguments, Context, Outcome } from './commands/command.ts';
import type { Needs } from './config/config.ts';
import { UsageError } from './errors.ts';
import { type Command, commandHelp, generalHelp, type Options } from './help.ts';
import { secretLook } from './secret.ts';
import { hintAboutFile, isFileName } from './snapshot/source.ts';
import { nearest, printable, withoutQuery } from './text.ts';

type Run = (context: Context, args: Arguments) => Promise<Outcome>;

interface Verb extends Command {
  /** Each command is loaded only when it runs: what they all need takes longer to load than a small backup takes. */
  readonly load: () => Promise<Run>;
  readonly needs: (args: Arguments) => Needs;
}

/** For files only: what is in the container has its sha256, or is no snapshot. */
const SKIP_HASH_CHECK = {
  'skip-hash-check': { type: 'boolean', help: 'check all but the sha256, of a FILE such as a copy of member/snap/db' },
} as const;

const CLUSTER_ID = {
  'cluster-id': {
    type: 'string',
    value: 'ID',
    help: 'use the newest snapshot of this cluster, where there are several',
  },
} as const;

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
    summary: 'apply retention without a backup; gives the reason for every snapshot',
    options: {
      'dry-run': { type: 'boolean', help: 'show what would be deleted, and delete nothing' },
      'cluster-id': {
        type: 'string',
        multiple: true,
        value: 'ID',
        help: 'an id that this cluster had before it was restored (may be repeated)',
      },
    },
  },
  verify: {
    load: async () => (await import('./commands/verify.ts')).verify,
    needs: ({ operands }) => ({ etcd: false, storage: !operands.every(isFileName) }),
    operands: ['NAME|FILE'],
    summary: 'check every page of a stored snapshot or of a local file',
    options: SKIP_HASH_CHECK,
  },
  inspect: {
    load: async () => (await import('./commands/inspect.ts')).inspect,
    needs: ({ operands }) => ({ etcd: false, storage: !operands.every(isFileName) }),
    operands: ['NAME|FILE', '[NAME|FILE]'],
    summary: 'show what is in a snapshot, or what differs between two',
    options: {
      keys: { type: 'string', value: 'PREFIX', help: 'list the live keys with this prefix' },
      get: { type: 'string', value: 'KEY', help: 'write the value of this key to stdout, as it is' },
      ...SKIP_HASH_CHECK,
    },
  },
  health: {
    load: async () => (await import('./commands/health.ts')).health,
    needs: () => ({ etcd: true, storage: false }),
    operands: [],
    summary: 'show the health of every member, the quorum and its fault tolerance',
  },
  doctor: {
    load: async () => (await import('./commands/doctor.ts')).doctor,
    needs: () => ({ etcd: true, storage: true }),
    operands: [],
    summary:
      'check before the disaster: certificates, members, permissions, clocks, disk space, age of the newest snapshot',
  },
  'replace-member': {
    load: async () => (await import('./commands/replace-member.ts')).replaceMember,
    needs: ({ options }) => ({ etcd: true, storage: options['no-backup'] === true ? false : 'if set', writes: true }),
    operands: ['ID|NAME'],
    summary: 'remove a failed member and add its replacement, safely and step by step',
    options: {
      name: { type: 'string', value: 'NEW', help: 'name of the new member (needed)' },
      'peer-urls': { type: 'string', value: 'URL', help: 'its peer URL (needed)' },
      'client-urls': { type: 'string', value: 'URL', help: 'its client URL, for the settings that are printed' },
      'data-dir': {
        type: 'string',
        value: 'DIR',
        help: 'its data directory (default: NEW, where the layout keeps data)',
      },
      layout: { type: 'string', value: 'LAYOUT', help: 'aks-engine or kubeadm (default: as this host shows)' },
      voter: { type: 'boolean', help: 'add it as a voting member at once, not as a learner first' },
      wait: { type: 'boolean', help: 'wait until the new member is started, healthy and promoted' },
      'dry-run': { type: 'boolean', help: 'show what would be done, and change nothing' },
      yes: { type: 'boolean', help: 'do not ask before each step' },
      'no-backup': { type: 'boolean', help: 'do not take a backup first' },
    },
  },
  restore: {
    load: async () => (await import('./commands/restore.ts')).restore,
    needs: needsOfRestore,
    operands: ['[NAME|FILE]'],
    summary: 'make the data directory of a member from a snapshot; plan it for all members; swap it in',
    options: {
      plan: { type: 'boolean', help: 'print the steps for all members, and change nothing' },
      layout: {
        type: 'string',
        value: 'LAYOUT',
        help: 'with --plan: aks-engine, kubeadm, k3s or rke2 (default: as this host shows)',
      },
      'from-plan': { type: 'string', value: 'FILE', help: 'restore as a saved plan says; with --plan: show it' },
      member: { type: 'string', value: 'NAME', help: 'with --from-plan: which member this host is' },
      from: {
        type: 'string',
        value: 'FILE',
        help: "take name, URLs and directory from the member's own configuration: /etc/default/etcd, systemd unit, static pod or the file of --config-file",
      },
      output: { type: 'string', value: 'FILE', help: 'with --plan: write the plan to FILE, which must not exist yet' },
      name: { type: 'string', value: 'NAME', help: 'name of the member, as for etcdutl' },
      'initial-cluster': {
        type: 'string',
        value: 'LIST',
        help: 'all members as NAME=PEER-URL, separated by commas, as for etcdutl',
      },
      'initial-cluster-token': { type: 'string', value: 'TOKEN', help: 'as for etcdutl' },
      'initial-advertise-peer-urls': { type: 'string', value: 'URLS', help: 'as for etcdutl' },
      'data-dir': { type: 'string', value: 'DIR', help: 'the directory to make; with --swap that of the stopped etcd' },
      'wal-dir': { type: 'string', value: 'DIR', help: 'directory for the write-ahead log, as for etcdutl' },
      'owner-from': { type: 'string', value: 'DIR', help: 'take owner and mode of the new directory from this one' },
      'no-bump': { type: 'boolean', help: 'do not raise the revision' },
      force: { type: 'boolean', help: 'restore, or plan to restore, although the cluster has quorum, or may have' },
      swap: { type: 'boolean', help: 'put restored data into the place of a stopped member; the old data is kept' },
      download: {
        type: 'string',
        value: 'FILE',
        help: 'only write the verified snapshot to FILE, for k3s, RKE2 or another tool',
      },
      restored: { type: 'string', value: 'DIR', help: 'with --swap: the restored data (default: DIR/restored)' },
      ...CLUSTER_ID,
      ...SKIP_HASH_CHECK,
    },
  },
  drill: {
    load: async () => (await import('./commands/drill.ts')).drill,
    needs: needsOfDrill,
    operands: ['[NAME|FILE]'],
    summary:
      'prove that a snapshot can be restored: restore it into a temporary directory, start etcd from it, compare',
    options: {
      'temp-dir': { type: 'string', value: 'DIR', help: 'where there is room for twice the database (default: /tmp)' },
      ...CLUSTER_ID,
      ...SKIP_HASH_CHECK,
    },
  },
};

const GLOBAL_OPTIONS = {
  json: { type: 'boolean', help: 'print the result, or the error, as one JSON document on stdout' },
  'env-file': {
    type: 'string',
    value: 'FILE',
    help: 'read variables from FILE as well (default: .env in the working directory, if it is yours)',
  },
  help: { type: 'boolean', short: 'h', help: 'show this help' },
  version: { type: 'boolean', short: 'v', help: 'show the version' },
} as const satisfies Options;

/** Options whose values are keys of etcd, which may be any text. */
const KEY_OPTIONS = new Set(['keys', 'get']);

/** On the day of the disaster nobody wants to be cut off by a CronJob's time. */
const RESTORE_SECONDS = 86_400;

function needsOfRestore({ operands, options }: Arguments): Needs {
  const needsNothing = options['swap'] === true || (options['plan'] === true && options['from-plan'] !== undefined);
  return {
    etcd: needsNothing || options['download'] !== undefined || options['force'] === true ? false : 'if set',
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
  /** What is to be shown instead of running the command. */
  readonly ask: 'help' | 'version' | undefined;
  /** Its own, or that of all commands where none was named. */
  readonly help: string;
}

/** @throws UsageError */
export function parseCommandLine(words: readonly string[]): CommandLine {
  const { options, positionals: all } = scan(words);
  const asksHelp = all[0] === 'help';
  const positionals = asksHelp ? all.slice(1) : all;
  const [name = 'backup'] = positionals;
  const verb = verbOf(name);
  const accepted: Options = { ...GLOBAL_OPTIONS, ...verb.options };
  for (const option of options) assertOption(option, name, accepted);
  const values = parse(words, accepted);
  const args = { operands: positionals.slice(1), options: values };
  const ask = asksHelp || values['help'] === true ? 'help' : values['version'] === true ? 'version' : undefined;
  if (ask === undefined) assertValues(name, verb, args);
  if (ask === undefined && values['skip-hash-check'] === true) assertFiles(args.operands);
  return {
    name,
    run: async (context) => (await verb.load())(context, args),
    needs: { ...verb.needs(args), hint: hintOn(args.operands) },
    json: values['json'] === true,
    envFile: typeof values['env-file'] === 'string' ? values['env-file'] : undefined,
    ask,
    help: positionals.length === 0 ? generalHelp(VERBS, GLOBAL_OPTIONS) : commandHelp(name, verb, GLOBAL_OPTIONS),
  };
}

/** What is on the command line, whichever command it is for. */
function scan(words: readonly string[]): { options: string[]; positionals: string[] } {
  const every: Options = Object.assign({}, GLOBAL_OPTIONS, ...Object.values(VERBS).map(({ options }) => options ?? {}));
  const { tokens, positionals } = parseArgs({
    ...{ args: [...words], options: every },
    ...{ strict: false, tokens: true, allowPositionals: true },
  });
  const options = tokens.flatMap((token) => (token.kind === 'option' ? [token.rawName] : []));
  return { options, positionals };
}

function parse(words: readonly string[], options: Options): Arguments['options'] {
  try {
    return parseArgs({ args: [...words], allowPositionals: true, options }).values;
  } catch (error) {
    const [sentence] = String(error instanceof Error ? error.message : error).split('. ');
    throw new UsageError(`The command line cannot be understood: ${sentence}.`, 'See --help.', error);
  }
}

function verbOf(name: string): Verb {
  const verb = Object.hasOwn(VERBS, name) ? VERBS[name] : undefined;
  if (verb !== undefined) return verb;
  const names = Object.keys(VERBS);
  const meant = nearest(name, names);
  throw new UsageError(
    `There is no command ${shown(name)}.`,
    meant === undefined ? `Commands: ${names.join(', ')}; see --help.` : `Did you mean ${meant}? See --help.`,
  );
}

/** @param option as it was given, such as `--keys` @throws UsageError unless it is one of these */
function assertOption(option: string, command: string, accepted: Options): void {
  const isAccepted = Object.entries(accepted).some(
    ([name, { short }]) => `--${name}` === option || `-${short}` === option,
  );
  if (isAccepted) return;
  const owners = Object.entries(VERBS).filter(([, { options = {} }]) => Object.hasOwn(options, option.slice(2)));
  const meant = nearest(
    option,
    Object.keys(accepted).map((name) => `--${name}`),
  );
  const [what, hint] =
    owners.length > 0
      ? [`${option} is an option of ${owners.map(([name]) => name).join(' and ')}, not of ${command}`, '']
      : [`${command} has no option ${shown(option)}`, meant === undefined ? '' : `Did you mean ${meant}? `];
  throw new UsageError(`${what}.`, `${hint}See etcd-snapshot help ${owners[0]?.[0] ?? command}.`);
}

/** @throws UsageError for a wrong number of arguments, and for what is a secret or a URL instead of a name */
function assertValues(command: string, { operands: wanted }: Verb, { operands, options }: Arguments): void {
  const texts = Object.entries(options).filter(([name]) => !KEY_OPTIONS.has(name));
  const values = texts.flatMap(([name, value]) => [value].flat().map((text) => [`--${name}`, String(text)] as const));
  const url = operands.find(isUrl);
  if (url !== undefined) {
    throw new UsageError(
      `${withoutQuery(url)} is a URL.`,
      'Give the name of the snapshot as `etcd-snapshot list` shows it, not the URL.',
    );
  }
  for (const [what, text] of [...values, ...operands.map((operand) => ['The argument', operand] as const)]) {
    const look = secretLook(text);
    if (look === undefined) continue;
    throw new UsageError(
      `${what} contains ${look} itself, not a name or a path.`,
      'It is not shown here. Name the file.',
    );
  }
  const least = wanted.filter((operand) => !operand.startsWith('[')).length;
  if (operands.length >= least && operands.length <= wanted.length) return;
  const takes = wanted.length === 0 ? 'no argument' : wanted.join(' ');
  const given = operands.map(shown).join(' ') || 'none';
  throw new UsageError(`${command} takes ${takes}, but was given ${given}.`, `See etcd-snapshot help ${command}.`);
}

/** @throws UsageError unless all of them, and at least one, are files of this machine */
function assertFiles(operands: readonly string[]): void {
  const stored = operands.find((operand) => !isFileName(operand));
  if (operands.length > 0 && stored === undefined) return;
  throw new UsageError(
    `--skip-hash-check is for files, and ${stored === undefined ? 'none is named' : `${printable(stored)} is none`}.`,
    `${hintOn(operands) ?? 'Name a file; its path begins with ./ or /'}. What is in the container is never used without its sha256.`,
  );
}

/** A name of the container that a file has, too. */
function hintOn(operands: readonly string[]): string | undefined {
  return operands.map(hintAboutFile).find((hint) => hint !== undefined);
}

function isUrl(text: string): boolean {
  return /^[a-z][a-z0-9+.-]*:\/\//i.test(text);
}

/** A word of the command line in a message: nothing of it that may be secret. */
function shown(word: string): string {
  return secretLook(word) === undefined ? withoutQuery(word) : '(not shown)';
}

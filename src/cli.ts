import { parseArgs } from 'node:util';
import { backup } from './commands/backup.ts';
import type { Command } from './commands/command.ts';
import { list } from './commands/list.ts';
import type { Needs } from './config.ts';
import { UsageError } from './errors.ts';

interface Verb {
  readonly run: Command;
  readonly needs: Needs;
  readonly summary: string;
}

const VERBS = {
  backup: {
    run: backup,
    needs: { etcd: true },
    summary: 'take a snapshot, verify it, store it, read it back, apply retention (the default)',
  },
  list: { run: list, needs: { etcd: false }, summary: 'show the snapshots in the container, newest first' },
} as const satisfies Record<string, Verb>;

export interface CommandLine {
  readonly verb: Verb;
  readonly json: boolean;
  /** Named with `--env-file`; undefined = `.env`, if there. */
  readonly envFile: string | undefined;
  readonly ask: 'help' | 'version' | undefined;
}

/** @throws UsageError */
export function parseCommandLine(args: readonly string[]): CommandLine {
  const { values, positionals } = parse(args);
  const [name = 'backup', ...surplus] = positionals;
  if (!Object.hasOwn(VERBS, name)) {
    throw new UsageError(`There is no command ${name}.`, `Commands: ${Object.keys(VERBS).join(', ')}; see --help.`);
  }
  if (surplus.length > 0) {
    throw new UsageError(`${name} takes no argument, but was given ${surplus.join(' ')}.`, 'See --help.');
  }
  return {
    verb: VERBS[name as keyof typeof VERBS],
    json: values.json === true,
    envFile: values['env-file'],
    ask: values.help === true ? 'help' : values.version === true ? 'version' : undefined,
  };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        json: { type: 'boolean' },
        'env-file': { type: 'string' },
        help: { type: 'boolean', short: 'h' },
        version: { type: 'boolean', short: 'v' },
      },
    });
  } catch (error) {
    const [sentence] = String(error instanceof Error ? error.message : error).split('. ');
    throw new UsageError(`The command line cannot be understood: ${sentence}.`, 'See --help.', error);
  }
}

export function helpText(): string {
  const verbs = Object.entries(VERBS).map(([name, { summary }]) => `  ${name.padEnd(10)}${summary}`);
  return [
    'etcd-snapshot [command] [options]',
    '',
    'Backs up etcd to Azure Blob Storage. Configured by SNAPSHOT_… environment variables (see the README).',
    '',
    'Commands:',
    ...verbs,
    '',
    'Options:',
    '  --json           the result as one JSON document on stdout',
    '  --env-file FILE  read variables from FILE too (default: .env in the working directory, if there)',
    '  -h, --help       this text',
    '  -v, --version    the version',
    '',
    'Exit codes: 0 done, 1 unexpected, 2 usage or configuration, 3 stored but retention incomplete, 10 etcd,',
    '11 verification, 12 storage, 130/143 interrupted.',
  ].join('\n');
}

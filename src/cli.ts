import { parseArgs } from 'node:util';
import { type Command, COMMANDS, EXIT_CODES, GLOBAL_OPTIONS, type Options } from './command-table.ts';
import type { Arguments, Context, Outcome } from './commands/command.ts';
import type { Needs } from './config/config.ts';
import { UsageError } from './errors.ts';
import { secretLook } from './secret.ts';
import { hintAboutFile, isFileName } from './snapshot/source.ts';
import { nearest, printable, withoutQuery, wrap } from './text.ts';

/** Options whose values are keys of etcd: any text. */
const KEY_OPTIONS = new Set(['keys', 'get']);

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
  const positionals = asksHelp ? all.filter((word) => word !== 'help') : all;
  const [name = 'backup'] = positionals;
  const command = commandOf(name);
  const accepted: Options = { ...GLOBAL_OPTIONS, ...command.options };
  for (const option of options) assertOption(option, name, accepted);
  const values = parse(words, accepted);
  const args = { operands: positionals.slice(1), options: values };
  const ask = asksHelp || values['help'] === true ? 'help' : values['version'] === true ? 'version' : undefined;
  if (ask === undefined) assertValues(name, command, args);
  if (ask === undefined && values['skip-hash-check'] === true) assertFiles(args.operands);
  return {
    name,
    run: async (context) => (await command.load())(context, args),
    needs: { ...command.needs(args), hint: hintOn(args.operands) },
    json: values['json'] === true,
    envFile: typeof values['env-file'] === 'string' ? values['env-file'] : undefined,
    ask,
    help: positionals.length === 0 ? generalHelp() : commandHelp(name, command),
  };
}

/** What is on the command line, whichever command it is for. */
function scan(words: readonly string[]): { options: string[]; positionals: string[] } {
  const every: Options = Object.assign(
    {},
    GLOBAL_OPTIONS,
    ...Object.values(COMMANDS).map(({ options }) => options ?? {}),
  );
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

function commandOf(name: string): Command {
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command !== undefined) return command;
  const names = Object.keys(COMMANDS);
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
  const owners = Object.entries(COMMANDS).filter(([, { options = {} }]) => Object.hasOwn(options, option.slice(2)));
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
function assertValues(command: string, { operands: wanted }: Command, { operands, options }: Arguments): void {
  const texts = Object.entries(options).filter(([name]) => !KEY_OPTIONS.has(name));
  const values = texts.flatMap(([name, value]) => [value].flat().map((text) => [`--${name}`, String(text)] as const));
  const empty = values.find(([, text]) => text === '');
  if (empty !== undefined) {
    throw new UsageError(
      `${empty[0]} is empty.`,
      'Give it a value, or omit it. A shell variable that is not set is empty.',
    );
  }
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

/** A word of the command line as a message can show it, without what can be secret. */
function shown(word: string): string {
  return secretLook(word) === undefined ? withoutQuery(word) : '(not shown)';
}

/** Columns that every terminal has. */
const WIDTH = 80;

const ABOUT_FILES = 'The path of a FILE begins with ./, ../ or /; every other NAME is in the container.';

/** The help for all commands: each with one line, and the options that all of them have. */
export function generalHelp(): string {
  return [
    'Usage: etcd-snapshot [command] [options]',
    '',
    ...wrap(
      'Backs up etcd to Azure Blob Storage. Configured by environment variables SNAPSHOT_… (docs/configuration.md).',
      WIDTH,
    ),
    '',
    'Commands:',
    ...table(Object.entries(COMMANDS).map(([name, { summary }]) => [name, summary])),
    '',
    'Options:',
    ...table(optionRows(GLOBAL_OPTIONS)),
    '',
    'Exit codes:',
    ...table(exitRows(Object.keys(EXIT_CODES).map(Number))),
    '',
    'etcd-snapshot help COMMAND shows the options and examples of a command.',
  ]
    .flatMap((line) => wrap(line, WIDTH))
    .join('\n');
}

/** Usage, one paragraph, options, examples and exit codes of one command. */
export function commandHelp(name: string, { operands, about, options = {}, examples, exitCodes }: Command): string {
  return [
    `Usage: etcd-snapshot ${[name, ...operands].join(' ')} [options]`,
    '',
    ...wrap(operands.some((operand) => operand.includes('FILE')) ? `${about} ${ABOUT_FILES}` : about, WIDTH),
    '',
    'Options:',
    ...table([...optionRows(options), ...optionRows(GLOBAL_OPTIONS)]),
    '',
    'Examples:',
    ...examples.map((example) => `  etcd-snapshot ${example}`),
    '',
    'Exit codes:',
    ...table(exitRows([0, 1, 2, ...exitCodes, 129, 130, 143])),
  ].join('\n');
}

function optionRows(options: Options): [string, string][] {
  return Object.entries(options).map(([name, { short, value, help }]) => [
    `${short === undefined ? '' : `-${short}, `}--${name}${value === undefined ? '' : ` ${value}`}`,
    help,
  ]);
}

function exitRows(codes: readonly number[]): [string, string][] {
  return codes.map((code) => [String(code), EXIT_CODES[code] ?? '']);
}

/** Two columns; a left cell that is too wide has its line to itself. */
function table(rows: readonly (readonly [string, string])[]): string[] {
  const indent = Math.min(28, Math.max(...rows.map(([left]) => left.length)) + 4);
  return rows.flatMap(([left, right]) => {
    const lines = wrap(right, WIDTH - indent).map((line) => `${' '.repeat(indent)}${line}`);
    const start = `  ${left}`;
    if (start.length + 2 > indent) return [start, ...lines];
    return [start.padEnd(indent) + (lines[0] ?? '').slice(indent), ...lines.slice(1)];
  });
}

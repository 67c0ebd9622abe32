import { parseArgs } from 'node:util';
import { GLOBAL_OPTIONS, type Options, placeholder } from './command-options.ts';
import { type Command, COMMANDS, EXIT_CODES } from './command-table.ts';
import type { Arguments, Context, Outcome } from './commands/command.ts';
import type { Needs } from './config/config.ts';
import { errorAt } from './config/place.ts';
import { messageOf, UsageError } from './errors.ts';
import { secretLook } from './secret.ts';
import { hintAboutFile, isFileName } from './snapshot/operand-name.ts';
import { nearest, printable, withoutQuery, wrap } from './text.ts';

/** Options whose values are keys of etcd: any text. */
const KEY_OPTIONS = new Set(['keys', 'get']);

export interface CommandLine {
  readonly name: string;
  readonly run: (context: Context) => Promise<Outcome>;
  readonly needs: Needs;
  readonly json: boolean;
  /** Named with `--env-file`; undefined = `.env`, if it exists. */
  readonly envFile: string | undefined;
  /** What is to be shown instead of running the command. */
  readonly ask: 'help' | 'version' | undefined;
  /** Its own, or that of all commands where none was named. */
  readonly help: string;
}

/** The options of all commands, to find the command among the words. An option of several commands is of one type and letter. */
const EVERY_OPTION: Options = Object.assign(
  {},
  GLOBAL_OPTIONS,
  ...Object.values(COMMANDS).map(({ options }) => options),
);

type Token = Exclude<ReturnType<typeof scan>['tokens'][number], { readonly kind: 'option-terminator' }>;

/** @throws UsageError */
export function parseCommandLine(given: readonly string[]): CommandLine {
  const words = withValues(given);
  const { tokens: all, positionals } = scan(words);
  const tokens = all.filter((token) => token.kind !== 'option-terminator');
  const asksHelp = positionals[0] === 'help';
  // `help help` is the same as `help`.
  const named = positionals.slice(asksHelp ? (positionals[1] === 'help' ? 2 : 1) : 0);
  const [name = 'backup', ...operands] = named;
  assertHarmless(tokens);
  const command = commandOf(name);
  const options = parse(words, tokens, name, { ...GLOBAL_OPTIONS, ...command.options });
  assertOnce(tokens, command.options ?? {});
  const ask = asksHelp || options['help'] === true ? 'help' : options['version'] === true ? 'version' : undefined;
  if (asksHelp) assertOperands('help', ['[COMMAND]'], named);
  if (ask === undefined) {
    const isChosen = options['taken-before'] !== undefined;
    if (isChosen) assertNoneNamed(operands);
    assertOperands(name, isChosen ? [] : command.operands, operands);
  }
  if (ask === undefined && options['skip-hash-check'] === true) assertFiles(operands);
  const args = { operands, options };
  const place = options['from-copy'] === true ? 'copy' : 'first';
  return {
    name,
    run: async (context) => {
      const run = await command.load();
      try {
        return await run(context, args);
      } catch (error) {
        throw errorAt(place, error);
      }
    },
    needs: { ...command.needs(args), place, hint: hintOn(operands) },
    json: options['json'] === true,
    envFile: typeof options['env-file'] === 'string' ? options['env-file'] : undefined,
    ask,
    help: named.length === 0 ? generalHelp() : commandHelp(name, command),
  };
}

/** @throws UsageError for an option that has one value, and is given twice: the last one would win without a word */
function assertOnce(tokens: readonly Token[], options: Options): void {
  const given = new Set<string>();
  for (const token of tokens) {
    if (token.kind !== 'option' || options[token.name]?.multiple === true || token.value === undefined) continue;
    if (given.has(token.name)) {
      throw new UsageError(`--${token.name} is given more than once.`, 'Give it only once.');
    }
    given.add(token.name);
  }
}

/** Node's parser knows no options whose value can be omitted: they get the one that they mean then. */
function withValues(words: readonly string[]): string[] {
  const end = words.includes('--') ? words.indexOf('--') : words.length;
  return words.map((word, index) => {
    const option = index < end && word.startsWith('--') ? EVERY_OPTION[word.slice(2)] : undefined;
    return option?.alone === undefined ? word : `${word}=${option.alone}`;
  });
}

/** What is on the command line, whichever command it is for. */
function scan(words: readonly string[]) {
  return parseArgs({
    ...{ args: [...words], options: EVERY_OPTION },
    ...{ strict: false, tokens: true, allowPositionals: true },
  });
}

/** @throws UsageError for a value that is empty, a URL or a secret; a key of etcd can be any text */
function assertHarmless(tokens: readonly Token[]): void {
  for (const token of tokens) {
    const isOption = token.kind === 'option';
    if (isOption && KEY_OPTIONS.has(token.name)) continue;
    const text = token.value ?? (isOption ? token.name : '');
    if (isOption && text === '') {
      const hint = 'Give it a value, or omit it. A shell variable that is not set is empty.';
      throw new UsageError(`${token.rawName} is empty.`, hint);
    }
    if (!isOption && text === '') {
      const hint = 'Give a name or a path, or omit the argument. A shell variable that is not set is empty.';
      throw new UsageError('An argument is empty.', hint);
    }
    if (!isOption && /^[a-z][a-z0-9+.-]*:\/\//i.test(text)) {
      const hint = 'Give the name of the snapshot as `etcd-snapshot list` shows it, not the URL.';
      throw new UsageError(`${withoutQuery(text)} is a URL.`, hint);
    }
    const look = secretLook(text);
    if (look === undefined) continue;
    const what = isOption && token.value !== undefined ? token.rawName : 'The command line';
    const hint = 'Give the name of the file that contains it. The value is not shown here.';
    throw new UsageError(`${what} contains ${look} itself, not a name or a path.`, hint);
  }
}

function commandOf(name: string): Command {
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command !== undefined) return command;
  const names = Object.keys(COMMANDS);
  const meant = nearest(name, names);
  throw new UsageError(
    `There is no command ${withoutQuery(name)}.`,
    `${meant === undefined ? `Use one of: ${names.join(', ')}` : `Check the spelling: the most similar command is ${meant}`}. Run: etcd-snapshot --help`,
  );
}

/** @throws UsageError */
function parse(
  words: readonly string[],
  tokens: readonly Token[],
  command: string,
  options: Options,
): Arguments['options'] {
  const known = Object.keys(options).map((name) => `--${name}`);
  const unknown = tokens.find((token) => token.kind === 'option' && !Object.hasOwn(options, token.name));
  if (unknown?.kind === 'option') {
    const owners = Object.keys(COMMANDS).filter((name) => Object.hasOwn(COMMANDS[name]?.options ?? {}, unknown.name));
    const meant = nearest(unknown.rawName, known);
    const guess =
      owners.length > 0
        ? `Use it with ${owners.join(' or ')} only. `
        : meant && `Check the spelling: the most similar option is ${meant}. `;
    throw new UsageError(
      `${command} has no option ${withoutQuery(unknown.rawName)}.`,
      `${guess ?? ''}Run: etcd-snapshot help ${owners[0] ?? command}`,
    );
  }
  try {
    return parseArgs({ args: [...words], allowPositionals: true, options }).values;
  } catch (error) {
    const [sentence = ''] = messageOf(error).split(/\.?\n|\. /);
    throw new UsageError(
      `The command line is invalid: ${sentence.replace(/\.$/, '')}.`,
      `Run: etcd-snapshot help ${command}`,
      error,
    );
  }
}

/** @throws UsageError for a wrong number of arguments */
function assertOperands(command: string, wanted: readonly string[], operands: readonly string[]): void {
  const least = wanted.filter((operand) => !operand.startsWith('[')).length;
  const most = /\.\.\.\]?$/.test(wanted.at(-1) ?? '') ? Infinity : wanted.length;
  if (operands.length >= least && operands.length <= most) return;
  const [takes, given] = [wanted.join(' ') || 'no argument', operands.join(' ') || 'none'];
  throw new UsageError(`${command} takes ${takes}, but was given ${given}.`, `Run: etcd-snapshot help ${command}`);
}

/** @throws UsageError if a snapshot is named, and also chosen by its time */
function assertNoneNamed([operand]: readonly string[]): void {
  if (operand === undefined) return;
  throw new UsageError(
    `--taken-before chooses a snapshot, but ${withoutQuery(operand)} is named as well.`,
    'Omit one of the two.',
  );
}

/** @throws UsageError unless all of them, and at least one, are files of this machine */
function assertFiles(operands: readonly string[]): void {
  const stored = operands.find((operand) => !isFileName(operand));
  if (operands.length > 0 && stored === undefined) return;
  const why = stored === undefined ? 'no file is given' : `${printable(stored)} is not a file`;
  throw new UsageError(
    `--skip-hash-check applies to files only; ${why}.`,
    `${hintOn(operands) ?? 'Give a path that begins with ./, ../ or /'}. A stored snapshot is never used without checking its sha256.`,
  );
}

/** About a name in the container that is also the name of a file. */
function hintOn(operands: readonly string[]): string | undefined {
  return operands.map(hintAboutFile).find((hint) => hint !== undefined);
}

/** Columns that every terminal has. */
const WIDTH = 80;

const ABOUT_FILES = 'The path of a FILE begins with ./, ../ or /; any other NAME is a snapshot in the container.';

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
  return Object.entries(options).map(([name, option]) => [
    `${option.short === undefined ? '' : `-${option.short}, `}--${name}${placeholder(option)}`,
    option.help,
  ]);
}

function exitRows(codes: readonly number[]): [string, string][] {
  return codes.map((code) => [String(code), EXIT_CODES[code] ?? '']);
}

/** Two columns; a left cell that is too wide gets its own line. */
function table(rows: readonly (readonly [string, string])[]): string[] {
  const indent = Math.min(28, Math.max(...rows.map(([left]) => left.length)) + 4);
  return rows.flatMap(([left, right]) => {
    const lines = wrap(right, WIDTH - indent).map((line) => `${' '.repeat(indent)}${line}`);
    const start = `  ${left}`;
    if (start.length + 2 > indent) return [start, ...lines];
    return [start.padEnd(indent) + (lines[0] ?? '').slice(indent), ...lines.slice(1)];
  });
}

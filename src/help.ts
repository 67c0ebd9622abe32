import { wrap } from './text.ts';

/** One option of the command line, as Node's parser takes it and as the help shows it. */
interface Option {
  readonly type: 'boolean' | 'string';
  readonly short?: string;
  readonly multiple?: boolean;
  /** Placeholder of its value, such as `FILE`. */
  readonly value?: string;
  readonly help: string;
}

export type Options = Readonly<Record<string, Option>>;

/** What the help shows of a command. */
export interface Command {
  /** Its arguments; those in brackets may be left out. */
  readonly operands: readonly string[];
  readonly summary: string;
  readonly options?: Options;
}

/** Columns that every terminal has. */
const WIDTH = 80;

const EXIT_CODES =
  'Exit codes: 0 done, 1 unexpected error, 2 usage or configuration, 3 done but incomplete, 10 etcd, 11 verification failed, ' +
  '12 storage, 13 no such snapshot, 20 cluster unhealthy or step unsafe, 129/130/143 interrupted by SIGHUP/SIGINT/SIGTERM.';

const ABOUT_FILES = 'The path of a FILE begins with ./, ../ or /; every other NAME is of the container.';

/** The help for all commands: each with one sentence, and the options that all of them have. */
export function generalHelp(commands: Readonly<Record<string, Command>>, globalOptions: Options): string {
  const about =
    'Backs up etcd to Azure Blob Storage. It is configured by environment variables SNAPSHOT_… (see the README).';
  return [
    'Usage: etcd-snapshot [command] [options]',
    '',
    ...wrap(about, WIDTH),
    '',
    'Commands:',
    ...table(Object.entries(commands).map(([name, { operands, summary }]) => [[name, ...operands].join(' '), summary])),
    '',
    'Options:',
    ...table(optionRows(globalOptions)),
    '',
    'etcd-snapshot help COMMAND shows the options of a command.',
    '',
    ...wrap(EXIT_CODES, WIDTH),
  ].join('\n');
}

/** The help for one command, with all of its options. */
export function commandHelp(name: string, command: Command, globalOptions: Options): string {
  const { operands, summary, options = {} } = command;
  const own = optionRows(options);
  return [
    `Usage: etcd-snapshot ${[name, ...operands].join(' ')} [options]`,
    '',
    ...wrap(`${summary.charAt(0).toUpperCase()}${summary.slice(1)}.`, WIDTH),
    ...(operands.some((operand) => operand.includes('FILE')) ? wrap(ABOUT_FILES, WIDTH) : []),
    '',
    'Options:',
    ...table([...own, ...optionRows(globalOptions)]),
  ].join('\n');
}

function optionRows(options: Options): [string, string][] {
  return Object.entries(options).map(([name, { short, value, help }]) => [
    `${short === undefined ? '' : `-${short}, `}--${name}${value === undefined ? '' : ` ${value}`}`,
    help,
  ]);
}

/** Two columns; where the left one is too wide, the right one begins on the next line. */
function table(rows: readonly (readonly [string, string])[]): string[] {
  const indent = 28;
  return rows.flatMap(([left, right]) => {
    const lines = wrap(right, WIDTH - indent).map((line) => `${' '.repeat(indent)}${line}`);
    const start = `  ${left}`;
    if (start.length + 2 > indent) return [start, ...lines];
    return [start.padEnd(indent) + (lines[0] ?? '').slice(indent), ...lines.slice(1)];
  });
}

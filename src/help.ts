import { type Command, COMMANDS, EXIT_CODES, GLOBAL_OPTIONS, type Options } from './command-table.ts';
import { wrap } from './text.ts';

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

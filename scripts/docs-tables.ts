// Writes the tables of docs/ that come from the code. Without --write it only compares.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { GLOBAL_OPTIONS, type Options, placeholder } from '../src/command-options.ts';
import { type Command, COMMANDS } from '../src/command-table.ts';
import { VARIABLES } from '../src/config/variables.ts';
import { METRICS } from '../src/monitoring/metrics.ts';

const DOCS = join(import.meta.dirname, '..', 'docs');

const variables = Object.entries(VARIABLES).map(([name, variable]) => {
  const preset = 'default' in variable ? variable.default : '';
  return `| \`${name}\` | ${variable.meaning}${'secret' in variable ? ' **Secret.**' : ''} | ${preset} |`;
});

const metrics = Object.entries(METRICS).map(([name, metric]) => {
  const label = 'label' in metric ? `{${metric.label}}` : '';
  return `| \`${name}${label}\` | ${metric.help} |`;
});

update('commands.md', 'src/command-table.ts', [
  '## All commands',
  '',
  ...optionRows(GLOBAL_OPTIONS),
  '',
  ...Object.entries(COMMANDS).flatMap(([name, command]) => section(name, command)),
]);
update('configuration.md', 'src/config/variables.ts', [
  '| variable | meaning | default |',
  '| --- | --- | --- |',
  ...variables,
  '',
]);
update('monitoring.md', 'src/monitoring/metrics.ts', ['| metric | meaning |', '| --- | --- |', ...metrics, '']);

function section(name: string, { operands, about, options = {}, examples, exitCodes }: Command): string[] {
  return [
    `## ${name}`,
    '',
    `${about} Exit codes: ${[0, 1, 2, ...exitCodes, 129, 130, 143].join(', ')}.`,
    '',
    '```sh',
    `# etcd-snapshot ${[name, ...operands].join(' ')} [options]`,
    ...examples.map((example) => `etcd-snapshot ${example}`),
    '```',
    '',
    ...(Object.keys(options).length === 0 ? [] : [...optionRows(options), '']),
  ];
}

function optionRows(options: Options): string[] {
  return [
    '| option | meaning |',
    '| --- | --- |',
    ...Object.entries(options).map(
      ([name, option]) =>
        `| ${option.short === undefined ? '' : `\`-${option.short}\`, `}\`--${name}${placeholder(option)}\` | ${option.help} |`,
    ),
  ];
}

/** @param source the file that the page names as the table's source */
function update(page: string, source: string, table: readonly string[]): void {
  const file = join(DOCS, page);
  const text = readFileSync(file, 'utf8');
  const begin = `<!-- made by \`npm run docs\` from ${source} -->\n<!-- prettier-ignore-start -->`;
  const from = text.indexOf(begin);
  const to = text.indexOf('<!-- prettier-ignore-end -->', from);
  if (from < 0 || to < 0) throw new Error(`docs/${page} has no place for the table from ${source}`);
  const wanted = [text.slice(0, from) + begin, '', ...table, text.slice(to)].join('\n');
  if (process.argv.includes('--write')) writeFileSync(file, wanted);
  else if (text !== wanted) {
    console.error(`docs/${page} differs from ${source}: run \`npm run docs\`.`);
    process.exitCode = 1;
  }
}

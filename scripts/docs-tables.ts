// Writes the tables of docs/ that come from the code. Without --write it only compares.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
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

update('configuration.md', 'src/config/variables.ts', [
  '| variable | meaning | default |',
  '| --- | --- | --- |',
  ...variables,
]);
update('monitoring.md', 'src/monitoring/metrics.ts', ['| metric | meaning |', '| --- | --- |', ...metrics]);

/** @param source the file that the page names as the table's source */
function update(page: string, source: string, table: readonly string[]): void {
  const file = join(DOCS, page);
  const text = readFileSync(file, 'utf8');
  const begin = `<!-- made by \`npm run docs\` from ${source} -->\n<!-- prettier-ignore-start -->`;
  const from = text.indexOf(begin);
  const to = text.indexOf('<!-- prettier-ignore-end -->', from);
  if (from < 0 || to < 0) throw new Error(`docs/${page} has no place for the table from ${source}`);
  const wanted = [text.slice(0, from) + begin, '', ...table, '', text.slice(to)].join('\n');
  if (process.argv.includes('--write')) writeFileSync(file, wanted);
  else if (text !== wanted) {
    console.error(`docs/${page} differs from ${source}: run \`npm run docs\`.`);
    process.exitCode = 1;
  }
}

// Makes the README's tables from what the code knows. Without --write it only compares.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { VARIABLES } from '../src/config/variables.ts';
import { METRICS } from '../src/monitoring/metrics.ts';

const README = join(import.meta.dirname, '..', 'README.md');
const END = '<!-- prettier-ignore-end -->';

const variables = Object.entries(VARIABLES).map(([name, variable]) => {
  const preset = 'default' in variable ? variable.default : '';
  return `| \`${name}\` | ${variable.meaning}${'secret' in variable ? ' **Secret.**' : ''} | ${preset} |`;
});

const metrics = Object.entries(METRICS).map(([name, metric]) => {
  const label = 'label' in metric ? `{${metric.label}}` : '';
  return `| \`${name}${label}\` | ${metric.help} |`;
});

const wanted = [
  { source: 'src/variables.ts', lines: ['| variable | meaning | default |', '| --- | --- | --- |', ...variables] },
  { source: 'src/monitoring/metrics.ts', lines: ['| metric | meaning |', '| --- | --- |', ...metrics] },
].reduce((text, { source, lines }) => withTable(text, source, lines), readFileSync(README, 'utf8'));

/** The text with these lines where it says that they are made from this source. */
function withTable(text: string, source: string, lines: readonly string[]): string {
  const begin = `<!-- made by \`npm run docs\` from ${source} -->\n<!-- prettier-ignore-start -->`;
  const from = text.indexOf(begin);
  const to = text.indexOf(END, from);
  if (from < 0 || to < 0) throw new Error(`the README has no place for the table from ${source}`);
  return [text.slice(0, from) + begin, '', ...lines, '', text.slice(to)].join('\n');
}

if (process.argv.includes('--write')) writeFileSync(README, wanted);
else if (readFileSync(README, 'utf8') !== wanted) {
  console.error('README.md differs from what the code knows: run `npm run docs`.');
  process.exitCode = 1;
}

// Makes the README's configuration table from the variables that the code knows. Without --write it only compares.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { VARIABLES } from '../src/variables.ts';

const README = join(import.meta.dirname, '..', 'README.md');
const BEGIN = '<!-- prettier-ignore-start -->';
const END = '<!-- prettier-ignore-end -->';

const rows = Object.entries(VARIABLES).map(([name, variable]) => {
  const preset = 'default' in variable ? variable.default : '';
  return `| \`${name}\` | ${variable.meaning}${'secret' in variable ? ' **Secret.**' : ''} | ${preset} |`;
});
const table = [BEGIN, '', '| variable | meaning | default |', '| --- | --- | --- |', ...rows, '', END].join('\n');

const readme = readFileSync(README, 'utf8');
const [before, rest = ''] = readme.split(BEGIN);
const [, after] = rest.split(END);
if (before === undefined || after === undefined) throw new Error('the README has no place for the table');
const wanted = `${before}${table}${after}`;
if (process.argv.includes('--write')) writeFileSync(README, wanted);
else if (readme !== wanted) {
  console.error("README.md differs from the code's variables: run `npm run docs`.");
  process.exitCode = 1;
}

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { scaleReport } from '../bench/scale.ts';
import { ExitCode } from '../src/errors.ts';
import { run } from './support/process.ts';

const ROOT = join(import.meta.dirname, '..');
const README = readFileSync(join(ROOT, 'README.md'), 'utf8');

t.test('the tables are those of the code', async (t) => {
  const { code, stderr } = await run(process.execPath, [join(ROOT, 'scripts', 'readme-tables.ts')]);
  t.equal(code, 0, stderr);
});

t.test('every exit code is explained', (t) => {
  for (const [name, code] of Object.entries(ExitCode)) {
    t.match(README, new RegExp(`\\| ${code} +\\| \\w`), `${name} (${code})`);
  }
  t.end();
});

t.test('the tables of docs/scale.md are those of the simulation', (t) => {
  const doc = readFileSync(join(ROOT, 'docs', 'scale.md'), 'utf8');
  const rows = (text: string): string[] =>
    text
      .split('\n')
      .filter((line) => /^\| *[\ds]/.test(line))
      .map((line) => line.replaceAll(' ', ''));
  t.strictSame(rows(doc), rows(scaleReport()), 'npm run bench -- --scale prints them');
  t.end();
});

t.test('its scripts and files exist', (t) => {
  const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
    scripts: Record<string, string>;
  };
  for (const [, name = ''] of README.matchAll(/npm (?:run )?(test:\w+|test|demo|lint|typecheck|build|docs|bench)\b/g)) {
    t.ok(scripts[name], name);
  }
  for (const [, link = ''] of README.matchAll(/\]\(([^)#]+)\)/g)) {
    t.doesNotThrow(() => readFileSync(join(ROOT, link)), link);
  }
  t.end();
});

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { format, resolveConfig } from 'prettier';

const README = join(import.meta.dirname, '..', '..', 'README.md');
const BEGIN = '<!-- made by `npm run bench -- --write` -->';
const END = '<!-- end of the bench -->';

/** Puts the tables of this run in the place of those before. @throws Error when the README has no place for them */
export async function writeToReadme(tables: string): Promise<void> {
  const readme = readFileSync(README, 'utf8');
  const [begin, end] = [readme.indexOf(BEGIN), readme.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error('the README has no place for the tables');
  const text = `${readme.slice(0, begin)}${BEGIN}\n\n${tables}\n\n${readme.slice(end)}`;
  writeFileSync(README, await format(text, { ...(await resolveConfig(README)), parser: 'markdown' }));
}

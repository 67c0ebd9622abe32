import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { format, resolveConfig } from 'prettier';

const README = join(import.meta.dirname, '..', 'README.md');
const BEGIN = '<!-- made by `npm run bench -- --write` -->';
const END = '<!-- end of the bench -->';

/** The tables of the run before. @throws Error when the README has no place for them */
export function tablesInReadme(): string {
  return parts().tables;
}

/** Puts the tables of this run in the place of those before. @throws Error when the README has no place for them */
export async function writeToReadme(tables: string): Promise<void> {
  const { before, after } = parts();
  const text = `${before}${BEGIN}\n\n${tables}\n\n${END}${after}`;
  writeFileSync(README, await format(text, { ...(await resolveConfig(README)), parser: 'markdown' }));
}

function parts(): { before: string; tables: string; after: string } {
  const readme = readFileSync(README, 'utf8');
  const [begin, end] = [readme.indexOf(BEGIN), readme.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error('the README has no place for the tables');
  return {
    before: readme.slice(0, begin),
    tables: readme.slice(begin + BEGIN.length, end),
    after: readme.slice(end + END.length),
  };
}

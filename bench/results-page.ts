import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { format, resolveConfig } from 'prettier';

const PAGE = join(import.meta.dirname, '..', 'docs', 'benchmarks.md');
const BEGIN = '<!-- made by `npm run bench -- --write` -->';
const END = '<!-- end of the bench -->';

/** The tables of the previous run. @throws Error when the page has no place for them */
export function publishedTables(): string {
  return parts().tables;
}

/** Replaces the tables of the previous run. @throws Error when the page has no place for them */
export async function publishTables(tables: string): Promise<void> {
  const { before, after } = parts();
  const text = `${before}${BEGIN}\n\n${tables}\n\n${END}${after}`;
  writeFileSync(PAGE, await format(text, { ...(await resolveConfig(PAGE)), parser: 'markdown' }));
}

function parts(): { before: string; tables: string; after: string } {
  const page = readFileSync(PAGE, 'utf8');
  const [begin, end] = [page.indexOf(BEGIN), page.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error('docs/benchmarks.md has no place for the tables');
  return {
    before: page.slice(0, begin),
    tables: page.slice(begin + BEGIN.length, end),
    after: page.slice(end + END.length),
  };
}

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { format, resolveConfig } from 'prettier';

const PAGE = join(import.meta.dirname, '..', 'docs', 'benchmarks.md');
const BEGIN = '<!-- made by `npm run bench -- --write` -->';
const END = '<!-- end of the bench -->';

/** Replaces the tables of the previous run. @throws Error when the page has no place for them */
export async function publishTables(tables: string): Promise<void> {
  const page = readFileSync(PAGE, 'utf8');
  const [begin, end] = [page.indexOf(BEGIN), page.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error('docs/benchmarks.md has no place for the tables');
  const text = `${page.slice(0, begin)}${BEGIN}\n\n${tables}\n\n${page.slice(end)}`;
  writeFileSync(PAGE, await format(text, { ...(await resolveConfig(PAGE)), parser: 'markdown' }));
}

import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** A page of the docs whose commands a test runs. */
export interface DocsPage {
  readonly text: string;
  /** The blocks of commands of a chapter. */
  readonly blocksOf: (heading: string) => string[];
  /** Blocks that no test has asked for. */
  readonly unused: ReadonlySet<string>;
}

export function docsPage(name: string): DocsPage {
  const text = readFileSync(join(import.meta.dirname, '..', '..', 'docs', name), 'utf8');
  const unused = new Set(blocksIn(text));
  return {
    text,
    unused,
    blocksOf(heading) {
      const from = text.indexOf(`\n## ${heading}\n`);
      const end = text.indexOf('\n## ', from + 1);
      const blocks = blocksIn(text.slice(from, end === -1 ? undefined : end));
      for (const block of blocks) unused.delete(block);
      return blocks;
    },
  };
}

function blocksIn(text: string): string[] {
  return [...text.matchAll(/^```sh\n([^]*?)^```$/gm)].map(([, commands = '']) => commands);
}

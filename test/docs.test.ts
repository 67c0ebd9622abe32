import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import t from 'tap';
import { scaleReport } from '../bench/scale.ts';
import { parseCommandLine } from '../src/cli.ts';
import { COMMANDS, EXIT_CODES } from '../src/command-table.ts';
import { VARIABLES } from '../src/config/variables.ts';
import { run } from './support/process.ts';

const ROOT = join(import.meta.dirname, '..');

const pages = [
  ...['README.md', 'CONTRIBUTING.md', 'SECURITY.md', 'CHANGELOG.md'],
  ...readdirSync(join(ROOT, 'docs')).map((name) => join('docs', name)),
].map((name) => ({ name, text: readFileSync(join(ROOT, name), 'utf8') }));

function page(name: string): string {
  return pages.find((page) => page.name === name)?.text ?? '';
}

/** Inline code, and the lines of code blocks in which `\` continues a line. */
function codeOf(text: string): string[] {
  const blocks = [...text.matchAll(/^ *```(?!mermaid)\w*\n([^]*?)^ *```$/gm)].map(([, block = '']) => block);
  const inline = [...text.replaceAll(/^ *```[^]*?^ *```$/gm, '').matchAll(/`([^`\n]+)`/g)].map(([, code = '']) => code);
  return [...blocks.flatMap((block) => block.replaceAll(/\\\n\s*/g, '').split('\n')), ...inline];
}

/** The anchors that GitHub makes of a page's headings. */
function anchorsOf(text: string): string[] {
  return [...text.matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
}

t.test('the README has at most 250 lines', (t) => {
  t.ok(page('README.md').split('\n').length <= 250);
  t.end();
});

t.test('the generated tables are up to date', async (t) => {
  const { code, stderr } = await run(process.execPath, [join(ROOT, 'scripts', 'docs-tables.ts')]);
  t.equal(code, 0, stderr);
});

t.test('every link and anchor exists', (t) => {
  for (const { name, text } of pages) {
    for (const [, link = ''] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^https?:/.test(link)) continue;
      const [path = '', anchor] = link.split('#');
      const target = path === '' ? name : relative(ROOT, join(ROOT, dirname(name), path));
      t.ok(existsSync(join(ROOT, target)), `${name}: ${link}`);
      if (anchor !== undefined) t.ok(anchorsOf(page(target)).includes(anchor), `${name}: ${link}`);
    }
  }
  t.end();
});

t.test('every page of docs/ is linked from the README', (t) => {
  for (const { name } of pages) if (name !== 'README.md') t.match(page('README.md'), `(${name}`, name);
  t.end();
});

t.test('every etcd-snapshot command is understood', (t) => {
  let count = 0;
  for (const { name, text } of pages) {
    for (const code of codeOf(text)) {
      const [, line = ''] = /(?:^|[;&|] *|=\S+ |\/bin\/)etcd-snapshot((?: [^#|;&>]*)?)/.exec(code) ?? [];
      const words = [...line.matchAll(/(?:"[^"]*"|\S)+/g)].map(([word]) => word.replaceAll('"', ''));
      // Without a command: a name such as that of the function, or the general form.
      if (/^$|^\(|^\[/.test(words[0] ?? '')) continue;
      t.doesNotThrow(() => parseCommandLine(words[0] === 'help' ? ['help', 'backup'] : words), `${name}: ${code}`);
      count += 1;
    }
  }
  t.ok(count > 40, `${count} command lines`);
  t.end();
});

function optionsIn(text: string): string[] {
  return [...text.matchAll(/--[a-z][a-z-]+/g)].map(([option]) => option);
}

/** Options of other programs that the pages name alone. */
const OTHER_OPTIONS = new Set([
  '--config-file',
  '--cluster-reset',
  '--delete-emptydir-data',
  '--etcd-servers',
  '--force-conflicts',
  '--immutable-days',
  '--no-account-key',
  '--pruner',
  '--reader',
  '--report',
  '--service-account-issuer',
  '--take-ownership',
  '--workload-identity',
  '--writer',
]);

t.test('every command is in the table of the README, and every option is of a command', (t) => {
  for (const command of Object.keys(COMMANDS)) {
    t.match(page('README.md'), new RegExp(`^\\| \`${command}\\b`, 'm'), command);
  }
  const known = new Set(
    Object.keys(COMMANDS).flatMap((command) => optionsIn(parseCommandLine(['help', command]).help)),
  );
  for (const { name, text } of pages) {
    const inline = codeOf(text).filter((code) => /^--[a-z-]+( [A-Z|]+)?$/.test(code));
    for (const option of inline.flatMap(optionsIn)) {
      if (!OTHER_OPTIONS.has(option)) t.ok(known.has(option), `${name}: ${option}`);
    }
  }
  t.end();
});

t.test('every variable exists', (t) => {
  for (const { name, text } of pages) {
    for (const [variable] of text.matchAll(/\bSNAPSHOT_[A-Z][A-Z_]*[A-Z]\b/g)) {
      t.ok(Object.hasOwn(VARIABLES, variable), `${name}: ${variable}`);
    }
  }
  t.end();
});

t.test('the table of exit codes is that of the program', (t) => {
  const rows = [...page('docs/troubleshooting.md').matchAll(/^\| (\d+) +\| (.*?) +\|/gm)];
  t.strictSame(Object.fromEntries(rows.map(([, code, meaning]) => [code, meaning])), EXIT_CODES);
  for (const { name, text } of pages) {
    for (const [, code] of text.matchAll(/\b(?:exit code|exits with|ends? with) (\d+)\b/g)) {
      // 139 is the kernel's.
      t.ok(code === '139' || Object.hasOwn(EXIT_CODES, code ?? ''), `${name}: exit code ${code}`);
    }
  }
  t.end();
});

t.test('every file and script of the repository exists', (t) => {
  const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { scripts: object };
  for (const { name, text } of pages) {
    for (const code of codeOf(text)) {
      for (const [path] of code.matchAll(/(?<![\w/.=-])(?:src|test|bench|scripts|manifests|docs|\.ci)\/[\w./-]*\w/g)) {
        t.ok(existsSync(join(ROOT, path)) || path.startsWith('test/tools/bin'), `${name}: ${path}`);
      }
      for (const [, script = ''] of code.matchAll(
        /\bnpm (?:run )?(test:\w+|test|demo|lint|typecheck|build|docs|bench)\b/g,
      )) {
        t.ok(Object.hasOwn(scripts, script), `${name}: ${script}`);
      }
    }
  }
  t.end();
});

t.test('every page that the program names exists', (t) => {
  const files = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' });
  for (const file of files.filter((name) => name.endsWith('.ts'))) {
    for (const [path] of readFileSync(join(ROOT, 'src', file), 'utf8').matchAll(/docs\/[\w-]+\.md/g)) {
      t.ok(existsSync(join(ROOT, path)), `src/${file}: ${path}`);
    }
  }
  t.end();
});

t.test('the architecture describes every directory of the source', (t) => {
  const text = page('docs/architecture.md');
  for (const [, path = ''] of text.matchAll(/\["([\w/-]+(?:\.ts|\/))<br\/>/g)) {
    t.ok(existsSync(join(ROOT, 'src', path)), `${path} of the diagram`);
  }
  const entries = readdirSync(join(ROOT, 'src'), { withFileTypes: true, recursive: true });
  for (const entry of entries.filter((entry) => entry.isDirectory())) {
    const path = relative(ROOT, join(entry.parentPath, entry.name));
    t.match(text, `\`${path}/\``, path);
  }
  const glossary = text.split('## Glossary')[1]?.match(/^\| [a-z]/gim) ?? [];
  t.ok(glossary.length <= 31, 'a glossary of at most 30 terms');
  t.end();
});

t.test('the tables of many clusters are those of the simulation', (t) => {
  const rows = (text: string): string[] =>
    text
      .split('\n')
      .filter((line) => /^\| *(\d[\d ]*[MG]B|snapshot) *\|/.test(line))
      .map((line) => line.replaceAll(' ', ''));
  t.strictSame(rows(page('docs/operations.md')), rows(scaleReport()), 'npm run bench -- --scale prints them');
  t.end();
});

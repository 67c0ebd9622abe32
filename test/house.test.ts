import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import t from 'tap';
import { findEtcd } from './support/etcd.ts';
import { findJudge } from './support/judges.ts';
import { run } from './support/process.ts';

const ROOT = join(import.meta.dirname, '..');
const SRC = join(ROOT, 'src');

/** The layers, the lowest first. A file can import from its own layer and those below. */
const LAYERS = [
  [
    'errors.ts',
    'log.ts',
    'process.ts',
    'progress.ts',
    'secret.ts',
    'text.ts',
    'time.ts',
    'config/value-types.ts',
    'config/place-variables.ts',
    'config/variables.ts',
  ],
  [
    'decompress.ts',
    'directories.ts',
    'files.ts',
    'member.ts',
    'new-directory.ts',
    'pem.ts',
    'url.ts',
    'snapshot/file-kind.ts',
    'snapshot/record-match.ts',
    'snapshot/snapshot-name.ts',
    'snapshot/usual-distance.ts',
  ],
  ['config/', 'installer-layouts.ts'],
  ['snapshot/verify/'],
  [
    'snapshot/record.ts',
    'snapshot/signature-state.ts',
    'snapshot/inventory.ts',
    'snapshot/marks.ts',
    'snapshot/failure-marks.ts',
    'snapshot/forms.ts',
    'snapshot/copies.ts',
    'snapshot/keys.ts',
    'snapshot/encrypted-secrets.ts',
  ],
  [
    'retention/anomalies.ts',
    'retention/missing-snapshots.ts',
    'retention/retention-plan.ts',
    'retention/superseded.ts',
    'retention/lost-protection.ts',
    'sealed/',
  ],
  ['etcd/', 'store/', 'spool/', 'monitoring/'],
  [
    'snapshot/stored-form.ts',
    'snapshot/operand-name.ts',
    'snapshot/source.ts',
    'snapshot/passes.ts',
    'retention/apply.ts',
    'retention/mark-snapshot.ts',
  ],
  ['backup/', 'bundle/', 'copy/', 'doctor/', 'drill/', 'import/', 'objects/', 'replace/', 'report/', 'restore/'],
  ['commands/'],
  [
    ...['cli.ts', 'command-options.ts', 'command-table.ts'],
    ...['import-command.ts', 'mark-commands.ts', 'object-options.ts', 'report-command.ts', 'restore-options.ts'],
  ],
  ['main.ts'],
  ['entry.ts'],
];

/** Directories of one layer that must not import each other. */
const NEIGHBORS = new Set(['etcd', 'store', 'spool', 'monitoring']);

/** Packages that only one directory can import. */
const IMPORTERS: Record<string, RegExp> = {
  '@azure/': /^store\//,
  etcd3: /^etcd\//,
  'protobufjs/': /^etcd\//,
  '@node-rs/crc32': /^snapshot\/verify\//,
  valibot: /^(snapshot|etcd|store|restore)\//,
  '@noble/ciphers/': /^objects\/decryption\.ts$/,
  'age-encryption': /^sealed\/age-header\.ts$/,
  tar: /^bundle\/archive\.ts$/,
  yaml: /^restore\//,
  dotenv: /^config\/environment\.ts$/,
};

interface Import {
  readonly from: string;
  readonly to: string;
}

function imports(): Import[] {
  const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));
  return files.flatMap((from) => {
    const text = readFileSync(join(SRC, from), 'utf8');
    const specifiers = [...text.matchAll(/^(?:import|export)\s(?:[^;'=]*\sfrom\s)?'([^']+)';|\bimport\('([^']+)'\)/gm)];
    return specifiers
      .map(([, fixed, lazy]) => fixed ?? lazy ?? '')
      .map((to) => ({ from, to: to.startsWith('.') ? join(from, '..', to) : to }));
  });
}

/** A file that is listed by its name. */
function isNamed(file: string): boolean {
  return LAYERS.flat().includes(file);
}

function layerOf(file: string): number {
  return LAYERS.findIndex((paths) =>
    paths.some((path) => (path.endsWith('/') ? file.startsWith(path) && !isNamed(file) : file === path)),
  );
}

t.test('no file is long, and no two have the same name', (t) => {
  const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));
  for (const file of files) t.ok(readFileSync(join(SRC, file), 'utf8').split('\n').length <= 351, `${file}: 350 lines`);
  const names = files.map((file) => basename(file)).filter((name) => name !== 'errors.ts');
  t.equal(new Set(names).size, names.length);
  t.end();
});

t.test('imports go down only', (t) => {
  for (const { from, to } of imports().filter(({ to }) => to.endsWith('.ts'))) {
    t.not(layerOf(from), -1, `${from} is in a layer`);
    t.ok(layerOf(to) <= layerOf(from), `${from} imports ${to}`);
    const [path = ''] = from.split('/');
    const [target = ''] = to.split('/');
    if (NEIGHBORS.has(path) && target !== path)
      t.notOk(NEIGHBORS.has(target), `${from} imports from its neighbor ${to}`);
  }
  t.end();
});

t.test('each SDK is imported in one directory', (t) => {
  const packages = imports().filter(({ to }) => !to.endsWith('.ts') && !to.startsWith('node:'));
  for (const { from, to } of packages) {
    const importer = Object.entries(IMPORTERS).find(
      ([name]) => to === name || (name.endsWith('/') && to.startsWith(name)),
    );
    t.match(from, importer?.[1] ?? /^no directory$/, `${from} imports ${to}`);
  }
  t.end();
});

t.test('the code that decides what a snapshot is uses no network, clock or file', (t) => {
  const files = readdirSync(join(SRC, 'snapshot'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts') && !['source.ts', 'operand-name.ts'].includes(file))
    .map((file) => join('snapshot', file));
  for (const { from, to } of imports().filter(({ from }) => files.includes(from))) {
    t.notMatch(to, /^node:(?!crypto$|buffer$)/, `${from} imports ${to}`);
  }
  for (const file of files)
    t.notMatch(readFileSync(join(SRC, file), 'utf8'), /Date\.now|new Date\(\)|performance\./, file);
  t.end();
});

/** The process and its children: how it is started, what it is given, how they end. */
const OF_THE_PROCESS = new Set(['entry.ts', 'main.ts', 'process.ts']);

t.test('only main.ts and what starts and ends the process touch it', (t) => {
  const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' });
  for (const file of files.filter((name) => name.endsWith('.ts') && !OF_THE_PROCESS.has(name))) {
    t.notMatch(readFileSync(join(SRC, file), 'utf8'), /(?<!\/)\bprocess\.|console\./, file);
    t.notMatch(readFileSync(join(SRC, file), 'utf8'), /\bspawn\(/, `${file} starts children`);
  }
  t.end();
});

t.test('code that stores an unverified snapshot does not compile', async (t) => {
  const probe = join(ROOT, 'test', 'fixtures', 'unverified.ts');
  const options = ['--noEmit', '--strict', '--module', 'nodenext', '--target', 'es2024', '--skipLibCheck'];
  // The probe expects an error at each forgery; a forgery that compiles is itself an error.
  const { code, stdout } = await run(
    join(ROOT, 'node_modules', '.bin', 'tsc'),
    [...options, '--allowImportingTsExtensions', '--ignoreConfig', '--types', 'node', probe],
    {},
    ROOT,
  );
  t.equal(code, 0, stdout);
});

t.test('only a run that needs sealed snapshots, bundles or objects loads the code for them', (t) => {
  const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));
  for (const file of files) {
    const text = readFileSync(join(SRC, file), 'utf8');
    if (!/^(sealed|bundle)\//.test(file)) t.notMatch(text, /^(import|export) (?!type )[^;]*\/(sealed|bundle)\//m, file);
    if (!/^(copy|commands\/copy|doctor)/.test(file))
      t.notMatch(text, /^(import|export) (?!type )[^;]*\/copy\/copy/m, file);
    // Each command is a file that is loaded only when it runs.
    if (!/^(objects|commands)\//.test(file)) t.notMatch(text, /^(import|export) (?!type )[^;]*\/objects\//m, file);
  }
  t.end();
});

t.test(
  'only the verifier issues the permit to store a snapshot, and only a comparison with its record to copy one',
  (t) => {
    const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));
    const issuersOf = (permit: string): string[] =>
      files.filter((file) => readFileSync(join(SRC, file), 'utf8').includes(`new ${permit}(`));
    t.strictSame(issuersOf('VerifiedSnapshot'), ['snapshot/verify/verifier.ts']);
    t.strictSame(issuersOf('MatchedBytes'), ['snapshot/record-match.ts']);
    t.end();
  },
);

t.test('the etcd versions that the tests run on', (t) => {
  const found = findEtcd().map(({ version }) => version);
  t.comment(`etcd versions under test: ${found.join(', ')}`);
  t.ok(found.length > 0);
  for (const minor of (process.env['REQUIRED_ETCD'] ?? '').split(' ').filter((name) => name !== '')) {
    t.ok(
      found.some((version) => version.startsWith(`${minor}.`)),
      `etcd ${minor} is there`,
    );
  }
  t.end();
});

t.test('the tools that check manifests and workflows', (t) => {
  const required = (process.env['REQUIRED_TOOLS'] ?? '').split(' ').filter((name) => name !== '');
  for (const name of required) t.ok(findJudge(name), `${name} is there`);
  t.end();
});

t.test('Node gets the same flags in the image and as a command', async (t) => {
  const [, entrypoint = ''] = /^ENTRYPOINT (.+)$/m.exec(readFileSync(join(ROOT, 'Dockerfile'), 'utf8')) ?? [];
  const [shebang = ''] = readFileSync(join(SRC, 'entry.ts'), 'utf8').split('\n');
  t.equal(shebang, `#!/usr/bin/env -S ${(JSON.parse(entrypoint) as string[]).slice(0, -1).join(' ')}`);
});

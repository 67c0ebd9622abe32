import { existsSync } from 'node:fs';
import t from 'tap';
import { parseCommandLine } from '../src/cli.ts';
import { UsageError } from '../src/errors.ts';
import { collect, launch } from './support/process.ts';
import { errorOf as errorOfRun, MAIN } from './support/worker.ts';

const COMMANDS = Object.keys({
  ...{ backup: 0, list: 0, prune: 0, verify: 0, inspect: 0, health: 0, doctor: 0, drill: 0, restore: 0 },
  'replace-member': 0,
});

function errorOf(...words: string[]): string {
  try {
    parseCommandLine(words);
  } catch (error) {
    if (error instanceof UsageError) return `${error.message} ${error.hint}`;
    throw error;
  }
  throw new Error(`accepted: ${words.join(' ')}`);
}

t.test('help', (t) => {
  const general = parseCommandLine(['--help']);
  t.match(general, { ask: 'help' });
  for (const command of COMMANDS) {
    t.match(general.help, new RegExp(`^  ${command}\\b`, 'm'));
    const { help } = parseCommandLine(['help', command]);
    t.match(help, new RegExp(`^Usage: etcd-snapshot ${command}\\b`));
    t.equal(parseCommandLine([command, '--help']).help, help);
    t.equal(parseCommandLine([command, '-h']).ask, 'help', 'also without its arguments');
    t.notMatch(help, 'undefined');
    for (const line of [...help.split('\n'), ...general.help.split('\n')]) t.ok(line.length <= 80, line);
  }
  t.equal(parseCommandLine(['help']).help, general.help);
  t.equal(parseCommandLine(['help', 'help']).help, general.help);
  t.match(parseCommandLine(['help', 'restore']).help, /--from-plan FILE[^]*--env-file FILE/);
  t.notMatch(parseCommandLine(['help', 'list']).help, '--from-plan');
  t.equal(parseCommandLine(['help', 'list', '--json']).ask, 'help');
  t.equal(parseCommandLine(['--version']).ask, 'version');
  t.end();
});

t.test('the most similar known word', (t) => {
  for (const [words, message] of [
    [['bakcup'], /no command bakcup\. Check the spelling: the most similar command is backup\./],
    [['rest'], /no command rest\. .* the most similar command is restore\./],
    [['replace'], /the most similar command is replace-member\./],
    [['help', 'lst'], /no command lst\. .* the most similar command is list\./],
    [['something-else'], /no command something-else\. Use one of: backup, list/],
    [['prune', '--dryrun'], /prune has no option --dryrun\. .* the most similar option is --dry-run\./],
    [['prune', '--dry'], /the most similar option is --dry-run\./],
    [['list', '--jsn'], /list has no option --jsn\. .* the most similar option is --json\./],
    [['--jsn'], /backup has no option --jsn\. .* the most similar option is --json\./],
    [['list', '-x'], /list has no option -x\. Run: etcd-snapshot help list/],
    [['list', '--keys', 'x'], /list has no option --keys\. Use it with inspect only\. Run: etcd-snapshot help inspect/],
    [['list', '--keys=x'], /list has no option --keys\. Use it with inspect only\./],
    [['backup', '--dry-run'], /backup has no option --dry-run\. Use it with prune or replace-member only\./],
    [['drill', '--data-dir', 'x'], /drill has no option --data-dir\. Use it with .*restore/],
    [['list', '--constructor'], /list has no option --constructor/],
    [['constructor'], /no command constructor/],
    [['verify'], /verify takes NAME\|FILE, but was given none\. Run: etcd-snapshot help verify/],
    [['help', 'list', 'extra'], /^help takes \[COMMAND\], but was given list extra\. Run: etcd-snapshot help help$/],
    [['list', 'a', 'b'], /list takes no argument, but was given a b/],
    [['verify', ''], /An argument is empty/],
    [['list', ''], /An argument is empty/],
    [[''], /An argument is empty/],
    [
      ['inspect', './s.db', '--get', '--json'],
      /^The command line is invalid: Option '--get' argument is ambiguous\. Run: /,
    ],
    [['list', '--env-file'], /Option '--env-file <value>' argument missing/],
  ] as const) {
    t.match(errorOf(...words), message, words.join(' '));
  }
  t.end();
});

t.test('an option that needs a value is refused without one, as of a shell variable that is not set', (t) => {
  for (const words of [
    ['restore', './x.db', '--data-dir', ''],
    ['restore', './x.db', '--data-dir', '/x', '--initial-cluster-token='],
    ['restore', '--download', ''],
    ['prune', '--cluster-id', 'c1', '--cluster-id', ''],
    ['replace-member', 'm1', '--name', ''],
    ['list', '--env-file', ''],
  ]) {
    t.match(errorOf(...words), /^--(data-dir|initial-cluster-token|download|cluster-id|name|env-file) is empty\./);
  }
  t.equal(parseCommandLine(['inspect', './x.db', '--keys', '']).name, 'inspect', 'every key begins with nothing');
  t.end();
});

t.test('an option with one value is given once', (t) => {
  t.match(
    errorOf('verify', './x.db', '--identity', 'a', '--identity=b'),
    /^--identity is given more than once\. Give it/,
  );
  t.match(errorOf('list', '--env-file', 'a', '--env-file', 'b'), /^--env-file is given more than once/);
  t.equal(parseCommandLine(['list', '--json', '--json']).name, 'list');
  t.equal(parseCommandLine(['prune', '--cluster-id', 'a', '--cluster-id', 'b']).name, 'prune');
  t.end();
});

t.test('help that cannot be written', { skip: !existsSync('/dev/full') }, async (t) => {
  for (const option of ['--help', '--version']) {
    const words = [process.execPath, '--', MAIN, option];
    const finished = await collect(launch('sh', ['-c', '"$@" >/dev/full', 'sh', ...words], {}, import.meta.dirname));
    t.equal(finished.code, 1);
    t.match(errorOfRun(finished).message, /^Cannot write to standard output: [^.]*ENOSPC[^.]*\.$/);
  }
});

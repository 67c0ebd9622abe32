import { chmodSync, chownSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { collect, type Finished, folderOnDisk, launch, mustRun, run, type Variables } from '../support/process.ts';
import { errorOf, MAIN, runWorker } from '../support/worker.ts';

const dir = folderOnDisk('env-file');
const isRoot = process.getuid?.() === 0;
const NOBODY = 65_534;

/** Loaded, it shows in the error of a command that needs more than this. */
const SETS_ENDPOINT = 'SNAPSHOT_ETCD_ENDPOINTS=nonsense\n';

let folders = 0;

/** A working directory with such a `.env`. */
function directoryWith(make: (file: string) => void): string {
  const folder = join(dir, String(folders++));
  mkdirSync(folder, { mode: 0o755 });
  make(join(folder, '.env'));
  return folder;
}

function file(text: string, mode = 0o644, owner?: number): (path: string) => void {
  return (path) => {
    writeFileSync(path, text);
    chmodSync(path, mode);
    if (owner !== undefined) chownSync(path, owner, owner);
  };
}

function isLoaded({ stderr }: Finished): boolean {
  return /SNAPSHOT_ETCD_ENDPOINTS (?!is not set)/.test(stderr);
}

async function asNobody(cwd: string): Promise<Finished> {
  const user = ['--reuid', String(NOBODY), '--regid', String(NOBODY), '--clear-groups'];
  return collect(launch('setpriv', [...user, process.execPath, '--', MAIN, 'health'], {}, cwd));
}

t.test('the .env of the working directory is loaded if nobody else can have put it there', async (t) => {
  chmodSync(dir, 0o755);
  const secret = join(dir, 'elsewhere');
  writeFileSync(secret, SETS_ENDPOINT);
  for (const [what, make, warning] of [
    ['of its owner', file(SETS_ENDPOINT, 0o600), undefined],
    ['that others can read', file(SETS_ENDPOINT, 0o644), undefined],
    ['that its group can write', file(SETS_ENDPOINT, 0o664), /can be written by other users/],
    ['that all can write', file(SETS_ENDPOINT, 0o602), /can be written by other users/],
    ['a link', (path: string) => symlinkSync(secret, path), /not a regular file/],
    ['a directory', (path: string) => mkdirSync(path), /not a regular file/],
    [
      'a manifest',
      file('apiVersion: v1\nkind: Secret\ndata:\n  SNAPSHOT_ETCD_ENDPOINTS: eA==\n'),
      /Kubernetes manifest/,
    ],
    ...(isRoot ? ([['of another user', file(SETS_ENDPOINT, 0o600, NOBODY), /belongs to another user/]] as const) : []),
  ] as const) {
    const finished = await runWorker(['health'], {}, directoryWith(make));
    t.equal(finished.code, 2, what);
    t.equal(isLoaded(finished), warning === undefined, `${what}: ${finished.stderr}`);
    if (warning === undefined) t.notMatch(finished.stderr, 'is ignored', what);
    else t.match(finished.stderr, warning, what);
  }
  const none = await runWorker(
    ['health'],
    {},
    directoryWith(() => {}),
  );
  t.notMatch(none.stderr, '.env', 'where there is none, nothing is said');
});

t.test('another user than root', { skip: isRoot ? false : 'takes root to become another user' }, async (t) => {
  for (const [what, make, loaded] of [
    ['his own', file(SETS_ENDPOINT, 0o600, NOBODY), true],
    ["root's", file(SETS_ENDPOINT, 0o644, 0), true],
    ["a third user's", file(SETS_ENDPOINT, 0o644, 1234), false],
    ['one that he may not read', file(SETS_ENDPOINT, 0o600, 0), false],
  ] as const) {
    const finished = await asNobody(directoryWith(make));
    t.equal(finished.code, 2, what);
    t.equal(isLoaded(finished), loaded, `${what}: ${finished.stderr}`);
    if (!loaded) t.match(finished.stderr, /The file .env in the working directory is ignored/, what);
  }
});

t.test('the file of the termination message and the proxy come from the environment of the process only', async (t) => {
  const victim = join(dir, 'victim');
  const text = `SNAPSHOT_TERMINATION_LOG=${victim}\nHTTPS_PROXY=no-url\n${SETS_ENDPOINT}`;
  const named = join(dir, 'named.env');
  writeFileSync(named, text);
  for (const [args, cwd] of [
    [['health'], directoryWith(file(text, 0o600))],
    [['health', '--env-file', named], undefined],
  ] as const) {
    writeFileSync(victim, 'precious');
    const finished = await runWorker(args, {}, cwd);
    t.ok(isLoaded(finished), finished.stderr);
    t.match(finished.stderr, /SNAPSHOT_TERMINATION_LOG in an env file is ignored/);
    t.match(finished.stderr, /HTTPS_PROXY in an env file is ignored/);
    t.equal(readFileSync(victim, 'utf8'), 'precious');
  }
  await runWorker(['health'], { SNAPSHOT_TERMINATION_LOG: victim });
  t.match(readFileSync(victim, 'utf8'), /\(exit code 2\)$/);
});

t.test('a named file that is not an env file', async (t) => {
  const place = join(dir, 'named');
  const utf16 = Buffer.from(`\ufeff${SETS_ENDPOINT}`, 'utf16le');
  for (const [what, text, message] of [
    ['UTF-16', utf16, /named has no line NAME=VALUE\.$/],
    ['UTF-16 without a mark', utf16.subarray(2), /named has no line NAME=VALUE\.$/],
    ['JSON', '{ "SNAPSHOT_ETCD_ENDPOINTS": "x" }', /named has no line NAME=VALUE\.$/],
    ['set X=Y', `set ${SETS_ENDPOINT}`, /named has no line NAME=VALUE\.$/],
    ['PowerShell', `$env:SNAPSHOT_ETCD_ENDPOINTS = "x"`, /named has no line NAME=VALUE\.$/],
    [
      'a Secret',
      'apiVersion: v1\nkind: Secret\ndata:\n  SNAPSHOT_ETCD_ENDPOINTS: eA==\n',
      /named is a Kubernetes manifest\.$/,
    ],
    ['words', 'nothing of the kind\n', /named has no line NAME=VALUE\.$/],
    ['a line without =', `# x\n${SETS_ENDPOINT}\nhunter2\n`, /named has no NAME=VALUE in line 4\.$/],
    ['set among others', `${SETS_ENDPOINT}\r\nset A=hunter2\r\n`, /named has no NAME=VALUE in line 3\.$/],
    ['after a quoted value', `A="1\n\n2"\n  hunter2"\n`, /named has no NAME=VALUE in line 4\.$/],
    ['too large', Buffer.alloc(2 ** 21, 'A=B\n'), /named is larger than/],
  ] as const) {
    writeFileSync(place, text);
    const finished = await runWorker(['health', '--env-file', place], {});
    t.equal(finished.code, 2, what);
    t.match(errorOf(finished).message, message, what);
    t.notMatch(finished.stdout + finished.stderr, 'hunter2', 'a line can be a secret');
  }
  for (const empty of ['', '\n\n', '# SNAPSHOT_ETCD_ENDPOINTS=x\n']) {
    writeFileSync(place, empty);
    const finished = await runWorker(['health', '--env-file', place], {});
    t.match(finished.stderr, /"warn","message":"The env file .*named sets no variable\."/);
  }
  for (const [what, text] of [
    ['a byte order mark', `\ufeff${SETS_ENDPOINT}`],
    ['export', `export ${SETS_ENDPOINT}`],
    ['CRLF', SETS_ENDPOINT.replace('\n', '\r\n')],
    ['quoted lines', `A="-----BEGIN\n abc\n\n# no comment\n-----END"\nB='1\n2' # comment\n  ${SETS_ENDPOINT}`],
  ] as const) {
    writeFileSync(place, text);
    t.ok(isLoaded(await runWorker(['health', '--env-file', place], {})), what);
  }
});

t.test('a stream that is named on purpose, and no file at all', async (t) => {
  const script = `exec "$0" -- "$1" health --env-file <(printf %s '${SETS_ENDPOINT.trim()}')`;
  const piped = await run('bash', ['-c', script, process.execPath, MAIN]);
  t.ok(isLoaded(piped), piped.stderr);
  const nothing = await runWorker(['health', '--env-file', '/dev/null'], {});
  t.notMatch(nothing.stderr, /env file/i);
});

t.test('without two dashes Node takes the option for itself, and the run is refused', async (t) => {
  const place = join(dir, 'obeyed.env');
  writeFileSync(place, `${SETS_ENDPOINT}NODE_OPTIONS=--title=obeyed\n`);
  const node = async (...args: string[]): Promise<Finished> => run(process.execPath, args);
  for (const args of [['--env-file', place], [`--env-file=${place}`]]) {
    const refused = await node(MAIN, 'health', ...args);
    t.equal(refused.code, 2, refused.stderr);
    t.match(errorOf(refused), { message: /Node\.js treated --env-file as its own/, hint: /node -- dist\/main\.js/ });
    t.ok(isLoaded(await node('--', MAIN, 'health', ...args)));
  }
  t.match(await node(MAIN, '--version'), { code: 0 }, 'nothing is refused without the option');
});

t.test('NODE_TLS_REJECT_UNAUTHORIZED=0 is refused, wherever it is set', async (t) => {
  const place = join(dir, 'tls.env');
  writeFileSync(place, 'NODE_TLS_REJECT_UNAUTHORIZED="0"\n');
  const variable: Variables = { NODE_TLS_REJECT_UNAUTHORIZED: '0' };
  for (const command of [
    'backup',
    'list',
    'health',
    'verify ./x',
    'doctor',
    'drill',
    'restore --plan',
    'inspect ./x',
  ]) {
    const finished = await runWorker(command.split(' '), variable);
    t.equal(finished.code, 2, command);
    t.match(errorOf(finished).message, /NODE_TLS_REJECT_UNAUTHORIZED=0 would accept any certificate/, command);
  }
  const fromFile = await runWorker(['health', '--env-file', place], {});
  t.match(errorOf(fromFile).message, /NODE_TLS_REJECT_UNAUTHORIZED=0/);
  const other = await runWorker(['health'], { NODE_TLS_REJECT_UNAUTHORIZED: '1' });
  t.notMatch(other.stderr, 'NODE_TLS');
});

t.test('an old Node gets one sentence', async (t) => {
  const old = (
    await mustRun('sh', ['-c', 'for n in /usr/bin/node /usr/local/bin/node; do test -x $n && $n --version; done; true'])
  )
    .trim()
    .split('\n');
  t.comment(`other versions of Node here: ${old.join(', ')}`);
  const { engines } = JSON.parse(readFileSync(join(MAIN, '..', '..', 'package.json'), 'utf8')) as {
    engines: { node: string };
  };
  t.equal(engines.node, '^22.15.0 || >=23.11.0', 'process.execve is there from these versions on');
  // The entry point asks for the version before it loads anything: here it is told another one.
  for (const [version, code] of [
    ['18.20.8', 2],
    ['20.20.2', 2],
    ['22.9.0', 2],
    ['22.14.0', 2],
    ['23.10.0', 2],
    ['22.15.0', 0],
    ['23.11.0', 0],
    ['24.0.0', 0],
    ['26.1.0', 0],
  ] as const) {
    const hook = `data:text/javascript,Object.defineProperty(process.versions,'node',{value:'${version}'})`;
    const finished = await run(process.execPath, ['--import', hook, '--', MAIN, '--version']);
    t.equal(finished.code, code, version);
    if (code === 2)
      t.match(finished.stderr, new RegExp(`^error: .* needs Node.js 24, .*this is ${version}\\.\nhint: .*\n$`));
  }
  for (const path of ['/usr/bin/node', '/usr/local/bin/node']) {
    const { code, stdout } = await run('sh', ['-c', `${path} --version 2>/dev/null`]);
    if (code !== 0 || !/^v(1[6-9]|2[01])\./.test(stdout)) continue;
    t.match(await run(path, ['--', MAIN, 'list']), { code: 2, stdout: '', stderr: /^error: .*\nhint: .*\n$/ }, stdout);
  }
});

import type { ChildProcess } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { Azurite } from '../support/azurite.ts';
import { EtcdCluster, findEtcd } from '../support/etcd.ts';
import { Lifetime } from '../support/lifetime.ts';
import { noNamespaces, SilentNameServer, withFiles } from '../support/namespace.ts';
import {
  collect,
  type Finished,
  isRunning,
  launch,
  mustRun,
  openFiles,
  temporaryFolder,
  type Variables,
} from '../support/process.ts';
import { until } from '../support/until.ts';
import { MAIN, startWorker } from '../support/worker.ts';

/** Milliseconds in which a run must end after a signal, and what may come in addition to start and end other processes. */
const PROMISE = 2_000;
const SLACK = 3_000;

const dir = temporaryFolder('ends');
const [tools] = findEtcd();
if (tools === undefined) throw new Error('no etcd');
const cluster = await EtcdCluster.start({ tools, dir: join(dir, 'etcd') });
const azurite = await Azurite.start(join(dir, 'azurite'));
t.teardown(async () => Promise.all([cluster.stop(), azurite.stop()]));
await azurite.container('ends').create();

const terminationLog = join(dir, 'termination-log');
const BASE = { SNAPSHOT_TERMINATION_LOG: terminationLog, SNAPSHOT_LOG_LEVEL: 'debug' };
const WORKING = { ...BASE, ...cluster.variables, ...azurite.variables('ends') };
/** A storage account whose name nobody can resolve here, as on a node with a broken resolver. */
const ELSEWHERE = {
  ...BASE,
  SNAPSHOT_AZURE_ACCOUNT_NAME: 'someaccount',
  SNAPSHOT_AZURE_ACCOUNT_KEY: azurite.key,
  SNAPSHOT_AZURE_CONTAINER_NAME: 'ends',
};

const SIGNALS = [
  ['SIGTERM', 143],
  ['SIGINT', 130],
  ['SIGHUP', 129],
] as const;

interface Ending {
  readonly child: ChildProcess;
  /** Comes when the run hangs where it should. */
  readonly hangs: () => boolean | Promise<boolean>;
  /** Undefined = nobody tells it to end. */
  readonly signal?: NodeJS.Signals;
  /** Of the process that gets the signal, where that is not the child. */
  readonly pid?: () => number;
  readonly code: number;
}

/** Ends a run that hangs, and checks how it ends and what it says. */
async function ends(t: Test, what: string, { child, hangs, signal, pid, code }: Ending): Promise<Finished> {
  const finished = collect(child);
  const gone = finished.then(() => true);
  await Promise.race([until(hangs), gone]);
  const target = pid?.() ?? child.pid ?? 0;
  const lifetime = new Lifetime(target);
  if (signal !== undefined) process.kill(target, signal);
  const ended = await finished;
  const ms = lifetime.end();
  t.equal(ended.code, code, `${what}: ${ended.stderr}`);
  if (signal !== undefined) t.ok(ms < PROMISE + SLACK, `${what}: ${ms} ms`);
  t.match(readFileSync(terminationLog, 'utf8'), new RegExp(`\\(exit code ${code}\\)$`), `${what}: termination message`);
  t.match(ended.stderr, new RegExp(`"level":"error".*"exitCode":${code}(,.*)?\\}\n`), `${what}: log`);
  return ended;
}

t.beforeEach(() => writeFileSync(terminationLog, ''));

t.test('a name server that never answers', { skip: noNamespaces ?? false }, async (t) => {
  const server = await SilentNameServer.start(dir);
  t.teardown(() => server.stop());
  const start = (args: readonly string[], variables: Variables, isFirst = false): ChildProcess => {
    server.questions = 0;
    writeFileSync(terminationLog, '');
    const worker = [process.execPath, '--', MAIN, ...args];
    const [command = '', ...rest] = withFiles({ '/etc/resolv.conf': server.resolvConf }, worker, isFirst);
    return launch(command, rest, variables, dir);
  };
  const hangs = (): boolean => server.questions > 0;

  for (const [signal, code] of SIGNALS) {
    const { stdout } = await ends(t, signal, { child: start(['list', '--json'], ELSEWHERE), hangs, signal, code });
    t.match(JSON.parse(stdout), { error: { code, message: `Interrupted by ${signal}` } });
  }
  const etcd = { ...BASE, SNAPSHOT_ETCD_ENDPOINTS: 'http://etcd-1.example.com:2379' };
  await ends(t, 'etcd', { child: start(['health'], etcd), hangs, signal: 'SIGTERM', code: 143 });
  const pushes = { ...WORKING, SNAPSHOT_PUSHGATEWAY_URL: 'https://pushgateway.example.com:9091' };
  const wrong = { ...pushes, SNAPSHOT_ETCD_ENDPOINTS: 'nonsense' };
  await ends(t, 'the Pushgateway', { child: start([], wrong), hangs, signal: 'SIGTERM', code: 2 });

  const atTimeout = { child: start(['list'], { ...ELSEWHERE, SNAPSHOT_TIMEOUT: '2' }), hangs, code: 12 };
  const whole = new Lifetime(atTimeout.child.pid);
  await ends(t, 'SNAPSHOT_TIMEOUT', atTimeout);
  t.ok(whole.end() < 2_000 + PROMISE + SLACK);

  const success = await collect(start([], pushes));
  t.equal(success.code, 0, 'a run that has done its work ends, too');
  t.match(success.stderr, /pushgateway\.example\.com:9091 failed/);

  const container = start(['list'], ELSEWHERE, true);
  const pid = (): number => Number(readFileSync(`/proc/${container.pid}/task/${container.pid}/children`, 'utf8'));
  await ends(t, 'as the first process', { child: container, hangs, signal: 'SIGTERM', pid, code: 143 });
});

t.test('a FIFO where a file is expected', async (t) => {
  const place = join(dir, 'fifos');
  mkdirSync(place);
  const fifo = join(place, 'fifo');
  await mustRun('mkfifo', [fifo, join(place, '.env')]);
  const https = { SNAPSHOT_ETCD_ENDPOINTS: 'https://127.0.0.1:1' };
  for (const [args, more] of [
    [['verify', fifo], {}],
    [['inspect', fifo], {}],
    [['restore', fifo, '--data-dir', join(place, 'data'), '--name', 'm1', '--force'], {}],
    [['restore', '--plan', '--from-plan', fifo], {}],
    [['restore', './x', '--from', fifo, '--data-dir', join(place, 'data'), '--force'], {}],
    [['restore', '--swap', '--data-dir', fifo], {}],
    [['list', '--env-file', fifo], {}],
    [
      ['health'],
      { ...https, SNAPSHOT_ETCD_CA_FILE: fifo, SNAPSHOT_ETCD_CERT_FILE: fifo, SNAPSHOT_ETCD_KEY_FILE: fifo },
    ],
    // The FIFO is the .env of the working directory.
    [['list'], {}],
  ] as const) {
    writeFileSync(terminationLog, '');
    const child = startWorker(args, { ...BASE, ...more, SNAPSHOT_TIMEOUT: '2' }, place);
    const lifetime = new Lifetime(child.pid);
    const { code, stderr } = await collect(child);
    const ms = lifetime.end();
    const what = args.join(' ').replaceAll(place, '');
    t.ok(code !== null && code > 0 && code < 20, `${what}: ${code} ${stderr}`);
    t.ok(ms < 2_000 + PROMISE + SLACK, `${what}: ${ms} ms`);
    t.match(readFileSync(terminationLog, 'utf8'), new RegExp(`\\(exit code ${code}\\)$`), what);
  }
});

t.test('servers that are there and do not answer', async (t) => {
  const [member] = cluster.members;
  if (member === undefined) throw new Error('no member');
  const connected = (child: ChildProcess) => (): boolean => connections(child.pid ?? 0) > 0;
  for (const [server, args] of [
    [member.daemon, ['health']],
    [member.daemon, []],
    [azurite, ['list']],
    [azurite, []],
    [azurite, ['doctor']],
  ] as const) {
    server.signal('SIGSTOP');
    try {
      const what = `${args[0] ?? 'backup'} without an answer of ${server === azurite ? 'Azurite' : 'etcd'}`;
      const child = startWorker(args, WORKING, dir);
      await ends(t, what, { child, hangs: connected(child), signal: 'SIGTERM', code: 143 });
    } finally {
      server.signal('SIGCONT');
    }
  }
});

t.test('a reader of standard output that does not read', async (t) => {
  await cluster.fill(3000, 10, `/registry/${'long/'.repeat(60)}`);
  const file = join(dir, 'large.db');
  await cluster.etcdctl('snapshot', 'save', file);
  for (const [more, code, signal] of [
    [{}, 143, 'SIGTERM'],
    [{ SNAPSHOT_TIMEOUT: '4' }, 1, undefined],
  ] as const) {
    const child = startWorker(['inspect', file, '--keys', '/'], { ...BASE, ...more }, dir);
    let began = false;
    child.stdout?.once('data', () => {
      began = true;
      child.stdout?.pause();
    });
    const stderr: string[] = [];
    child.stderr?.setEncoding('utf8').on('data', (text: string) => stderr.push(text));
    const exited = new Promise<number | null>((resolve) => child.once('exit', resolve));
    await until(() => began);
    const lifetime = new Lifetime(child.pid);
    if (signal !== undefined) child.kill(signal);
    t.equal(await exited, code, stderr.join(''));
    t.ok(lifetime.end() < 4_000 + PROMISE + SLACK);
    child.stdout?.resume();
    t.match(stderr.join(''), /Cannot write to standard output/);
    t.match(readFileSync(terminationLog, 'utf8'), /Cannot write to standard output.*\(exit code/);
  }
});

t.test('programs that ignore SIGTERM, and their children', async (t) => {
  const bin = join(dir, 'bin');
  mkdirSync(bin);
  const pids = join(dir, 'pids');
  const file = join(dir, 'small.db');
  await cluster.etcdctl('snapshot', 'save', file);
  const hang = `trap '' TERM HUP INT; sleep 1000 & echo $$ $! >'${pids}.part'; mv '${pids}.part' '${pids}'; wait; wait`;
  for (const [what, script] of [
    ['asked for its version', hang],
    [
      'at work',
      `case "$*" in version) echo 'etcdutl version: ${tools.version}';; *--help*) echo --initial-cluster-token;; *) ${hang};; esac`,
    ],
  ] as const) {
    writeFileSync(join(bin, 'etcdutl'), `#!/bin/sh\n${script}\n`);
    chmodSync(join(bin, 'etcdutl'), 0o755);
    for (const [signal, code] of SIGNALS) {
      const args = ['restore', file, '--data-dir', join(dir, `restored-${signal}`), '--name', 'm1', '--force'];
      const child = startWorker(args, { ...BASE, PATH: `${bin}:/usr/bin:/bin` }, dir);
      await ends(t, `${what}, ${signal}`, { child, hangs: () => existsSync(pids), signal, code });
      const started = readFileSync(pids, 'utf8').trim().split(' ').map(Number);
      t.equal(started.length, 2);
      await until(() => started.every((pid) => !isRunning(pid)));
      await mustRun('rm', [pids]);
    }
  }
});

t.test('uncaught errors are reported and masked', async (t) => {
  const secret = 'a-secret-that-no-output-may-show';
  for (const fault of [`throw new Error('${secret}')`, `void Promise.reject(new Error('${secret}'))`]) {
    writeFileSync(terminationLog, '');
    const hook = `data:text/javascript,${encodeURIComponent(`setTimeout(() => { ${fault} }, 500);`)}`;
    const variables = { ...WORKING, SNAPSHOT_ETCD_USERNAME: 'root', SNAPSHOT_ETCD_PASSWORD: secret };
    azurite.signal('SIGSTOP');
    const args = ['--import', hook, '--', MAIN, 'list', '--json'];
    const { code, stdout, stderr } = await collect(launch(process.execPath, args, variables, dir)).finally(() =>
      azurite.signal('SIGCONT'),
    );
    const message = readFileSync(terminationLog, 'utf8');
    t.equal(code, 1, stderr);
    t.match(JSON.parse(stdout), {
      error: { code: 1, message: 'Unexpected error.', hint: /Please report/ },
    });
    t.match(message, /^Unexpected error\. Please report this: Error: \[secret\] at .*\(exit code 1\)$/);
    t.notMatch(`${stdout}${stderr}${message}`, secret);
  }
});

t.test('the demo leaves nothing when its terminal is closed', async (t) => {
  const place = temporaryFolder('demo-place');
  const demo = launch(process.execPath, [join(MAIN, '..', '..', 'scripts', 'demo.ts')], {}, place);
  const finished = collect(demo);
  const folders = (): string[] => [tmpdir(), '/dev/shm'].flatMap((parent) => foldersOf(parent, demo.pid ?? 0));
  await until(() => folders().length > 0 || demo.exitCode !== null);
  const before = folders();
  demo.kill('SIGHUP');
  const { code, stderr } = await finished;
  t.equal(code, 129);
  t.match(stderr, /\nInterrupted: the servers were stopped, and \S+ was removed\.\n$/);
  t.strictSame(
    before.filter((folder) => existsSync(folder)),
    [],
  );
});

/** Folders of the demo that are named in the command lines of what this process has started. */
function foldersOf(parent: string, pid: number): string[] {
  const children = readProcess(`${pid}/task/${pid}/children`).trim().split(' ').filter(Boolean);
  const folders = readdirSync(parent).filter((name) => name.startsWith('etcd-snapshot-demo-'));
  return folders
    .map((name) => join(parent, name))
    .filter((folder) => children.some((child) => readProcess(`${child}/cmdline`).includes(folder)));
}

/** Empty where the process has ended. */
function readProcess(path: string): string {
  try {
    return readFileSync(join('/proc', path), 'utf8');
  } catch {
    return '';
  }
}

/** Of a process, to servers. */
function connections(pid: number): number {
  return openFiles(pid).filter(({ path, target }) => !/\/[012]$/.test(path) && target.startsWith('socket:')).length;
}

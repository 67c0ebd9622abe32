import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { chmod, cp, mkdir, readdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { findEtcd } from '../support/etcd.ts';
import { SNAPSHOT, unfitFor } from '../support/fixtures.ts';
import {
  collect,
  Daemon,
  type Finished,
  freePort,
  isRunning,
  launch,
  run,
  temporaryFolder,
} from '../support/process.ts';
import { until } from '../support/until.ts';
import { asOther, memberOfOther, noSecondUser, openTo, ownerOf, precious, stateOf } from '../support/users.ts';
import { jsonOf } from '../support/command.ts';
import { errorOf, MAIN, runWorker, startWorker, withTools } from '../support/worker.ts';

const skip = noSecondUser();
const tools = findEtcd().at(-1);
if (tools === undefined) throw new Error('no etcd');
const unfit = skip || unfitFor(tools);
const bare = withTools(tools);
const dir = openTo(temporaryFolder('killed-runs'));
const snapshot = join(dir, 'snapshot.db');
await writeFile(snapshot, SNAPSHOT);
t.jobs = 2;

const swap = async (place: string): Promise<Finished> => runWorker(['restore', '--swap', '--data-dir', place], bare);

/** An etcd with its log in a directory of its own, as the restore made both. */
async function startEtcd(dataDir: string, walDir: string): Promise<Daemon> {
  const urls = [`http://127.0.0.1:${await freePort()}`, `http://127.0.0.1:${await freePort()}`] as const;
  const args = [
    ...['--name', 'm1', '--data-dir', dataDir, '--wal-dir', walDir],
    ...['--listen-client-urls', urls[0], '--advertise-client-urls', urls[0], '--listen-peer-urls', urls[1]],
  ];
  const isReady = async (): Promise<boolean> =>
    (await run(tools?.etcdctl ?? '', ['--endpoints', urls[0], 'endpoint', 'health'], { ETCDCTL_API: '3' })).code === 0;
  return Daemon.start(tools?.etcd ?? '', args, isReady);
}

/** What a run leaves that is killed at a certain moment; `log` is the journal's entry about the log. */
async function leave(place: string, journal: string, withData: boolean): Promise<void> {
  await mkdir(join(place, 'data.restoring'), { mode: 0o700 });
  await writeFile(join(place, 'data.restoring/wal-dir'), journal);
  if (withData) await rename(join(place, 'data'), join(place, 'data.restoring/data-1a2b3c4d'));
}

function journalOf(walDir: string, more: object = {}): string {
  const { dev, ino } = statSync(walDir);
  return JSON.stringify({ walDir, dev, ino, data: 'data-1a2b3c4d', ...more });
}

t.test('a rerun after a kill never removes the log of an etcd', { skip: unfit }, async (t) => {
  const place = join(dir, 'killed');
  await mkdir(place);
  const [dataDir, walDir] = [join(place, 'data'), join(place, 'wal')];
  const args = ['restore', snapshot, '--name', 'm1', '--data-dir', dataDir, '--wal-dir', walDir];
  const begin = async (): Promise<void> => {
    await rm(place, { recursive: true });
    await mkdir(place);
    await jsonOf(args, bare);
    t.strictSame((await readdir(place)).toSorted(), ['data', 'wal']);
  };
  const logs = async (): Promise<string[]> => (await readdir(walDir)).filter((name) => name.endsWith('.wal'));

  // Killed after the second move, before the journal was removed: then the data was moved on, and etcd was started.
  for (const [what, journal] of [
    ['its own journal', (): string => journalOf(walDir)],
    ['a journal of an earlier version', (): string => walDir],
    ['a journal that was cut off', (): string => journalOf(walDir).slice(0, 20)],
  ] as const) {
    await begin();
    await leave(place, journal(), false);
    await rename(dataDir, join(place, 'moved'));
    const etcd = await startEtcd(join(place, 'moved'), walDir);
    const running = await runWorker(args, bare);
    t.equal(running.code, 20, `${what}, etcd runs: ${running.stderr}`);
    t.match(errorOf(running).message, /wal is in use by process \d+ \(etcd\)/);
    t.strictSame(await logs(), await logs());
    t.ok((await logs()).length > 0, `${what}: the log is there`);
    await etcd.stop();
    const stopped = await runWorker(args, bare);
    t.equal(stopped.code, 2, `${what}, etcd is stopped: ${stopped.stderr}`);
    t.match(errorOf(stopped).message, /wal is not empty/);
    t.ok((await logs()).length > 0, `${what}: the log is still there`);
  }

  await begin();
  const own = journalOf(walDir);
  await leave(place, own, true);
  t.equal((await runWorker(args, bare)).code, 0, 'killed between the two moves: what it made is made again');
  t.strictSame((await readdir(place)).toSorted(), ['data', 'wal']);

  await leave(place, journalOf(walDir), true);
  await cp(walDir, `${walDir}-2`, { recursive: true });
  await rm(walDir, { recursive: true });
  await rename(`${walDir}-2`, walDir);
  const others = await runWorker(args, bare);
  t.equal(others.code, 2, 'a log that another run put there');
  t.ok((await logs()).length > 0);
});

t.test('kills of a restore with a log of its own, at random moments', { skip: unfit }, async (t) => {
  const place = join(dir, 'kills');
  await mkdir(place);
  const args = [
    'restore',
    snapshot,
    '--name',
    'm1',
    '--data-dir',
    join(place, 'data'),
    '--wal-dir',
    join(place, 'wal'),
  ];
  const whole = await runWorker(args, bare);
  t.equal(whole.code, 0, whole.stderr);
  for (let kill = 0; kill < 5; kill++) {
    await rm(place, { recursive: true });
    await mkdir(place);
    const worker = startWorker(args, bare);
    const ended = collect(worker);
    // Later and later: the moves are the last that it does.
    await sleep(whole.ms * (0.4 + 0.13 * kill));
    worker.kill('SIGKILL');
    await ended;
    const isThere = existsSync(join(place, 'data'));
    if (isThere) t.ok(existsSync(join(place, 'wal')), 'data never without its log');
    const again = await runWorker(args, bare);
    t.equal(again.code, isThere ? 2 : 0, `a rerun ${isThere ? 'refuses' : 'restores'}: ${again.stderr}`);
    t.match((await readdir(join(place, 'wal'))).join(' '), /\.wal/);
  }
});

/** A command where neither other processes nor `flock` are seen, as in a container of the smallest image. */
async function inBareContainer(args: readonly string[]): Promise<Finished> {
  const script = 'mount --bind /dev/null "$(readlink -f "$(command -v flock)")" && exec "$@"';
  const command = ['--mount', '--pid', '--fork', '--mount-proc', 'sh', '-ec', script, 'sh'];
  return run('unshare', [...command, process.execPath, MAIN, ...args], bare, import.meta.dirname);
}

t.test(
  'an etcd whose database was deleted under it is found through a link, and without flock',
  { skip: unfit },
  async (t) => {
    const place = join(dir, 'linked');
    await mkdir(join(place, 'real'), { recursive: true });
    await symlink('real', join(place, 'link'));
    const real = join(place, 'real');
    await jsonOf(['restore', snapshot, '--name', 'm1', '--data-dir', join(place, 'data')], bare);
    await rename(join(place, 'data/member'), join(real, 'member'));
    const again = ['restore', snapshot, '--name', 'm1', '--initial-cluster-token', 'another'];
    await jsonOf([...again, '--data-dir', join(real, 'restored')], bare);
    const etcd = await startEtcd(real, join(real, 'member/wal'));
    t.teardown(async () => etcd.stop());
    const command = ['restore', '--swap', '--data-dir', join(place, 'link')];
    t.equal((await swap(join(place, 'link'))).code, 20, 'it runs');
    const unseen = await inBareContainer(command);
    t.equal(unseen.code, 20, unseen.stderr);
    t.match(errorOf(unseen).message, /holds the lock on its database/);
    await rm(join(real, 'member/snap/db'));
    for (const named of [real, join(place, 'link')]) {
      const finished = await swap(named);
      t.equal(finished.code, 20, `${named}: ${finished.stderr}`);
      t.match(errorOf(finished).message, /is in use by process \d+ \(etcd\)/);
    }
    t.equal((await inBareContainer(command)).code, 20, 'its log is locked still');
    await rm(join(real, 'member'), { recursive: true });
    t.equal((await swap(join(place, 'link'))).code, 20, 'all of it was removed');
  },
);

t.test('unknown values are reported', { skip }, async (t) => {
  const place = await memberOfOther(join(dir, 'unknown'));
  const finished = await inBareContainer(['restore', '--swap', '--data-dir', place, '--json']);
  t.equal(finished.code, 0, finished.stderr);
  const { findings } = JSON.parse(finished.stdout) as { findings: string[] };
  t.match(findings.join(' '), /Cannot determine whether an etcd uses .*flock is missing/);
  t.match(finished.stderr, /"level":"warn".*Cannot determine/);
});

/** Programs of which the etcd never answers; its pid is in the file. */
async function muteTools(
  bin: string,
): Promise<{ variables: Readonly<Record<string, string>>; pid: () => Promise<number> }> {
  const pidFile = join(bin, 'pid');
  await mkdir(bin);
  await writeFile(join(bin, 'etcdutl'), `#!/bin/sh\nexec ${tools?.snapshotTool} "$@"\n`, { mode: 0o755 });
  // The process bears the name of etcd, as the real one does.
  await mkdir(join(bin, 'named'));
  await cp('/usr/bin/sleep', join(bin, 'named/etcd'));
  await writeFile(join(bin, 'etcd'), `#!/bin/sh\necho $$ >${pidFile}\nexec ${bin}/named/etcd 1000\n`, { mode: 0o755 });
  const pid = async (): Promise<number> => {
    for (;;) {
      const text = existsSync(pidFile) ? readFileSync(pidFile, 'utf8') : '';
      if (text !== '') return Number(text);
      await sleep(20);
    }
  };
  return { variables: { PATH: `${bin}:/usr/bin:/bin` }, pid };
}

/** What a drill must leave alone. */
async function strangersIn(t: Test, room: string): Promise<() => void> {
  const target = await precious(`${room}-target`);
  await asOther(`mkdir -m 700 ${room}/etcd-drill-others; echo precious >${room}/etcd-drill-others/file`);
  await asOther(`mv ${room}/etcd-drill-others ${room}/etcd-drill-other1; ln -s ${target} ${room}/etcd-drill-linked`);
  await mkdir(join(room, 'etcd-drill-public'), { mode: 0o755 });
  await mkdir(join(room, 'etcd-drill-another-name'), { mode: 0o700 });
  const before = [stateOf(target), stateOf(room).filter((line) => !line.includes('drill-left'))];
  return () => {
    t.strictSame(stateOf(target), before[0], 'nothing was done through a link');
    t.strictSame(stateOf(room), before[1], 'what is of others stays');
  };
}

t.test('a drill that is killed takes its etcd with it, and the next one cleans up', { skip: unfit }, async (t) => {
  const room = join(dir, 'room');
  await mkdir(room);
  await chmod(room, 0o1777);
  const assertUntouched = await strangersIn(t, room);
  const args = ['drill', snapshot, '--temp-dir', room];

  const { variables, pid } = await muteTools(join(dir, 'mute'));
  const worker = startWorker(args, variables);
  const ended = collect(worker);
  const etcd = await pid();
  const own = readdirSync(room).find((name) => /^etcd-drill-(?!other1|linked|public)\w{6}$/.test(name)) ?? '';
  t.equal(ownerOf(join(room, own)), '0:0 700');

  const besides = await runWorker(args, bare);
  t.equal(besides.code, 0, besides.stderr);
  t.ok(existsSync(join(room, own)), 'another drill leaves one that runs alone');
  worker.kill('SIGKILL');
  await ended;
  await until(() => !isRunning(etcd));
  t.pass('etcd ends with the drill');
  t.ok(existsSync(join(room, own, 'data/member/snap/db')), 'its directory is left');

  const next = await runWorker(args, bare);
  t.equal(next.code, 0, next.stderr);
  t.match(next.stderr, /removed the directory of a killed drill/);
  assertUntouched();
});

t.test(
  'where setpriv cannot be used, the next drill ends the etcd of the one that was killed',
  { skip: unfit },
  async (t) => {
    const room = join(dir, 'room-without');
    await mkdir(room);
    const { variables, pid } = await muteTools(join(dir, 'mute-without'));
    const script = 'mount --bind /dev/null /usr/bin/setpriv && exec "$@"';
    const args = ['drill', snapshot, '--temp-dir', room];
    const command = ['--mount', 'sh', '-ec', script, 'sh', process.execPath, MAIN, ...args];
    const worker = collect(launch('unshare', command, variables, import.meta.dirname));
    const etcd = await pid();
    const parent = Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${etcd}/status`, 'utf8'))?.[1]);
    process.kill(parent, 'SIGKILL');
    await worker;
    t.notOk(/\) Z/.test(readFileSync(`/proc/${etcd}/stat`, 'utf8')), 'it runs on');
    const next = await runWorker(args, bare);
    t.equal(next.code, 0, next.stderr);
    await until(() => !isRunning(etcd));
    t.pass('until the next drill');
    t.strictSame(await readdir(room), []);
  },
);

import type { Stats } from 'node:fs';
import { readdir, readFile, readlink, realpath, stat, statfs } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { pid as self } from 'node:process';
import { setTimeout as sleep } from 'node:timers/promises';
import type { EtcdConfig } from '../config/config.ts';
import { EtcdError, UnsafeError, UsageError } from '../errors.ts';
import { connectAll } from '../etcd/connect.ts';
import type { Connection } from '../etcd/connection.ts';
import { proveQuorum } from '../etcd/quorum.ts';
import type { Warnings } from '../log.ts';
import { printable } from '../text.ts';
import { statOf } from '../disk.ts';
import { runProgram } from './tool.ts';

/** The exit code of `flock` that we choose for "somebody else has it". */
const TAKEN = 75;

const LOCKED = 'a process that holds the lock on its database';

/** The PID namespace of the machine itself: who is in it sees all processes there are. */
const ALL_PROCESSES = 'pid:[4026531836]';

/** What an etcd works in. */
interface Place {
  /** Its own path, without links. */
  readonly dir: string;
  /** Files in there that etcd has open and keeps locked. */
  readonly files: ReadonlyMap<string, Stats>;
  /** The database among them; a write-ahead log of its own has none. */
  readonly database: string | undefined;
}

/**
 * Refuses a data directory, or a directory of a write-ahead log, that a running etcd works in. It is found by the files that it
 * has open, also when they were deleted under it, and by its locks: on the write-ahead log they are seen from inside any
 * container.
 * @param kind what the directory is to etcd
 * @returns a sentence for the operator where it cannot be known
 * @throws UnsafeError
 */
export async function assertUnused(
  dir: string,
  kind: 'data' | 'wal',
  signal: AbortSignal,
): Promise<string | undefined> {
  const place = await placeOf(dir, kind);
  const user = (await processIn(place)) ?? (await lockHolder(place));
  const answer = user ?? (await askFlock(place, signal));
  if (answer === 'free') return undefined;
  if (answer === 'unknown') {
    return `It is not known whether an etcd works in ${printable(dir)}: processes of other containers are not seen from here, and there is no flock.`;
  }
  throw new UnsafeError(
    `${printable(dir)} is in use by ${printable(answer)}.`,
    'Stop etcd there first, and keep it stopped (systemctl, manifest).',
  );
}

async function placeOf(named: string, kind: 'data' | 'wal'): Promise<Place> {
  const real = await realPath(named);
  const dir = kind === 'data' ? join(real, 'member') : real;
  const wal = kind === 'data' ? join(dir, 'wal') : dir;
  const logs = (await readdir(wal).catch(() => [])).filter((name) => name.endsWith('.wal'));
  const database = kind === 'data' ? join(dir, 'snap/db') : undefined;
  const files = new Map<string, Stats>();
  for (const path of [...(database === undefined ? [] : [database]), ...logs.map((name) => join(wal, name))]) {
    const stats = await statOf(path).catch(() => undefined);
    if (stats?.isFile() === true) files.set(path, stats);
  }
  return { dir, files, database: database !== undefined && files.has(database) ? database : undefined };
}

/** Without links, also where the last part is gone: an etcd whose directory was removed still works there. */
async function realPath(path: string): Promise<string> {
  return realpath(path).catch(async () =>
    join(await realpath(dirname(path)).catch(() => dirname(path)), basename(path)),
  );
}

/** A process that has a file of this place open. */
async function processIn({ dir, files }: Place): Promise<string | undefined> {
  const names = new Set([...files.keys()].map((path) => basename(path)));
  for (const pid of (await readdir('/proc').catch(() => [])).filter((name) => /^\d+$/.test(name))) {
    if (pid === String(self)) continue;
    for (const fd of await readdir(`/proc/${pid}/fd`).catch(() => [])) {
      const link = `/proc/${pid}/fd/${fd}`;
      const path = await readlink(link).catch(() => '');
      // In a container the same file has another path.
      const isHere = path.startsWith(`${dir}/`) || (names.has(basename(path)) && isOneOf(files, await statOf(link)));
      if (!isHere) continue;
      const name = await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => 'gone');
      return `process ${pid} (${name.trim()})`;
    }
  }
  return undefined;
}

function isOneOf(files: ReadonlyMap<string, Stats>, one: Stats | undefined): boolean {
  return [...files.values()].some(({ dev, ino }) => dev === one?.dev && ino === one.ino);
}

/** File systems (Btrfs, overlay) on which a file tells another device than its locks do. */
const OTHER_DEVICES = new Set([0x9123683e, 0x794c7630]);

/** By the kernel's list of all locks. It leaves out those of processes that are not seen from here, but not those on a log. */
async function lockHolder({ files }: Place): Promise<string | undefined> {
  const locks = await readFile('/proc/locks', 'utf8').catch(() => '');
  const locked = new Set([...locks.matchAll(/ ([0-9a-f]+:[0-9a-f]+:\d+) /g)].map(([, inode]) => inode ?? ''));
  for (const [path, { dev, ino }] of files) {
    if (locked.has(`${hex(major(dev))}:${hex(minor(dev))}:${ino}`)) return LOCKED;
    const isElsewhere = [...locked].some((inode) => inode.endsWith(`:${ino}`));
    if (isElsewhere && OTHER_DEVICES.has((await statfs(path)).type)) return LOCKED;
  }
  return undefined;
}

/** `flock` sees the locks of processes that are not seen from here. Without it, and without them, nothing is known. */
async function askFlock({ files, database }: Place, signal: AbortSignal): Promise<string> {
  const seesAll = (await readlink('/proc/self/ns/pid').catch(() => '')) === ALL_PROCESSES;
  const hasLog = [...files.keys()].some((path) => path.endsWith('.wal'));
  const seesLocks = (await stat('/proc/locks').catch(() => undefined)) !== undefined;
  if (database === undefined || (seesLocks && (seesAll || hasLog))) return 'free';
  const args = ['--nonblock', '--exclusive', '--conflict-exit-code', String(TAKEN), database, 'true'];
  const { code } = await runProgram('flock', args, signal).catch((error: unknown) => {
    if (error instanceof Error && 'code' in error) return { code: null };
    throw error;
  });
  if (code === TAKEN) return LOCKED;
  return code === 0 ? 'free' : 'unknown';
}

/** As Linux packs the two numbers of a device into one. */
function major(dev: number): number {
  return Number((BigInt(dev) >> 8n) & 0xfffn) + Number((BigInt(dev) >> 32n) & 0xfffff000n);
}

function minor(dev: number): number {
  return Number(BigInt(dev) & 0xffn) + Number((BigInt(dev) >> 12n) & 0xffffff00n);
}

/** As `/proc/locks` writes them. */
function hex(number: number): string {
  return number.toString(16).padStart(2, '0');
}

/** How long an election may take: while there is one, no member sees a leader. */
const ELECTION_MS = 10_000;
const PAUSE_MS = 500;

/** What one endpoint said when it was asked whether the cluster works. */
type Answer =
  | { readonly quorum: 'yes' }
  /** `member` tells members apart that have several endpoints. */
  | { readonly quorum: 'no'; readonly member: string }
  | { readonly quorum: 'unknown'; readonly failure: EtcdError };

/**
 * Refuses to restore over a cluster that works, or of which that is not known, where its endpoints are configured.
 * @throws UnsafeError; UsageError for certificate files that cannot be used
 */
export async function assertNoQuorum(
  config: EtcdConfig | undefined,
  findings: Warnings,
  electionMs = ELECTION_MS,
): Promise<void> {
  if (config === undefined) {
    findings.add('SNAPSHOT_ETCD_ENDPOINTS is not set, so nobody asked whether the cluster still has its quorum.');
    return;
  }
  const connections = await connectAll(config, new Date(), findings).catch((error: unknown) => {
    throw error instanceof UsageError ? withForce(error) : error;
  });
  const answers = await Promise.all(connections.configured.map((each) => askForQuorum(each, electionMs))).finally(() =>
    connections.close(),
  );
  if (answers.some(({ quorum }) => quorum === 'yes')) {
    throw new UnsafeError(
      'The cluster has its quorum: a restore would throw away everything that was written since the snapshot.',
      'Replace members that failed with `etcd-snapshot replace-member`. To go back in time on purpose, give --force.',
    );
  }
  const failures = answers.flatMap((answer) => (answer.quorum === 'unknown' ? [answer.failure] : []));
  const without = new Set(answers.flatMap((answer) => (answer.quorum === 'no' ? [answer.member] : [])));
  if (canBeQuorum(failures.length, without.size)) {
    throw new UnsafeError(
      `It is not known whether the cluster has its quorum: ${failures.map(({ message }) => message).join(' ')}`,
      `${failures[0]?.hint ?? ''} If you are sure that the cluster is lost, give --force.`.trim(),
    );
  }
  for (const { message } of failures) findings.add(message);
}

/** Whether those that nobody knows anything of could be a majority. */
function canBeQuorum(unknown: number, without: number): boolean {
  return unknown > (unknown + without) / 2;
}

async function askForQuorum(connection: Connection, electionMs: number): Promise<Answer> {
  for (const start = performance.now(); ; await sleep(PAUSE_MS)) {
    try {
      await proveQuorum(connection);
      return { quorum: 'yes' };
    } catch (failure) {
      if (!(failure instanceof EtcdError)) throw failure;
      const cause = String(failure.cause);
      const refusedBy = /ECONNREFUSED(?: (\S+))?/.exec(cause);
      if (refusedBy !== null) return { quorum: 'no', member: refusedBy[1] ?? connection.endpoint };
      const hasNoLeader = /etcdserver: no leader/.test(cause);
      const mayPass = hasNoLeader || /request timed out|DEADLINE_EXCEEDED/.test(cause);
      if (mayPass && performance.now() - start < electionMs) continue;
      return hasNoLeader ? { quorum: 'no', member: await idOf(connection) } : { quorum: 'unknown', failure };
    }
  }
}

/** Where a member does not say who it is, it counts as the same one as every other such. */
async function idOf(connection: Connection): Promise<string> {
  return connection.status().then(
    ({ memberId }) => memberId,
    () => 'nobody knows which',
  );
}

function withForce({ message, hint, cause }: UsageError): UsageError {
  return new UsageError(message, `${hint} To restore without asking the old cluster, give --force.`, cause);
}

import type { Stats } from 'node:fs';
import { readdir, readFile, readlink, realpath, stat, statfs } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { pid as self } from 'node:process';
import { setTimeout as sleep } from 'node:timers/promises';
import type { EtcdConfig } from '../config/config.ts';
import { EtcdError, UnsafeError, UsageError } from '../errors.ts';
import { proveQuorum } from '../etcd/cluster-health.ts';
import { connectAll, type Connection } from '../etcd/connection.ts';
import { statOf } from '../files.ts';
import type { Warnings } from '../log.ts';
import { afterColon, printable } from '../text.ts';
import { runProgram } from './etcd-tool.ts';

/** Exit code that we make `flock` use for a lock conflict. */
const TAKEN = 75;

const LOCKED = 'a process that holds the lock on its database';

/** The PID namespace of the host, in which all processes are visible. */
const ALL_PROCESSES = 'pid:[4026531836]';

/** The directory of a member, or of a WAL outside of it. */
interface Place {
  /** Without links. */
  readonly dir: string;
  /** Files that etcd keeps open and locked. */
  readonly files: ReadonlyMap<string, Stats>;
  /** The database among them; a separate WAL has none. */
  readonly database: string | undefined;
}

/**
 * Refuses a data directory or WAL directory that a running etcd uses. It is found by its open files, even deleted ones, and by
 * its locks; those on the WAL are visible in any container. Warns where it cannot be determined.
 * @throws UnsafeError
 */
export async function assertUnused(
  dir: string,
  kind: 'data' | 'wal',
  warnings: Warnings,
  signal: AbortSignal,
): Promise<void> {
  const place = await placeOf(dir, kind);
  const user = (await processIn(place)) ?? (await lockHolder(place));
  const answer = user ?? (await askFlock(place, signal));
  if (answer === 'free') return;
  if (answer === 'unknown') {
    const why = 'processes of other containers are not visible, and flock is missing';
    warnings.add(
      `Cannot determine whether an etcd uses ${printable(dir)}: ${why}.`,
      'Make sure that etcd is stopped there.',
    );
    return;
  }
  throw new UnsafeError(
    `${printable(dir)} is in use by ${printable(answer)}.`,
    'Stop etcd there, and keep it stopped (systemctl, manifest).',
  );
}

async function placeOf(named: string, kind: 'data' | 'wal'): Promise<Place> {
  const real = await realPath(named);
  const dir = kind === 'data' ? join(real, 'member') : real;
  const wal = kind === 'data' ? join(dir, 'wal') : dir;
  const logs = (await readdir(wal).catch(() => [])).filter((name) => name.endsWith('.wal'));
  const database = join(dir, 'snap/db');
  const files = new Map<string, Stats>();
  for (const path of [...(kind === 'data' ? [database] : []), ...logs.map((name) => join(wal, name))]) {
    const stats = await statOf(path).catch(() => undefined);
    if (stats?.isFile() === true) files.set(path, stats);
  }
  return { dir, files, database: files.has(database) ? database : undefined };
}

/** Without links, also where the last part is gone: an etcd whose directory was removed can still run. */
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
      // In another container the same file has another path.
      const opened = names.has(basename(path)) ? await statOf(link) : undefined;
      const isSame = [...files.values()].some(({ dev, ino }) => dev === opened?.dev && ino === opened.ino);
      if (!isSame && !path.startsWith(`${dir}/`)) continue;
      const name = await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => 'gone');
      return `process ${pid} (${name.trim()})`;
    }
  }
  return undefined;
}

/** File systems (Btrfs, overlay) on which files and their locks have different device numbers. */
const OTHER_DEVICES = new Set([0x9123683e, 0x794c7630]);

/** By the kernel's list of locks, which omits those of processes that are not visible here, but not those on a WAL. */
async function lockHolder({ files }: Place): Promise<string | undefined> {
  const locks = await readFile('/proc/locks', 'utf8').catch(() => '');
  const locked = new Set([...locks.matchAll(/ ([0-9a-f]+:[0-9a-f]+:\d+) /g)].map(([, inode]) => inode ?? ''));
  for (const [path, { dev, ino }] of files) {
    if (locked.has(`${deviceOf(dev)}:${ino}`)) return LOCKED;
    const isElsewhere = [...locked].some((inode) => inode.endsWith(`:${ino}`));
    if (isElsewhere && OTHER_DEVICES.has((await statfs(path)).type)) return LOCKED;
  }
  return undefined;
}

/** `flock` also finds the locks of processes that are not visible here. */
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

/** The two numbers of a device, which Linux packs into one, as `/proc/locks` writes them. */
function deviceOf(dev: number): string {
  const bits = BigInt(dev);
  const major = ((bits >> 8n) & 0xfffn) + ((bits >> 32n) & 0xfffff000n);
  const minor = (bits & 0xffn) + ((bits >> 12n) & 0xffffff00n);
  return [major, minor].map((number) => number.toString(16).padStart(2, '0')).join(':');
}

/** Time limit of an election, during which no member has a leader. */
const ELECTION_MS = 10_000;
const PAUSE_MS = 500;

/** Whether the cluster has quorum, by one endpoint. */
type Answer =
  | { readonly quorum: 'yes' }
  /** `member` identifies members that have several endpoints. */
  | { readonly quorum: 'no'; readonly member: string }
  | { readonly quorum: 'unknown'; readonly failure: EtcdError };

/** @throws UnsafeError while the configured cluster has quorum, or could have it; UsageError for invalid certificate files */
export async function assertNoQuorum(
  config: EtcdConfig | undefined,
  warnings: Warnings,
  electionMs = ELECTION_MS,
): Promise<void> {
  if (config === undefined) {
    warnings.add('SNAPSHOT_ETCD_ENDPOINTS is not set: the quorum of the cluster was not checked.');
    return;
  }
  const connections = await connectAll(config, new Date(), warnings).catch((error: unknown) => {
    if (!(error instanceof UsageError)) throw error;
    throw new UsageError(error.message, `${error.hint} To restore without this check, give --force.`, error.cause);
  });
  const answers = await Promise.all(connections.configured.map((each) => askForQuorum(each, electionMs))).finally(() =>
    connections.close(),
  );
  if (answers.some(({ quorum }) => quorum === 'yes')) {
    throw new UnsafeError(
      'The cluster has quorum: a restore would lose everything written since the snapshot.',
      'Replace failed members with `etcd-snapshot replace-member`. To go back in time on purpose, give --force.',
    );
  }
  const failures = answers.flatMap((answer) => (answer.quorum === 'unknown' ? [answer.failure] : []));
  const without = new Set(answers.flatMap((answer) => (answer.quorum === 'no' ? [answer.member] : [])));
  // The members of unknown state could be a majority.
  if (failures.length > without.size) {
    throw new UnsafeError(
      `Cannot determine whether the cluster has quorum: ${afterColon(failures.map(({ message }) => message).join(' '))}`,
      `${failures[0]?.hint ?? ''} If you are sure that the cluster is lost, give --force.`.trim(),
    );
  }
  for (const { message } of failures) warnings.add(message);
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
      if (!hasNoLeader) return { quorum: 'unknown', failure };
      // Members whose id is unknown count as the same one.
      const status = await connection.status().catch(() => undefined);
      return { quorum: 'no', member: status?.memberId ?? 'unknown' };
    }
  }
}

import type { Stats } from 'node:fs';
import { readdir, readFile, readlink, realpath, stat, statfs } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { pid as self } from 'node:process';
import { UnsafeError } from '../errors.ts';
import { printable } from '../text.ts';
import { runProgram } from './child.ts';
import { statOf } from './disk.ts';

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

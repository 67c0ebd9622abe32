import { readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { UnsafeError } from '../errors.ts';
import { runProgram } from './child.ts';
import { statOf } from './disk.ts';

/** The exit code of `flock` that we choose for "somebody else has it". */
const TAKEN = 75;

/**
 * Refuses a data directory that a running etcd works in: by the lock that it holds on its database, which is seen from inside a
 * container too, and outside one by the files that it has open, also when they were deleted under it.
 * @throws UnsafeError
 */
export async function demandUnused(dataDir: string, signal: AbortSignal): Promise<void> {
  const user =
    (await processIn(join(dataDir, 'member'))) ?? (await lockHolder(join(dataDir, 'member/snap/db'), signal));
  if (user === undefined) return;
  throw new UnsafeError(
    `${dataDir} is in use by ${user}.`,
    'Stop etcd there first, and keep it stopped (systemctl, manifest).',
  );
}

/** A process that has a file of this directory open. */
async function processIn(dir: string): Promise<string | undefined> {
  for (const pid of (await readdir('/proc').catch(() => [])).filter((name) => /^\d+$/.test(name))) {
    for (const fd of await readdir(`/proc/${pid}/fd`).catch(() => [])) {
      const path = await readlink(`/proc/${pid}/fd/${fd}`).catch(() => '');
      if (!path.startsWith(`${dir}/`)) continue;
      const name = await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => 'gone');
      return `process ${pid} (${name.trim()})`;
    }
  }
  return undefined;
}

/** etcd holds a lock on its database as long as it runs. Node has no call for such locks, but every Linux has `flock`. */
async function lockHolder(file: string, signal: AbortSignal): Promise<string | undefined> {
  if ((await statOf(file)) === undefined) return undefined;
  const args = ['--nonblock', '--exclusive', '--conflict-exit-code', String(TAKEN), file, 'true'];
  const { code } = await runProgram('flock', args, signal).catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return { code: 0 };
    throw error;
  });
  return code === TAKEN ? 'a process that holds the lock on its database' : undefined;
}

import { type ChildProcess, spawnSync } from 'node:child_process';
import { chmodSync, lstatSync, readdirSync, readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { launch, mustRun } from './process.ts';

/** A user that is not root, as etcd's is on many hosts. It needs no name. */
export const OTHER_USER = 12379;

const AS_OTHER = ['--reuid', String(OTHER_USER), '--regid', String(OTHER_USER), '--clear-groups', '--'];

/** The reason to skip a test that needs two users; false where it can run. */
export function noSecondUser(): string | false {
  if (process.getuid?.() !== 0) return 'only root can act as two users';
  return spawnSync('setpriv', [...AS_OTHER, 'true']).status === 0 ? false : 'there is no setpriv (util-linux) here';
}

/** Runs a shell script as the other user, to its end. */
export async function asOther(script: string): Promise<string> {
  return mustRun('setpriv', [...AS_OTHER, 'sh', '-ec', script]);
}

/** Starts a shell script as the other user, in a directory. */
export function startAsOther(script: string, cwd: string): ChildProcess {
  return launch('setpriv', [...AS_OTHER, 'sh', '-c', script], {}, cwd);
}

/** Lets others into a directory of ours. */
export function openTo(dir: string): string {
  chmodSync(dir, 0o755);
  return dir;
}

/** Owner and mode, which a planted link could change. */
export function ownerOf(path: string): string {
  const { uid, gid, mode } = lstatSync(path);
  return `${uid}:${gid} ${(mode & 0o7777).toString(8)}`;
}

/** A directory of root's with files that look like what the program removes, and what must become of nothing. */
export async function precious(place: string): Promise<string> {
  await mkdir(join(place, 'data-precious'), { recursive: true });
  for (const file of ['secret', 'wal-dir', 'snapshot-precious.db', 'data-precious/db']) {
    await writeFile(join(place, file), 'precious', { mode: 0o600 });
  }
  return place;
}

/** Everything in a directory: names, owners, modes and contents. */
export function stateOf(place: string): string[] {
  const names = readdirSync(place, { recursive: true, encoding: 'utf8' }).toSorted();
  return names.map((name) => {
    const path = join(place, name);
    const content = lstatSync(path).isFile() ? readFileSync(path, 'utf8') : '';
    return `${name} ${ownerOf(path)} ${content}`;
  });
}

/** A stopped member's directory, with restored data that waits. */
export async function stoppedMember(place: string): Promise<void> {
  for (const [parent, content] of [
    [place, 'old'],
    [join(place, 'restored'), 'restored'],
  ] as const) {
    await mkdir(join(parent, 'member/snap'), { recursive: true });
    await mkdir(join(parent, 'member/wal'));
    await writeFile(join(parent, 'member/snap/db'), content);
  }
}

/** The same, of the other user. */
export async function memberOfOther(place: string): Promise<string> {
  await stoppedMember(place);
  await mustRun('chown', ['-R', `${OTHER_USER}:${OTHER_USER}`, place]);
  return place;
}

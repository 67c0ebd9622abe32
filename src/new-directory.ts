import { chmod, mkdir, readdir } from 'node:fs/promises';
import { basename, dirname, resolve } from 'node:path';
import { geteuid } from 'node:process';
import { HeldDirectory } from './directories.ts';
import { hasCode, UnsafeError } from './errors.ts';
import { printable } from './text.ts';

/**
 * A new or empty directory of this user, which no other user can access.
 * @throws UnsafeError when it has entries or belongs to another user; the error of the system call
 */
export async function openNewDirectory(dir: string): Promise<HeldDirectory> {
  const held = await openOwnDirectory(dir);
  if ((await readdir(held.path)).length > 0) throw refusedDirectory(dir, 'is not empty');
  await chmod(held.path, 0o700);
  return held;
}

/** A directory of this user, created if it does not exist. @throws UnsafeError when it belongs to another user; the error of the system call */
export async function openOwnDirectory(dir: string): Promise<HeldDirectory> {
  // No link that belongs to another user is followed, not even to create an empty directory.
  const path = resolve(dir);
  const place = HeldDirectory.open(dirname(path)).at(basename(path));
  await mkdir(place, { mode: 0o700 }).catch((error: unknown) => {
    if (!hasCode(error, 'EEXIST')) throw error;
  });
  const held = HeldDirectory.open(place);
  const { uid } = held.stats();
  if (uid !== geteuid?.()) throw refusedDirectory(dir, `belongs to another user (uid ${uid})`);
  return held;
}

export function refusedDirectory(dir: string, why: string): UnsafeError {
  return new UnsafeError(
    `The directory ${printable(dir)} ${why}.`,
    'Give a new or empty directory of your own. Nothing was written.',
  );
}

import { chmod, mkdir, open, symlink, utimes } from 'node:fs/promises';
import type { HeldDirectory } from '../directories.ts';
import { hasCode } from '../errors.ts';
import { onDisk } from '../files.ts';
import { openNewDirectory, refusedDirectory } from '../new-directory.ts';
import { printable } from '../text.ts';
import { type ArchiveEntry, parentsOf } from './archive.ts';

/** Nobody else can change what was extracted, whatever was recorded. */
const PERMISSIONS = 0o755;

/**
 * Writes the entries of a bundle into a new or empty directory, which no other user can access. Whatever fails, nothing of them
 * remains in it.
 * @param entries checked (archive.ts)
 * @throws UnsafeError when the directory has or gets other entries, or belongs to another user; UsageError for the disk; the
 *   signal's reason
 */
export async function extractBundle(entries: readonly ArchiveEntry[], dir: string, signal: AbortSignal): Promise<void> {
  const held = await onDisk(`Creating ${printable(dir)}`, openNewDirectory(dir));
  const created = new Set<string>();
  const make = async (path: string, making: Promise<unknown>): Promise<void> => {
    await making.catch((error: unknown) => {
      if (hasCode(error, 'EEXIST'))
        throw refusedDirectory(dir, `is in use: another program created ${printable(path)} in it`);
      created.add(path);
      throw error;
    });
    created.add(path);
  };
  const write = async (): Promise<void> => {
    const directories = directoriesOf(entries);
    for (const path of directories.keys()) await make(path, mkdir(held.at(path), { mode: 0o700 }));
    for (const entry of entries) {
      signal.throwIfAborted();
      if (entry.type !== 'Directory') await make(entry.path, writeEntry(held, entry));
    }
    // Only now: a directory can be recorded as one that cannot be written. What is in it comes first.
    for (const [path, entry] of [...directories].toReversed()) {
      if (entry !== undefined) await restoreAttributes(held.at(path), entry);
    }
  };
  try {
    await onDisk(`Extracting to ${printable(dir)}`, write());
  } catch (error) {
    // What another program created stays.
    await held.empty((name) => !created.has(name)).catch(() => {});
    throw error;
  }
}

/** Of all entries, parents first; those that have no entry of their own without one. */
function directoriesOf(entries: readonly ArchiveEntry[]): Map<string, ArchiveEntry | undefined> {
  const recorded = new Map(entries.map((entry) => [entry.path, entry]));
  const paths = entries.flatMap(({ path, type }) => [...parentsOf(path), ...(type === 'Directory' ? [path] : [])]);
  return new Map([...new Set(paths)].toSorted().map((path) => [path, recorded.get(path)]));
}

async function writeEntry(held: HeldDirectory, entry: ArchiveEntry): Promise<void> {
  const path = held.at(entry.path);
  if (entry.target !== undefined) return symlink(entry.target, path);
  const file = await open(path, 'wx', 0o600);
  try {
    await file.writeFile(entry.content);
    await file.sync();
  } finally {
    await file.close();
  }
  return restoreAttributes(path, entry);
}

async function restoreAttributes(path: string, { mode, mtime }: ArchiveEntry): Promise<void> {
  await utimes(path, mtime, mtime);
  await chmod(path, mode & PERMISSIONS);
}

import { randomBytes } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { UsageError } from '../errors.ts';
import { kindOf, onDisk, statOf } from '../files.ts';
import { printable } from '../text.ts';

/**
 * Writes a file that appears complete or not at all; an older one is replaced. No link is followed: anybody could have put it
 * there.
 * @throws UsageError
 */
export async function writeNewFile(path: string, parts: Iterable<string>): Promise<void> {
  const file = resolve(path);
  const there = await statOf(file, 'refuse');
  if (there?.isFile() === false) {
    throw new UsageError(`${printable(path)} is ${kindOf(there)}.`, 'Give the path of a file, which can be a new one.');
  }
  const temporary = join(dirname(file), `.${basename(file).slice(0, 200)}.${randomBytes(8).toString('hex')}`);
  await onDisk(`Writing ${file}`, async () => {
    const handle = await open(temporary, 'wx', 0o644);
    try {
      for (const part of parts) await handle.writeFile(part);
      await handle.close();
      await rename(temporary, file);
    } catch (error) {
      await handle.close().catch(() => {});
      await rm(temporary, { force: true });
      throw error;
    }
  });
}

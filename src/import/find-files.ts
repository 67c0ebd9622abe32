import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { ExitCode, UsageError, WorkerError } from '../errors.ts';
import { onDisk, statOf } from '../files.ts';
import { parseTime, TIME_HINT } from '../time.ts';
import { printable } from '../text.ts';
import { timeInName } from './time-of-file.ts';

/** Files next to snapshots that are none; a `.part` is being written. */
const OTHER_FILES = /^\.|\.(part|tmp|json|ya?ml|txt|log|md|sh|sha\d*(sum)?|md5(sum)?|sig|asc)$/i;

/** A file to import. */
export interface SnapshotFile {
  readonly path: string;
  readonly takenAt: Date;
  /** Where that time comes from. */
  readonly takenAtFrom: 'option' | 'name' | 'modification time';
  /** Of a directory that was named, and not named itself. */
  readonly isListed: boolean;
}

/**
 * The named files, and those in the named directories, but not in directories below, the oldest first.
 * @param takenAt as given for a single file
 * @throws WorkerError (no such snapshot) for what does not exist; UsageError, also for a time in the future
 */
export async function findFiles(
  operands: readonly string[],
  takenAt: Date | undefined,
  now: Date,
): Promise<SnapshotFile[]> {
  const files: SnapshotFile[] = [];
  for (const operand of operands) {
    const stats = await statOf(operand);
    if (stats === undefined) {
      throw new WorkerError(
        ExitCode.noSuchSnapshot,
        `There is no file ${printable(operand)}.`,
        'Check the path; in a container, mount the directory.',
      );
    }
    if (!stats.isDirectory()) files.push(datedFile(operand, stats.mtime, takenAt, false));
    else files.push(...(await filesIn(operand, takenAt)));
  }
  if (takenAt !== undefined && files.length > 1) {
    throw new UsageError(`--taken-at was given for ${files.length} files.`, 'Import each of them on its own.');
  }
  const future = files.find((file) => file.takenAt > now);
  if (future !== undefined) {
    throw new UsageError(
      `${printable(future.path)} is dated in the future: ${future.takenAt.toISOString()} (its ${future.takenAtFrom}).`,
      'Give the right time with --taken-at. A time in a name is read as UTC, unless it has an offset.',
    );
  }
  return files.toSorted((a, b) => a.takenAt.getTime() - b.takenAt.getTime());
}

async function filesIn(dir: string, takenAt: Date | undefined): Promise<SnapshotFile[]> {
  const entries = await onDisk(`Reading ${printable(dir)}`, readdir(dir, { withFileTypes: true }));
  const files: SnapshotFile[] = [];
  for (const entry of entries.filter((each) => each.isFile() && !OTHER_FILES.test(each.name))) {
    const path = join(dir, entry.name);
    // k3s can remove it now.
    const stats = await statOf(path);
    if (stats !== undefined) files.push(datedFile(path, stats.mtime, takenAt, true));
  }
  return files;
}

function datedFile(path: string, modifiedAt: Date, given: Date | undefined, isListed: boolean): SnapshotFile {
  if (given !== undefined) return { path, takenAt: given, takenAtFrom: 'option', isListed };
  const named = timeInName(path);
  if (named !== undefined) return { path, takenAt: named, takenAtFrom: 'name', isListed };
  return { path, takenAt: modifiedAt, takenAtFrom: 'modification time', isListed };
}

/** The value of --taken-at. @throws UsageError */
export function readTakenAt(given: unknown): Date | undefined {
  if (typeof given !== 'string') return undefined;
  const time = parseTime(given);
  if (time !== undefined) return time;
  throw new UsageError(`--taken-at ${printable(given)} is not a time.`, TIME_HINT);
}

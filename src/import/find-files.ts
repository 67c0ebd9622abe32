import { isUtf8 } from 'node:buffer';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { ExitCode, UsageError, WorkerError } from '../errors.ts';
import { kindOf, onDisk, statOf } from '../files.ts';
import { parseTime, TIME_HINT } from '../time.ts';
import { printable } from '../text.ts';
import { timeInName } from './time-of-file.ts';

/** What is next to snapshots and is none; a `.part` is being written, and `lost+found` belongs to the file system. */
const OTHER_FILES = /^\.|^lost\+found$|\.(part|tmp|json|ya?ml|txt|log|md|sh|sha\d*(sum)?|md5(sum)?|sig|asc)$/i;

/** A file to import. */
export interface SnapshotFile {
  readonly path: string;
  readonly takenAt: Date;
  /** Where that time comes from. */
  readonly takenAtFrom: 'option' | 'name' | 'modification time';
  /** Of a directory that was named, and not named itself. */
  readonly isListed: boolean;
}

/** An entry of a directory that can hide a snapshot, but is not imported. */
interface LeftOut {
  readonly file: string;
  /** Such as `a symbolic link`. */
  readonly why: string;
}

/** What there is to import, and what is left out. */
export interface FoundFiles {
  readonly files: readonly SnapshotFile[];
  readonly leftOut: readonly LeftOut[];
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
): Promise<FoundFiles> {
  const files: SnapshotFile[] = [];
  const leftOut: LeftOut[] = [];
  for (const operand of operands) {
    const stats = await statOf(operand);
    if (stats === undefined) {
      throw new WorkerError(
        ExitCode.noSuchSnapshot,
        `There is no file ${printable(operand)}.`,
        'Check the path; in a container, mount the directory.',
      );
    }
    if (!stats.isDirectory()) {
      files.push(datedFile(operand, stats.mtime, takenAt, false));
      continue;
    }
    const inside = await filesIn(operand, takenAt);
    files.push(...inside.files);
    leftOut.push(...inside.leftOut);
  }
  if (takenAt !== undefined && files.length > 1) {
    throw new UsageError(`--taken-at was given for ${files.length} files.`, 'Import each of them on its own.');
  }
  const future = files.find((file) => file.takenAt > now);
  if (future !== undefined) {
    throw new UsageError(
      `${printable(future.path)} is dated in the future: ${future.takenAt.toISOString()} (${WHENCE[future.takenAtFrom]}).`,
      'Give the right time with --taken-at. A time in a name is read as UTC, unless it has an offset.',
    );
  }
  return { files: files.toSorted((a, b) => a.takenAt.getTime() - b.takenAt.getTime()), leftOut };
}

/** Where a time comes from, for messages. */
const WHENCE: Readonly<Record<SnapshotFile['takenAtFrom'], string>> = {
  option: 'given with --taken-at',
  name: 'from its name',
  'modification time': 'its modification time',
};

async function filesIn(dir: string, takenAt: Date | undefined): Promise<FoundFiles> {
  const entries = await onDisk(`Reading ${printable(dir)}`, readdir(dir, { encoding: 'buffer' }));
  const files: SnapshotFile[] = [];
  const leftOut: LeftOut[] = [];
  for (const entry of entries) {
    const name = entry.toString();
    if (OTHER_FILES.test(name)) continue;
    const file = join(dir, name);
    if (!isUtf8(entry)) {
      leftOut.push({ file, why: 'its name is not UTF-8' });
      continue;
    }
    const stats = await statOf(file, 'refuse');
    // k3s can remove it now.
    if (stats === undefined) continue;
    if (stats.isFile()) files.push(datedFile(file, stats.mtime, takenAt, true));
    else leftOut.push({ file, why: kindOf(stats) });
  }
  return { files, leftOut };
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

import { createReadStream } from 'node:fs';
import { type FileHandle, open, readdir, truncate, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { VerificationError } from '../errors.ts';
import type { Log } from '../log.ts';
import type { Progress, StartProgress } from '../progress.ts';
import { SnapshotVerifier, type Verdict, type VerifiedSnapshot } from '../snapshot/verify.ts';
import type { SnapshotSource } from '../source.ts';
import { onDisk, statOf } from './disk.ts';

export interface FetchOptions {
  readonly memoryBudget: number;
  readonly startProgress: StartProgress;
  readonly log: Log;
  readonly signal: AbortSignal;
}

/** A snapshot as a file on this machine, every page of it verified. */
export interface Fetched {
  readonly file: string;
  readonly snapshot: VerifiedSnapshot;
}

/** Bytes of a download that are here already, from a run that was interrupted. */
export async function bytesAt(source: SnapshotSource, dir: string): Promise<number> {
  const part = partOf(source, dir);
  return part === undefined ? source.size : ((await statOf(part))?.size ?? 0);
}

/**
 * Brings a stored snapshot here, verifying it while it comes; a file is verified where it is. What an interrupted run
 * downloaded into `dir` is used, and verified like the rest.
 * @throws VerificationError when it is not sound or not what its record says, after which nothing of it is kept;
 *   StorageError, UsageError for the disk, the abort's reason
 */
export async function fetchVerified(source: SnapshotSource, dir: string, options: FetchOptions): Promise<Fetched> {
  const part = partOf(source, dir);
  if (part === undefined) return { file: source.name, snapshot: soundOf(source, await readThrough(source, options)) };
  await removeOthers(dir, part);
  const resumed = (await bytesAt(source, dir)) > 0;
  const verdict = await download(source, part, options);
  if (isSound(source, verdict)) return { file: part, snapshot: soundOf(source, verdict) };
  await onDisk(`Emptying ${part}`, truncate(part));
  if (!resumed) {
    await unlink(part);
    return { file: part, snapshot: soundOf(source, verdict) };
  }
  options.log.warn('what an interrupted run had downloaded is not sound; it is downloaded again');
  return fetchVerified(source, dir, options);
}

/** Where a download is kept, by what its bytes are; undefined for a file, which is not downloaded. */
function partOf({ etag }: SnapshotSource, dir: string): string | undefined {
  return etag === undefined ? undefined : join(dir, `snapshot-${etag.replaceAll(/\W/g, '')}.db`);
}

async function removeOthers(dir: string, part: string): Promise<void> {
  for (const name of await readdir(dir)) {
    const path = join(dir, name);
    if (name.startsWith('snapshot-') && path !== part) await unlink(path);
  }
}

async function readThrough(source: SnapshotSource, options: FetchOptions): Promise<Verdict> {
  const verifier = new SnapshotVerifier(options);
  const progress = options.startProgress(`verifying ${source.name}`, source.size);
  try {
    for await (const piece of source.read()) pass(piece, verifier, progress);
  } finally {
    progress.end();
  }
  return verifier.finish();
}

async function download(source: SnapshotSource, part: string, options: FetchOptions): Promise<Verdict> {
  const verifier = new SnapshotVerifier(options);
  const progress = options.startProgress(`downloading ${source.name}`, source.size);
  const file = await onDisk(`Creating ${part}`, open(part, 'a', 0o600));
  try {
    const { size: here } = await file.stat();
    if (here > 0) {
      options.log.info('an interrupted download is resumed', { from: here, size: source.size });
      for await (const piece of createReadStream(part, { signal: options.signal }))
        pass(piece as Buffer, verifier, progress);
    }
    if (here < source.size) {
      for await (const piece of source.read(here)) {
        const written = onDisk(`Writing ${part}`, writeAll(file, piece));
        pass(piece, verifier, progress);
        await written;
      }
    }
    await onDisk(`Writing ${part}`, file.sync());
  } catch (error) {
    throw options.signal.aborted && isAbort(error) ? options.signal.reason : error;
  } finally {
    progress.end();
    await file.close();
  }
  return verifier.finish();
}

function pass(piece: Buffer, verifier: SnapshotVerifier, progress: Progress): void {
  verifier.push(piece);
  progress.advance(piece.length);
}

async function writeAll(file: FileHandle, piece: Buffer): Promise<void> {
  for (let at = 0; at < piece.length;) at += (await file.write(piece, at)).bytesWritten;
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === 'AbortError';
}

function isSound({ record }: SnapshotSource, verdict: Verdict): boolean {
  return verdict.ok && (record === undefined || record.sha256 === verdict.report.sha256);
}

function soundOf(source: SnapshotSource, verdict: Verdict): VerifiedSnapshot {
  if (verdict.ok && isSound(source, verdict)) return verdict.snapshot;
  const why = verdict.ok ? 'its sha256 is not that of its record' : verdict.faults[0].message;
  throw new VerificationError(
    `${source.name} is not a sound snapshot: ${why}.`,
    `Nothing was restored. Take another: \`etcd-snapshot list\` shows what there is, \`etcd-snapshot verify\` all faults.`,
  );
}

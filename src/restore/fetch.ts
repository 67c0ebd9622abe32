import { type FileHandle, open, readdir, truncate, unlink } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { onAbort } from '../abort.ts';
import { Interrupted, RunTimeout, StorageError } from '../errors.ts';
import type { Log } from '../log.ts';
import type { StartProgress } from '../progress.ts';
import type { FileKind } from '../snapshot/file-kind.ts';
import { invalidSnapshot, readThrough, type SnapshotSource } from '../snapshot/source.ts';
import type { SnapshotFacts, VerdictWithoutHash } from '../snapshot/verify/verified.ts';
import { onDisk, statOf } from '../disk.ts';

/** What is to be known of a snapshot before it is restored: everything, or the first thing that is wrong with it. */
export type Judgement =
  { readonly facts: SnapshotFacts } | { readonly fault: string; readonly kind: FileKind | undefined };

/** What the thread is told: the file has so many bytes by now, and whether these are all. */
export interface FileSize {
  readonly size: number;
  readonly isWhole: boolean;
}

/** What it tells: the bytes that it read since, and at last what it found. */
export type WorkerMessage = { readonly read: number } | { readonly judgement: Judgement };

/** Its file has the ending of this one: `.ts` as source, `.js` as built. */
const PROGRAM = new URL(`./verify-worker${extname(import.meta.url)}`, import.meta.url);

export function judgementOf(verdict: VerdictWithoutHash): Judgement {
  return verdict.ok ? { facts: verdict.snapshot.facts } : { fault: verdict.problems[0].message, kind: verdict.kind };
}

/**
 * Verifies a file while it grows, in a thread of its own: the main one has its hands full with the download. What is judged is
 * what the disk gives back. Whoever began it ends it.
 */
export class FileVerification {
  readonly #path: string;
  readonly #worker: Worker;
  readonly #judgement = Promise.withResolvers<Judgement>();
  readonly #stopWatching: () => void;

  /** @param onRead is told how many more bytes were read */
  constructor(path: string, memoryBudget: number, onRead: (bytes: number) => void, signal: AbortSignal) {
    this.#path = path;
    this.#worker = new Worker(PROGRAM, { workerData: { path, memoryBudget }, execArgv: [] });
    this.#worker.on('message', (told: WorkerMessage) => {
      if ('read' in told) onRead(told.read);
      else this.#judgement.resolve(told.judgement);
    });
    this.#worker.on('error', (error) => this.#judgement.reject(error));
    // It may fail while nobody waits for it yet.
    this.#judgement.promise.catch(() => {});
    this.#stopWatching = onAbort(signal, () => this.#judgement.reject(signal.reason));
  }

  /** The file has so many bytes by now. */
  grewTo(size: number): void {
    this.#tell({ size, isWhole: false });
  }

  /** @throws UsageError when the file cannot be read, the abort's reason */
  async finish(size: number): Promise<Judgement> {
    this.#tell({ size, isWhole: true });
    return onDisk(`Reading ${this.#path}`, this.#judgement.promise);
  }

  /** In any state. */
  async end(): Promise<void> {
    this.#stopWatching();
    await this.#worker.terminate();
  }

  #tell(growth: FileSize): void {
    this.#worker.postMessage(growth);
  }
}

interface FetchOptions {
  readonly memoryBudget: number;
  readonly startProgress: StartProgress;
  readonly log: Log;
  readonly signal: AbortSignal;
}

/** A snapshot as a file on this machine, every page of it verified. */
interface Fetched {
  readonly file: string;
  readonly facts: SnapshotFacts;
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
  if (part === undefined) {
    return { file: source.name, facts: soundOf(source, judgementOf(await readThrough(source, options))) };
  }
  await removeOthers(dir, part);
  const resumed = (await bytesAt(source, dir)) > 0;
  const judgement = await download(source, part, options);
  if (isSound(source, judgement)) return { file: part, facts: soundOf(source, judgement) };
  await onDisk(`Emptying ${part}`, truncate(part));
  if (!resumed) {
    await unlink(part);
    return { file: part, facts: soundOf(source, judgement) };
  }
  options.log.warn('what an interrupted run had downloaded is not sound; it is downloaded again');
  return fetchVerified(source, dir, options);
}

/** Whether the next run can go on with what this one downloaded before it failed. */
export function isResumable(error: unknown): boolean {
  return error instanceof StorageError || error instanceof Interrupted || error instanceof RunTimeout;
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

async function download(source: SnapshotSource, part: string, options: FetchOptions): Promise<Judgement> {
  const { memoryBudget, startProgress, log, signal } = options;
  const file = await onDisk(`Creating ${part}`, open(part, 'a', 0o600));
  const progress = startProgress(`downloading ${source.name}`, source.size);
  const onRead = (bytes: number): void => progress.advance(bytes);
  const verification = new FileVerification(part, memoryBudget, onRead, signal);
  try {
    let { size: here } = await file.stat();
    if (here > 0) log.info('an interrupted download is resumed', { from: here, size: source.size });
    verification.grewTo(here);
    if (here < source.size) {
      for await (const piece of source.read(here)) {
        await onDisk(`Writing ${part}`, writeAll(file, piece));
        verification.grewTo((here += piece.length));
      }
    }
    await onDisk(`Writing ${part}`, file.sync());
    return await verification.finish(here);
  } finally {
    await verification.end();
    progress.end();
    await file.close();
  }
}

async function writeAll(file: FileHandle, piece: Buffer): Promise<void> {
  for (let at = 0; at < piece.length;) at += (await file.write(piece, at)).bytesWritten;
}

function isSound({ record }: SnapshotSource, judgement: Judgement): boolean {
  return 'facts' in judgement && (record === undefined || record.sha256 === judgement.facts.sha256);
}

function soundOf(source: SnapshotSource, judgement: Judgement): SnapshotFacts {
  if ('facts' in judgement && isSound(source, judgement)) return judgement.facts;
  const { fault, kind } =
    'fault' in judgement ? judgement : { fault: 'its sha256 is not that of its record', kind: undefined };
  const hint =
    'Nothing was restored. Take another: `etcd-snapshot list` shows what there is, `etcd-snapshot verify` all faults.';
  throw invalidSnapshot(source, fault, kind, hint);
}

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

/** The result of verifying a snapshot before it is restored: its facts, or the first problem. */
export type Judgement =
  { readonly facts: SnapshotFacts } | { readonly fault: string; readonly kind: FileKind | undefined };

/** Sent to the worker thread: the size of the file so far, and whether it is complete. */
export interface FileSize {
  readonly size: number;
  readonly isWhole: boolean;
}

/** Sent by the worker thread: how many more bytes it read, and at the end what it found. */
export type WorkerMessage = { readonly read: number } | { readonly judgement: Judgement };

/** Its file has the ending of this one: `.ts` as source, `.js` as built. */
const PROGRAM = new URL(`./verify-worker${extname(import.meta.url)}`, import.meta.url);

export function judgementOf(verdict: VerdictWithoutHash): Judgement {
  return verdict.ok ? { facts: verdict.snapshot.facts } : { fault: verdict.problems[0].message, kind: verdict.kind };
}

/** Verifies a file while it grows, as the disk returns it, in a worker thread: the main thread is busy with the download. */
export class FileVerification {
  readonly #path: string;
  readonly #worker: Worker;
  readonly #judgement = Promise.withResolvers<Judgement>();
  readonly #stopWatching: () => void;

  /** @param onRead gets the number of bytes that were read since its last call */
  constructor(path: string, memoryBudget: number, onRead: (bytes: number) => void, signal: AbortSignal) {
    this.#path = path;
    this.#worker = new Worker(PROGRAM, { workerData: { path, memoryBudget }, execArgv: [] });
    this.#worker.on('message', (told: WorkerMessage) => {
      if ('read' in told) onRead(told.read);
      else this.#judgement.resolve(told.judgement);
    });
    this.#worker.on('error', (error) => this.#judgement.reject(error));
    // It can fail before `finish` waits for it.
    this.#judgement.promise.catch(() => {});
    this.#stopWatching = onAbort(signal, () => this.#judgement.reject(signal.reason));
  }

  grewTo(size: number): void {
    this.#tell({ size, isWhole: false });
  }

  /** @throws UsageError when the file cannot be read, the abort's reason */
  async finish(size: number): Promise<Judgement> {
    this.#tell({ size, isWhole: true });
    return onDisk(`Reading ${this.#path}`, this.#judgement.promise);
  }

  /** Can be called in any state. */
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

/** Bytes that an interrupted run has downloaded already. */
export async function bytesAt(source: SnapshotSource, dir: string): Promise<number> {
  const part = partOf(source, dir);
  return part === undefined ? source.size : ((await statOf(part))?.size ?? 0);
}

/**
 * Downloads a stored snapshot and verifies it on the way; a local file is verified where it is. A download that an interrupted
 * run left in `dir` is resumed, and verified completely.
 * @throws VerificationError when it is invalid or does not match its record, after which it is removed; StorageError,
 *   UsageError for the disk, the abort's reason
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
  options.log.warn('resumed download is not valid: downloading it again');
  return fetchVerified(source, dir, options);
}

/** Whether the next run can resume the download after this error. */
export function isResumable(error: unknown): boolean {
  return error instanceof StorageError || error instanceof Interrupted || error instanceof RunTimeout;
}

/** The file of a download, named after the blob's ETag; undefined for a local file. */
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
    if (here > 0) log.info('resuming an interrupted download', { from: here, size: source.size });
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
    'Nothing was restored. Use another: `etcd-snapshot list` shows them, `etcd-snapshot verify` shows all problems.';
  throw invalidSnapshot(source, fault, kind, hint);
}

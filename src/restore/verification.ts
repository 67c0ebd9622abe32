import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';
import { onAbort } from '../abort.ts';
import type { FileKind } from '../snapshot/file-kind.ts';
import type { SnapshotFacts, VerdictWithoutHash } from '../snapshot/verify.ts';
import { onDisk } from './disk.ts';

/** What is to be known of a snapshot before it is restored: everything, or the first thing that is wrong with it. */
export type Judgement =
  { readonly facts: SnapshotFacts } | { readonly fault: string; readonly kind: FileKind | undefined };

/** What the thread is told: the file has so many bytes by now, and whether these are all. */
export interface Growth {
  readonly size: number;
  readonly isWhole: boolean;
}

/** What it tells: the bytes that it read since, and at last what it found. */
export type Told = { readonly read: number } | { readonly judgement: Judgement };

/** Its file has the ending of this one: `.ts` as source, `.js` as built. */
const PROGRAM = new URL(`./verifier${extname(import.meta.url)}`, import.meta.url);

export function judgementOf(verdict: VerdictWithoutHash): Judgement {
  return verdict.ok ? { facts: verdict.snapshot.facts } : { fault: verdict.faults[0].message, kind: verdict.kind };
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
    this.#worker.on('message', (told: Told) => {
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

  #tell(growth: Growth): void {
    this.#worker.postMessage(growth);
  }
}

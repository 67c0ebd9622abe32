import { ExitCode, Interrupted, StorageError, UsageError, WorkerError } from '../errors.ts';
import type { Log } from '../log.ts';
import { type KeepRequest, markSnapshot } from '../retention/mark-snapshot.ts';
import type { Kept } from '../snapshot/inventory.ts';
import { keptJson } from '../snapshot/marks.ts';
import type { BlobStore } from '../store/store.ts';
import { afterColon } from '../text.ts';

/** What became of the mark that a backup was asked for. */
export type Marking = { readonly kept: Kept } | { readonly problem: WorkerError };

/** Marks the snapshot that this run has stored: it is to be kept. A failure does not undo the backup. */
export async function markBackup(store: BlobStore, name: string, request: KeepRequest, log: Log): Promise<Marking> {
  const hint = `Run: etcd-snapshot keep ${name}`;
  try {
    const kept = await markSnapshot(store, name, request);
    if (kept === undefined) throw new Error('a mark that keeps counts, and keeps nothing');
    log.info('marked snapshot as kept', { name, ...keptJson(kept) });
    return { kept };
  } catch (error) {
    if (error instanceof Interrupted)
      throw error.withOutcome(`the backup ${name} is stored, but not marked as kept`, hint);
    if (!(error instanceof StorageError || error instanceof UsageError)) throw error;
    const message = `The backup ${name} is stored, but not marked as kept: ${afterColon(error.message)} Nothing was deleted.`;
    return { problem: new WorkerError(ExitCode.incomplete, message, `${error.hint} ${hint}`, error) };
  }
}

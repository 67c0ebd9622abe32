import { ExitCode, StorageError, WorkerError } from '../errors.ts';
import type { Log } from '../log.ts';
import { decideRetention } from '../snapshot/retention.ts';
import type { BlobStore } from '../store/store.ts';

export interface RetentionResult {
  /** How many of this cluster's snapshots are left; null where no rule is set and nobody counted. */
  readonly kept: number | null;
  /** Names of the blobs that were deleted. */
  readonly removed: readonly string[];
  /** Why retention could not be completed; the backup itself is good. */
  readonly shortfall?: WorkerError;
}

/**
 * Applies retention after a proven backup, with a reason in the log for every snapshot that goes.
 * @param newest the blob just proven, which must be in the catalogue, or nothing is deleted
 */
export async function applyRetention(
  store: BlobStore,
  newest: string,
  clusterId: string,
  keepLast: number | undefined,
  log: Log,
): Promise<RetentionResult> {
  const removed: string[] = [];
  if (keepLast === undefined) return { kept: null, removed };
  let kept = 1;
  try {
    const catalogue = await store.list();
    if (!catalogue.some(({ name }) => name === newest)) {
      throw new StorageError(
        'BlobNotFound',
        `The new blob ${newest} is not listed.`,
        'Was it deleted by somebody else?',
      );
    }
    const decisions = decideRetention(catalogue, clusterId, { keepLast });
    const own = decisions.filter(({ snapshot }) => snapshot.record?.clusterId === clusterId);
    kept = own.length;
    for (const { snapshot, keep, reason } of decisions) {
      if (keep) {
        log.debug('a snapshot is kept', { name: snapshot.name, reason });
        continue;
      }
      await store.remove(snapshot.name, snapshot.etag);
      log.info('a snapshot was deleted', { name: snapshot.name, reason });
      removed.push(snapshot.name);
      kept--;
    }
    return { kept, removed };
  } catch (error) {
    if (!(error instanceof StorageError)) throw error;
    const shortfall = new WorkerError(
      ExitCode.retentionIncomplete,
      `The backup ${newest} is stored and proven, but retention is incomplete: ${error.message}`,
      error.hint,
      error,
    );
    return { kept, removed, shortfall };
  }
}

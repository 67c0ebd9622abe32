import { ExitCode, StorageError, WorkerError } from '../errors.ts';
import type { Log } from '../log.ts';
import { findAnomalies } from '../snapshot/anomaly.ts';
import type { SnapshotRecord } from '../snapshot/record.ts';
import { decideRetention } from '../snapshot/retention.ts';
import type { BlobStore, StoredBlob } from '../store/store.ts';

export interface Aftermath {
  /** What is suspicious about the new snapshot beside the earlier ones, in sentences. */
  readonly anomalies: readonly string[];
  /** How many of this cluster's snapshots are left; null where nobody could count. */
  readonly kept: number | null;
  /** Names of the blobs that were deleted. */
  readonly removed: readonly string[];
  /** Why retention was held or could not be completed; the backup itself is good. */
  readonly shortfall?: WorkerError;
}

/**
 * What follows a proven backup: it is compared with the earlier snapshots, and if nothing is suspicious, retention is applied,
 * with a reason in the log for every snapshot that goes.
 * @param suspicions what is suspicious about the snapshot already
 */
export async function compareAndRetain(
  store: BlobStore,
  name: string,
  record: SnapshotRecord,
  suspicions: readonly string[],
  keepLast: number | undefined,
  log: Log,
): Promise<Aftermath> {
  const removed: string[] = [];
  let anomalies = [...suspicions];
  let kept: number | null = null;
  try {
    const catalogue = await store.list();
    const isNew = (blob: StoredBlob): boolean => blob.name === name && blob.record?.uploadId === record.uploadId;
    const earlier = catalogue.filter((blob) => !isNew(blob)).flatMap((blob) => blob.record ?? []);
    anomalies = [...suspicions, ...findAnomalies(record, earlier)];
    const own = catalogue.filter((blob) => blob.record?.clusterId === record.clusterId);
    kept = own.length;
    if (anomalies.length > 0) return { anomalies, kept, removed, shortfall: suspicious(name, anomalies) };
    if (keepLast === undefined) return { anomalies, kept, removed };
    if (!catalogue.some(isNew)) {
      throw new StorageError('BlobNotFound', `The new blob ${name} is not listed.`, 'Was it deleted by somebody else?');
    }
    for (const { snapshot, keep, reason } of decideRetention(catalogue, record.clusterId, { keepLast })) {
      if (keep) {
        log.debug('a snapshot is kept', { name: snapshot.name, reason });
        continue;
      }
      await store.remove(snapshot.name, snapshot.etag);
      log.info('a snapshot was deleted', { name: snapshot.name, reason });
      removed.push(snapshot.name);
      kept--;
    }
    return { anomalies, kept, removed };
  } catch (error) {
    if (!(error instanceof StorageError)) throw error;
    return { anomalies, kept, removed, shortfall: incomplete(name, error) };
  }
}

function suspicious(name: string, anomalies: readonly string[]): WorkerError {
  return new WorkerError(
    ExitCode.retentionIncomplete,
    `The backup ${name} is stored and proven, but suspicious: ${anomalies.join('; ')}. Nothing was deleted.`,
    'Find out whether that was meant. The next run compares with this snapshot.',
  );
}

function incomplete(name: string, error: StorageError): WorkerError {
  return new WorkerError(
    ExitCode.retentionIncomplete,
    `The backup ${name} is stored and proven, but retention is incomplete: ${error.message}`,
    error.hint,
    error,
  );
}

import { StorageError } from '../errors.ts';
import { failuresIn } from '../snapshot/failure-marks.ts';
import type { BlobStore } from '../store/store.ts';
import { counted } from '../text.ts';

/**
 * What a successful drill ends, as a sentence, before its own result is stored: drills that failed since the last success. No drill
 * fails because of it.
 */
export async function drillRecovery(store: BlobStore): Promise<string | undefined> {
  try {
    const drills = await store.listEvents('drill');
    const marks = await store.listEvents('mark');
    // All times are of the service.
    const last = Math.max(0, ...drills.events.map(({ storedAt }) => storedAt.getTime()));
    const failures = failuresIn(marks.events, 'drill').filter(({ storedAt }) => storedAt.getTime() > last);
    return failures.length === 0 ? undefined : `${counted(failures.length, 'drill')} failed before it.`;
  } catch (error) {
    if (!(error instanceof StorageError)) throw error;
    return undefined;
  }
}

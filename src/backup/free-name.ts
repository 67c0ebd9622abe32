import { setTimeout as sleep } from 'node:timers/promises';
import { snapshotName } from '../snapshot/record.ts';
import type { BlobStore } from '../store/store.ts';

interface FreeName {
  readonly name: string;
  /** The moment in the name. */
  readonly takenAt: Date;
}

const TRIES = 5;

/**
 * A name for a snapshot taken now. Names have a resolution of one second: when another worker has this one, the next will do.
 * The commit makes sure of it again, and fails if none was free for several seconds.
 * @throws StorageError
 */
export async function findFreeName(store: BlobStore, signal: AbortSignal): Promise<FreeName> {
  for (let tries = 1; ; tries++) {
    const takenAt = new Date();
    const name = snapshotName(store.prefix, takenAt);
    if ((await store.isFree(name)) || tries === TRIES) return { name, takenAt };
    // The next request fails with the reason of an abort.
    await sleep(1000 - takenAt.getMilliseconds(), undefined, { signal }).catch(() => {});
  }
}

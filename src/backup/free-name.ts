import { setTimeout as sleep } from 'node:timers/promises';
import { snapshotName } from '../snapshot/record.ts';
import type { BlobStore } from '../store/store.ts';

interface FreeName {
  readonly name: string;
  /** The moment that the name tells. */
  readonly takenAt: Date;
}

const TRIES = 5;

/**
 * A name for a snapshot taken now. Names tell the second: when another worker has this one, the next will do. The commit
 * makes sure of it again, and fails if none was free for several seconds.
 * @throws StorageError
 */
export async function findFreeName(store: BlobStore, signal: AbortSignal): Promise<FreeName> {
  for (let tries = 1; ; tries++) {
    const takenAt = new Date();
    const name = snapshotName(store.prefix, takenAt);
    if ((await store.isFree(name)) || tries === TRIES) return { name, takenAt };
    // An abort is told by the next request.
    await sleep(1000 - takenAt.getMilliseconds(), undefined, { signal }).catch(() => {});
  }
}

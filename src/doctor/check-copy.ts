import { isDone, planCopies } from '../copy/plan-copies.ts';
import { namedFor } from '../config/place.ts';
import type { RetentionConfig } from '../config/config.ts';
import type { ClusterIds } from '../snapshot/inventory.ts';
import type { BlobStore } from '../store/store.ts';
import { counted } from '../text.ts';
import { checkStorage } from './check-storage.ts';
import { type Check, ok, tried, warn } from './check.ts';

/** The second place, checked as the first one is, and what it lacks. */
export async function checkCopy(
  first: BlobStore,
  second: BlobStore,
  retention: RetentionConfig,
  now: Date,
  ids: () => Promise<ClusterIds>,
): Promise<Check[]> {
  const checks = await checkStorage(second, retention, now, ids);
  return [
    ...checks.map((check) => ({
      ...check,
      what: `copy: ${check.what}`,
      ...(check.hint !== undefined && { hint: namedFor('copy', check.hint) }),
    })),
    // A place that cannot be used has said so.
    ...(checks.some(({ what, state }) => state === 'fail' || what === 'storage')
      ? []
      : await checkMissing(first, second)),
  ];
}

async function checkMissing(first: BlobStore, second: BlobStore): Promise<Check[]> {
  const what = 'copies';
  return tried(what, async () => {
    const planned = planCopies(
      { prefix: first.prefix, blobs: await first.list() },
      { prefix: second.prefix, blobs: await second.list() },
    );
    const missing = planned.filter((copy) => !isDone(copy)).length;
    if (missing === 0) return ok(what, `The second place has all ${counted(planned.length, 'snapshot')}.`);
    const sentence = `The second place lacks ${missing} of ${counted(planned.length, 'snapshot')}, has something else, or they were not read back there.`;
    return warn(what, sentence, 'Run `etcd-snapshot copy`.');
  });
}

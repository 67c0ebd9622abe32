import type { RetentionConfig } from '../config/config.ts';
import { ExitCode, StorageError, WorkerError } from '../errors.ts';
import { uncounted } from '../retention/apply.ts';
import { planRetention } from '../retention/retention-plan.ts';
import {
  type ClusterIds,
  isFutureDated,
  isRecorded,
  malformed,
  momentOf,
  newestFirst,
  newestSnapshot,
  type Recorded,
} from '../snapshot/inventory.ts';
import { fileSizeOf } from '../snapshot/record.ts';
import type { StoredBlob } from '../store/catalogue.ts';
import type { DrillNote } from '../store/drill-notes.ts';
import { type BlobStore, type Right, RIGHTS } from '../store/store.ts';
import { usualDistance } from '../snapshot/usual-distance.ts';
import { afterColon, humanAge, humanSeconds } from '../text.ts';
import { checkPlan, judgeClock } from './check-host.ts';
import { type Check, fail, ok, tried, warn } from './check.ts';

/** Without a history: the schedule of the manifests. */
const USUAL = { last: 10, fewest: 3, fallback: 6 * 3600_000, least: 3600_000 };

/** A week and some slack. */
const DRILL_MS = 9 * 24 * 3600_000;

const NEEDED_FOR: Readonly<Record<Right, string>> = {
  list: '`list`, retention and the comparison with earlier snapshots',
  write: '`backup`',
  read: 'the read-back of a backup, `verify` and `restore`',
  delete: 'retention',
};

/**
 * Each permission on its own, the clock, and the age of the newest snapshot.
 * @param ids of the cluster, as etcd says it if it answers
 */
export async function checkStorage(
  store: BlobStore,
  retention: RetentionConfig,
  now: Date,
  ids: () => Promise<ClusterIds>,
): Promise<Check[]> {
  return tried('storage', async () => {
    const probe = await store.probeRights().catch((error: unknown) => {
      if (!(error instanceof StorageError) || error.code !== 'ContainerNotFound') throw error;
    });
    if (probe === undefined) {
      const sentence = `Container ${store.containerName} does not exist yet.`;
      return warn(
        'storage',
        sentence,
        'Create it, or let the first backup create it, if its identity has the permission.',
      );
    }
    const { refused, aheadMs } = probe;
    const rights = RIGHTS.map((right) => judgeRight(right, refused[right]));
    const clock = aheadMs === undefined ? [] : [judgeClock('Azure', aheadMs)];
    if (refused.list !== undefined) return [...rights, ...clock];
    const blobs = await store.list();
    const cluster = await ids();
    const newest = await tried('newest snapshot', async () => judgeNewest(blobs, cluster, now));
    const ignored = judgeUncounted(blobs, retention, now);
    return [...rights, ...clock, ...newest, ...ignored, judgeDrill(await store.lastDrill(), now)];
  });
}

function judgeRight(right: Right, refusal: StorageError | undefined): Check {
  if (refusal === undefined) return ok(right, `The identity can ${right}.`);
  const sentence = `The identity cannot ${right}, which is needed for ${NEEDED_FOR[right]}: ${afterColon(refusal.message)}`;
  if (right === 'delete')
    return warn(right, sentence, 'Ignore this if retention is off, or runs with another identity.');
  return fail(right, new WorkerError(ExitCode.storage, sentence, refusal.hint));
}

/** How old it is, and whether it can be restored on all members. @throws UsageError when it is not clear which one is meant */
function judgeNewest(blobs: readonly StoredBlob[], ids: ClusterIds, now: Date): Check[] {
  const newest = newestSnapshot(blobs, ids, now);
  if (newest !== undefined) {
    return [judgeAge(blobs, newest, now), checkPlan(newest.name, fileSizeOf(newest.record), newest.record, now)];
  }
  const whose = blobs.some(isRecorded) ? ' of this cluster' : '';
  const hint = 'Take one now: run `etcd-snapshot backup`.';
  return [warn('newest snapshot', `There is no snapshot${whose} yet.`, hint)];
}

function judgeAge(blobs: readonly StoredBlob[], newest: Recorded<StoredBlob>, now: Date): Check {
  const what = 'newest snapshot';
  const own = newestFirst(blobs, now).filter(({ record }) => record.clusterId === newest.record.clusterId);
  const taken = own.map(momentOf);
  const distances = taken.slice(1).map((time, index) => (taken[index] ?? time) - time);
  const usual = usualDistance(distances, USUAL);
  const age = now.getTime() - momentOf(newest);
  const sentence = `The newest snapshot is ${humanAge(age)} old; usually one is taken every ${humanAge(usual)}.`;
  const hint = 'Check the CronJob, its last Job and the log of its pod.';
  if (age > 3 * usual) return fail(what, new WorkerError(ExitCode.storage, sentence, hint));
  return age > 1.5 * usual ? warn(what, sentence, hint) : ok(what, sentence);
}

/** What looks like a snapshot and does not count, and what is missing. */
function judgeUncounted(blobs: readonly StoredBlob[], retention: RetentionConfig, now: Date): Check[] {
  const futureDated = blobs.filter(isRecorded).filter((snapshot) => isFutureDated(snapshot, now));
  const plan = planRetention(blobs, retention, now);
  const kinds = uncounted({ ...plan, futureDated, former: [], malformed: malformed(blobs) }, now);
  return kinds.map(({ what, sentence, hint }) => warn(what, sentence, hint));
}

function judgeDrill(last: DrillNote | undefined, now: Date): Check {
  const what = 'last drill';
  const hint = 'Run `etcd-snapshot drill` every week.';
  if (last === undefined) return warn(what, 'No drill has succeeded yet.', hint);
  const age = now.getTime() - last.at.getTime();
  const sentence = `A drill restored ${last.snapshot} ${humanAge(age)} ago, in ${humanSeconds(last.recoveryMs)}.`;
  return age > DRILL_MS ? warn(what, sentence, hint) : ok(what, sentence);
}

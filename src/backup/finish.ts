import type { RetentionConfig } from '../config/config.ts';
import { Interrupted, StorageError, type WorkerError } from '../errors.ts';
import type { Warnings, Log } from '../log.ts';
import { applyRetention, incomplete, type Retention, suspicious, warnAboutCatalogue } from '../retention/apply.ts';
import { hasRule } from '../retention/decide.ts';
import { planRetention } from '../retention/retention-plan.ts';
import { isRecorded, isSame, type Recorded, type StoredIdentity } from '../snapshot/inventory.ts';
import type { StoredBlob } from '../store/catalogue.ts';
import type { BlobStore } from '../store/store.ts';
import type { Proof } from './read-back.ts';

interface PostBackupResult {
  /** What is suspicious about the new snapshot, in sentences. */
  readonly anomalies: readonly string[];
  readonly retention: Retention;
  /** Why the run is no full success although the backup is stored. */
  readonly partialFailure?: WorkerError;
}

interface NewSnapshot extends StoredIdentity {
  readonly uploadId: string;
  readonly proof: Proof;
  /** What is suspicious about it without any comparison. */
  readonly suspicions: readonly string[];
}

/**
 * What follows a backup: it is compared with the earlier snapshots, and if nothing is suspicious, retention is applied, with
 * a reason in the log for every snapshot that goes. On account of one that could not be proven nothing is deleted.
 */
export async function compareAndRetain(
  store: BlobStore,
  fresh: NewSnapshot,
  config: RetentionConfig,
  findings: Warnings,
  log: Log,
): Promise<PostBackupResult> {
  const { name, proof, suspicions } = fresh;
  if (proof.refusal !== undefined) return unseen(suspicions, 'held', proof.refusal);
  const state = proof.readBack === 'done' ? 'stored and proven' : 'stored';
  const backup = `The backup ${name} is ${state}, but`;
  try {
    const catalogue = await store.list(fresh);
    const snapshot = assertListed(catalogue, fresh);
    const plan = planRetention(catalogue, config, new Date(), { snapshot, suspicions });
    warnAboutCatalogue(plan, findings);
    const { anomalies } = plan;
    const retention = await applyRetention(store, plan, { dryRun: false, findings, log });
    const { failure } = retention;
    if (anomalies.length > 0) return { anomalies, retention, partialFailure: suspicious(backup, anomalies) };
    return { anomalies, retention, ...(failure && { partialFailure: incomplete(`${backup} retention`, failure) }) };
  } catch (error) {
    if (error instanceof Interrupted) {
      throw error.withOutcome(
        `the backup ${name} is ${state}, and stays`,
        'Only retention was interrupted: the next run goes on with it.',
      );
    }
    if (!(error instanceof StorageError)) throw error;
    if (hasRule(config.rules) || !error.isForbidden) {
      return unseen(suspicions, 'incomplete', incomplete(`${backup} retention`, error));
    }
    findings.add(
      'The earlier snapshots could not be looked at, so nothing was compared.',
      'Give this identity the right to list as well.',
    );
    return unseen(suspicions, 'off', suspicions.length > 0 ? suspicious(backup, suspicions) : undefined);
  }
}

/**
 * The blob that was proven, as the service lists it: by its upload id and its etag, whatever its date is.
 * @throws StorageError when it is not there any more, or is no longer what was proven
 */
function assertListed(catalogue: readonly StoredBlob[], fresh: NewSnapshot): Recorded<StoredBlob> {
  const { name } = fresh;
  const listed = catalogue.find((blob) => blob.name === name);
  if (listed === undefined) {
    throw new StorageError('BlobNotFound', `The new blob ${name} is not listed.`, 'Was it deleted by somebody else?');
  }
  if (isSame(listed, fresh) && isRecorded(listed) && listed.record.uploadId === fresh.uploadId) return listed;
  const why = listed.problem ?? 'it was changed by somebody since it was stored';
  throw new StorageError(
    'ConditionNotMet',
    `The new blob ${name} does not count as a snapshot: ${why}.`,
    `Look at it with \`etcd-snapshot verify ${name}\`, and find out who else writes to the container.`,
  );
}

/** Nobody knows what else is in the container. */
function unseen(
  anomalies: readonly string[],
  state: Retention['state'],
  partialFailure?: WorkerError,
): PostBackupResult {
  const retention = { state, kept: null, removed: [], decisions: [] };
  return { anomalies, retention, ...(partialFailure && { partialFailure }) };
}

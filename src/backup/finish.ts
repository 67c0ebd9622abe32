import type { BundleResult } from '../bundle/store-bundle.ts';
import type { RetentionConfig } from '../config/config.ts';
import { ExitCode, Interrupted, StorageError, WorkerError } from '../errors.ts';
import type { Log, Warnings } from '../log.ts';
import { applyRetention, held, incomplete, type Retention, warnAboutCatalogue } from '../retention/apply.ts';
import { hasRule, planRetention } from '../retention/retention-plan.ts';
import { CLOCK_SKEW_MS, isRecorded, isSame, type Recorded, type StoredIdentity } from '../snapshot/inventory.ts';
import type { StoredBlob } from '../store/catalogue.ts';
import type { BlobStore } from '../store/store.ts';
import { humanAge } from '../text.ts';
import type { Marking } from './mark-backup.ts';
import type { ReadBack } from './read-back.ts';
import { recoveryOf } from './recovery.ts';
import type { StreamedSnapshot } from './stream-from-member.ts';

export interface PostBackupResult {
  /** What casts doubt on the new snapshot, in sentences. */
  readonly anomalies: readonly string[];
  readonly retention: Retention;
  /** What the new snapshot ends, as a sentence: failures, or a gap. */
  readonly recovery?: string | undefined;
  /** Why the run is no full success although the backup is stored. */
  readonly partialFailure?: WorkerError;
}

interface NewSnapshot extends StoredIdentity, Pick<StreamedSnapshot, 'upload' | 'anomalies'> {
  /** By the clock of this host. */
  readonly committedAt: Date;
  readonly bundle: BundleResult | undefined;
  /** Undefined where none was asked for. */
  readonly marking: Marking | undefined;
}

/**
 * Compares a new snapshot with the earlier ones and, if there is no anomaly, applies retention. After a read-back that was
 * not permitted, or without the bundle or the mark that were asked for, nothing is deleted.
 */
export async function finishBackup(
  store: BlobStore,
  fresh: NewSnapshot,
  readBack: ReadBack,
  config: RetentionConfig,
  warnings: Warnings,
  log: Log,
): Promise<PostBackupResult> {
  const { name } = fresh;
  if (fresh.marking !== undefined && 'problem' in fresh.marking) {
    return notListed(fresh.anomalies, 'held', fresh.marking.problem);
  }
  if (readBack.refusal !== undefined) return notListed(fresh.anomalies, 'held', readBack.refusal);
  const state = readBack.state === 'done' ? 'stored and read back' : 'stored';
  const backup = `The backup ${name} is ${state}, but`;
  if (fresh.bundle?.problem !== undefined) {
    return notListed(fresh.anomalies, 'held', incompleteBundle(backup, fresh.bundle.problem));
  }
  try {
    const { blobs: catalogue, events } = await store.listAll(fresh);
    const snapshot = assertListed(catalogue, fresh);
    const now = new Date();
    const plan = planRetention(catalogue, config, now, { snapshot, anomalies: fresh.anomalies });
    warnAboutClock(fresh.committedAt, snapshot.storedAt, warnings);
    warnAboutCatalogue(plan, warnings, now);
    const { anomalies } = plan;
    const recovery = recoveryOf(snapshot, catalogue, events, config, now);
    const retention = await applyRetention(store, plan, { dryRun: false, warnings, log });
    const { failure } = retention;
    if (anomalies.length > 0) return { anomalies, retention, recovery, partialFailure: held(backup, anomalies) };
    return {
      anomalies,
      retention,
      recovery,
      ...(failure && { partialFailure: incomplete(`${backup} retention`, failure) }),
    };
  } catch (error) {
    if (error instanceof Interrupted) {
      throw error.withOutcome(
        `the backup ${name} is ${state}, and is kept`,
        'Wait for the next run: it continues with retention.',
      );
    }
    if (!(error instanceof StorageError)) throw error;
    if (hasRule(config.rules) || !error.isForbidden) {
      return notListed(fresh.anomalies, 'incomplete', incomplete(`${backup} retention`, error));
    }
    warnings.add(
      'The snapshot was not compared with earlier ones: they cannot be listed.',
      'Grant this identity permission to list.',
    );
    return notListed(fresh.anomalies, 'off', fresh.anomalies.length > 0 ? held(backup, fresh.anomalies) : undefined);
  }
}

/** @param backup what is stored, as the beginning of a sentence */
function incompleteBundle(backup: string, problem: string): WorkerError {
  return new WorkerError(
    ExitCode.incomplete,
    `${backup} its bundle ${problem}. Nothing was deleted.`,
    'Check SNAPSHOT_BUNDLE, what is mounted into the container, and the permissions of the files.',
  );
}

function warnAboutClock(here: Date, atService: Date, warnings: Warnings): void {
  const aheadMs = here.getTime() - atService.getTime();
  if (Math.abs(aheadMs) <= CLOCK_SKEW_MS) return;
  const direction = aheadMs > 0 ? 'ahead of' : 'behind';
  warnings.add(
    `The clock of this host is ${humanAge(Math.abs(aheadMs))} ${direction} that of Azure.`,
    'Synchronize it (chrony, systemd-timesyncd): dates decide what retention keeps and which snapshot a restore uses.',
  );
}

/**
 * The blob that was read back, as the service lists it: by its upload id and its etag, whatever its date is.
 * @throws StorageError when it is not there any more, or is no longer what was read back
 */
function assertListed(catalogue: readonly StoredBlob[], fresh: NewSnapshot): Recorded<StoredBlob> {
  const { name } = fresh;
  const listed = catalogue.find((blob) => blob.name === name);
  if (listed === undefined) {
    throw new StorageError('BlobNotFound', `The new blob ${name} is not listed.`, 'Find out what deleted it.');
  }
  if (isSame(listed, fresh) && isRecorded(listed) && listed.record.uploadId === fresh.upload.uploadId) return listed;
  const why = listed.problem ?? 'it was changed since it was stored';
  throw new StorageError(
    'ConditionNotMet',
    `The new blob ${name} does not count as a snapshot: ${why}.`,
    `Run \`etcd-snapshot verify ${name}\`, and find out who else writes to the container.`,
  );
}

/** Nobody knows what else is in the container. */
function notListed(
  anomalies: readonly string[],
  state: Retention['state'],
  partialFailure?: WorkerError,
): PostBackupResult {
  const retention = { state, kept: null, removed: [], decisions: [] };
  return { anomalies, retention, ...(partialFailure && { partialFailure }) };
}

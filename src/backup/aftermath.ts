import type { RetentionConfig } from '../config.ts';
import { Interrupted, StorageError, type WorkerError } from '../errors.ts';
import type { Findings } from '../findings.ts';
import type { Log } from '../log.ts';
import { planRetention } from '../snapshot/plan.ts';
import { hasRule, isRecorded } from '../snapshot/retention.ts';
import type { BlobStore } from '../store/store.ts';
import type { Proof } from './prove.ts';
import { applyRetention, incomplete, type Retention, suspicious, tellOfFutureDated } from './retention.ts';

export interface Aftermath {
  /** What is suspicious about the new snapshot, in sentences. */
  readonly anomalies: readonly string[];
  readonly retention: Retention;
  /** Why the run is no full success although the backup is stored. */
  readonly shortfall?: WorkerError;
}

export interface NewSnapshot {
  readonly name: string;
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
  { name, uploadId, proof, suspicions }: NewSnapshot,
  config: RetentionConfig,
  findings: Findings,
  log: Log,
): Promise<Aftermath> {
  if (proof.refusal !== undefined) return unseen(suspicions, 'held', proof.refusal);
  const state = proof.readBack === 'done' ? 'stored and proven' : 'stored';
  const backup = `The backup ${name} is ${state}, but`;
  try {
    const catalogue = await store.list();
    const snapshot = catalogue
      .filter(isRecorded)
      .find((blob) => blob.name === name && blob.record.uploadId === uploadId);
    if (snapshot === undefined) {
      throw new StorageError('BlobNotFound', `The new blob ${name} is not listed.`, 'Was it deleted by somebody else?');
    }
    const plan = planRetention(catalogue, config, new Date(), { snapshot, suspicions });
    tellOfFutureDated(plan, findings);
    const { anomalies } = plan;
    const retention = await applyRetention(store, plan, { dryRun: false, findings, log });
    const { failure } = retention;
    if (anomalies.length > 0) return { anomalies, retention, shortfall: suspicious(backup, anomalies) };
    return { anomalies, retention, ...(failure && { shortfall: incomplete(`${backup} retention`, failure) }) };
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

/** Nobody knows what else is in the container. */
function unseen(anomalies: readonly string[], state: Retention['state'], shortfall?: WorkerError): Aftermath {
  const retention = { state, kept: null, removed: [], decisions: [] };
  return { anomalies, retention, ...(shortfall && { shortfall }) };
}

import { ExitCode, Interrupted, WorkerError } from '../errors.ts';
import type { Log, Warnings } from '../log.ts';
import { copyMetrics, type Samples } from '../monitoring/metrics.ts';
import type { StartProgress } from '../progress.ts';
import type { BlobStore } from '../store/store.ts';
import { afterColon } from '../text.ts';
import { copyMissing, failureOf } from './copy-missing.ts';

/** What became of the copy after a backup. */
export interface CopyAfterBackup {
  /** For `--json`; null where it failed. */
  readonly json: object | null;
  readonly measured: Samples;
  /** Why the run is no full success although the backup is stored. */
  readonly partialFailure?: WorkerError;
}

/**
 * Copies what the second place lacks after a backup. Its failure makes the run incomplete.
 * @param name of the new snapshot
 */
export async function copyAfterBackup(
  first: BlobStore,
  openSecond: () => Promise<BlobStore>,
  name: string,
  options: { readonly startProgress: StartProgress; readonly log: Log; readonly warnings: Warnings },
): Promise<CopyAfterBackup> {
  try {
    const second = await openSecond();
    const result = await copyMissing({ first, second }, await first.listAll(), () => true, options);
    const failure = failureOf(result);
    const { failure: _, ...json } = result;
    const measured = copyMetrics(result);
    return { json, measured, ...(failure && { partialFailure: incomplete(name, failure) }) };
  } catch (error) {
    if (error instanceof Interrupted) {
      throw error.withOutcome(
        `the backup ${name} is stored, and is kept`,
        'Wait for the next run: it continues the copy.',
      );
    }
    if (!(error instanceof WorkerError)) throw error;
    return { json: null, measured: copyMetrics(), partialFailure: incomplete(name, error) };
  }
}

function incomplete(name: string, failure: WorkerError): WorkerError {
  const message = `The backup ${name} is stored, but its second copy is incomplete: ${afterColon(failure.message)}`;
  return new WorkerError(ExitCode.incomplete, message, failure.hint, failure);
}

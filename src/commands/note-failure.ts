import { messageOf } from '../errors.ts';
import { failureMark } from '../snapshot/failure-marks.ts';
import { DEADLINES } from '../store/requests.ts';
import type { Context } from './command.ts';

/** The report of a run takes no longer. */
const SHORT = { ...DEADLINES, retryMs: 3_000, firstRetryMs: 0 };

/** Notes in the container that a backup or drill failed, if the container can be reached. Never rejects. @param signal ends the attempt */
export async function noteFailure(
  { config, log, signatures }: Pick<Context, 'config' | 'log' | 'signatures'>,
  { command, exitCode }: { readonly command: 'backup' | 'drill'; readonly exitCode: number },
  signal: AbortSignal,
): Promise<void> {
  if (config.storage === undefined) return;
  try {
    const { BlobStore } = await import('../store/store.ts');
    const store = await BlobStore.open(config.storage, signal, log, { signatures, deadlines: SHORT });
    await store.addEvent(failureMark(new Date(), command, exitCode));
  } catch (error) {
    log.debug('the failure was not noted in the container', { cause: messageOf(error) });
  }
}

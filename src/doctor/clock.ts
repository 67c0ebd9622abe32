import { ExitCode, WorkerError } from '../errors.ts';
import { type Check, fail, ok, warn } from './check.ts';

/** Names of snapshots tell seconds, and nobody should wonder about a minute. */
const WARN_MS = 30_000;
/** Azure refuses requests that are older (specification: errors; clock skew). */
const REFUSED_MS = 15 * 60_000;

/** @param aheadMs by how many milliseconds the clock of this host is before the other one; negative = behind */
export function judgeClock(whose: string, aheadMs: number): Check {
  const what = 'clock';
  const seconds = Math.round(Math.abs(aheadMs) / 1000);
  const difference = `The clock of this host is ${seconds} s ${aheadMs > 0 ? 'ahead of' : 'behind'} that of ${whose}.`;
  const hint = 'Synchronise the time of this host (chrony, systemd-timesyncd).';
  if (Math.abs(aheadMs) >= REFUSED_MS) return fail(what, new WorkerError(ExitCode.usage, difference, hint));
  if (Math.abs(aheadMs) >= WARN_MS) return warn(what, difference, hint);
  return ok(what, `The clock of this host agrees with that of ${whose}.`);
}

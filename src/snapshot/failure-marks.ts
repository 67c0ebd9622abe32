import { randomBytes } from 'node:crypto';
import type { MarkBlob } from './marks.ts';

/* Marks of backups and drills that failed, so that the next success can be reported as a recovery. */

const FAILED = 'failed';

type Command = 'backup' | 'drill';

/** The event of a run that failed. */
export function failureMark(at: Date, command: Command, exitCode: number) {
  const fields = { at: at.toISOString(), what: FAILED, command, exitcode: String(exitCode) };
  const id = `${FAILED}-${fields.at.replaceAll(':', '-')}-${randomBytes(4).toString('hex')}`;
  return { kind: 'mark', id, fields, body: { at, what: FAILED, command, exitCode } } as const;
}

type EventBlob = Pick<MarkBlob, 'kind' | 'fields' | 'storedAt'>;

/** @param command whose failures; undefined = all */
export function failuresIn<T extends EventBlob>(events: readonly T[], command?: Command): T[] {
  const failures = events.filter(({ kind, fields }) => kind === 'mark' && fields['what'] === FAILED);
  return command === undefined ? failures : failures.filter(({ fields }) => fields['command'] === command);
}

/** How long they tell what happened, in milliseconds. */
const KEPT_MS = 90 * 24 * 3_600_000;

/** Those that are not needed any more. @param time of the service; undefined = unknown */
export function obsoleteFailures<T extends EventBlob>(events: readonly T[], time: Date | undefined): T[] {
  return failuresIn(events).filter(
    ({ storedAt }) => time !== undefined && time.getTime() - storedAt.getTime() > KEPT_MS,
  );
}

import { UsageError } from '../errors.ts';
import { endOf, type KeepLimit, type KeepRequest, UNTIL_RELEASED } from '../retention/mark-snapshot.ts';
import { isNote } from '../snapshot/marks.ts';
import { printable } from '../text.ts';

const SECONDS = { h: 3600, d: 86_400, w: 7 * 86_400 };

/**
 * What is asked for, checked before anything is done.
 * @param until the value of the option that says how long; undefined = until the snapshot is released
 * @throws UsageError
 */
export function readKeepRequest(option: string, until: unknown, note: unknown): KeepRequest {
  const limit = typeof until !== 'string' || until === UNTIL_RELEASED ? undefined : readLimit(option, until);
  endOf(limit, new Date());
  if (typeof note !== 'string') return { limit, note: undefined };
  const text = note.trim();
  if (isNote(text)) return { limit, note: text };
  throw new UsageError(
    '--note must have 1 to 200 characters, and no control characters.',
    'Give a shorter text, in one line.',
  );
}

function readLimit(option: string, text: string): KeepLimit {
  const [, count, unit] = /^([1-9]\d{0,4})([hdw])$/.exec(text) ?? [];
  if (count !== undefined) return { seconds: Number(count) * SECONDS[unit as keyof typeof SECONDS] };
  // The whole day, in UTC. Of a day that no month has, JavaScript makes another one.
  const endOfDay = new Date(`${text}T23:59:59.999Z`);
  const isDay = /^\d{4}-\d\d-\d\d$/.test(text) && endOfDay.getTime() > 0 && endOfDay.toISOString().startsWith(text);
  if (isDay) return { endOfDay };
  throw new UsageError(
    `${option} ${printable(text)} is neither a time such as 90d nor a date such as 2027-02-26.`,
    'Give hours (h), days (d) or weeks (w) from now, or the last day in UTC.',
  );
}

import { randomBytes } from 'node:crypto';
import { StorageError, UsageError } from '../errors.ts';
import type { Kept } from '../snapshot/inventory.ts';
import { markFields, nextMoment } from '../snapshot/marks.ts';
import type { BlobStore } from '../store/store.ts';
import { printable } from '../text.ts';

/** How long a snapshot is to be kept: so many seconds, to the end of a day, or until it is released. */
export type KeepLimit = { readonly seconds: number } | { readonly endOfDay: Date } | undefined;

export interface KeepRequest {
  readonly limit: KeepLimit;
  readonly note: string | undefined;
}

/** The limit as an option where none is given. */
export const UNTIL_RELEASED = 'released';

/**
 * Stores a mark for a snapshot, and makes sure that it counts. Its date is that of the service: clocks of hosts differ.
 * @param request undefined = the snapshot is released
 * @returns what keeps it now
 * @throws StorageError; UsageError for a limit in the past
 */
export async function markSnapshot(
  store: BlobStore,
  name: string,
  request: KeepRequest | undefined,
): Promise<Kept | undefined> {
  const { events, time } = await store.listEvents('mark');
  if (time === undefined) {
    throw new StorageError(
      'InvalidResponse',
      'The time of a mark is not known: the answers of Azure have no date.',
      'Check whether a proxy changes the answers of Azure.',
    );
  }
  const snapshot = name.slice(store.prefix.length);
  const at = nextMoment(snapshot, events, time);
  const until = request && endOf(request.limit, at);
  const mark = { at, snapshot, what: request === undefined ? 'release' : 'keep', until, note: request?.note } as const;
  const id = `${at.toISOString().replaceAll(':', '-')}-${randomBytes(8).toString('hex')}`;
  await store.addEvent({ kind: 'mark', id, fields: markFields(mark), body: mark });
  const kept = (await store.readMarks())(name);
  if ((kept === undefined) === (request === undefined)) return kept;
  throw new StorageError(
    'MarkDoesNotCount',
    `The mark for ${printable(name)} is stored, but does not count.`,
    'Check whether somebody else marked the snapshot at the same time, then run the command again.',
  );
}

/** @throws UsageError when it is over */
export function endOf(limit: KeepLimit, now: Date): Date | undefined {
  if (limit === undefined) return undefined;
  const end = 'seconds' in limit ? new Date(now.getTime() + limit.seconds * 1000) : limit.endOfDay;
  if (end > now) return end;
  throw new UsageError(
    `A snapshot cannot be kept until ${end.toISOString().slice(0, 10)}: this date is in the past.`,
    'Give a later date, in UTC, or a time from now such as 90d.',
  );
}

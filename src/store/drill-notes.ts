import * as v from 'valibot';
import { CLOCK_SKEW_MS } from '../snapshot/inventory.ts';
import { PercentEncoded, Time } from '../snapshot/record.ts';
import type { NewEvent, StoredEvent } from './events.ts';

/** A successful drill, stored next to the snapshots so that anybody can see when the last one was. */
export interface DrillNote {
  readonly at: Date;
  /** Name of the snapshot. */
  readonly snapshot: string;
  /** Duration of its recovery, in milliseconds. */
  readonly recoveryMs: number;
}

export function drillEvent({ at, snapshot, recoveryMs }: DrillNote): NewEvent {
  const fields = { at: at.toISOString(), snapshot: encodeURIComponent(snapshot), recoveryms: String(recoveryMs) };
  return { kind: 'drill', id: fields.at.replaceAll(':', '-'), fields, body: { at, snapshot, recoveryMs } };
}

/**
 * The last successful drill; undefined if there was none.
 * @param isMeant of the name of its snapshot
 */
export function lastDrillOf(
  events: readonly StoredEvent[],
  now: Date,
  isMeant: (snapshot: string) => boolean = () => true,
): DrillNote | undefined {
  return drillsOf(events, now).findLast(({ snapshot }) => isMeant(snapshot));
}

/** The successful drills, the last one at the end. Invalid notes, and those of the future, are ignored. */
export function drillsOf(events: readonly StoredEvent[], now: Date): DrillNote[] {
  const notes = events.flatMap(({ kind, fields }) => {
    const note = v.safeParse(Note, fields);
    if (kind !== 'drill' || !note.success) return [];
    const { at, snapshot, recoveryms: recoveryMs } = note.output;
    return at.getTime() <= now.getTime() + CLOCK_SKEW_MS ? [{ at, snapshot, recoveryMs }] : [];
  });
  return notes.toSorted((a, b) => a.at.getTime() - b.at.getTime());
}

const Note = v.object({
  at: Time,
  snapshot: v.pipe(PercentEncoded, v.minLength(1), v.maxLength(1024)),
  recoveryms: v.pipe(v.string(), v.regex(/^\d{1,12}(\.\d{1,20})?$/), v.transform(Number)),
});

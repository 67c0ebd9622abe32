import * as v from 'valibot';
import { type CataloguedBlob, CLOCK_SKEW_MS, type Kept, signatureProblem } from './inventory.ts';
import { NO_CONTROLS, PercentEncoded, Time } from './record.ts';
import type { RecordSignature } from './signature-state.ts';
import { takenAtOf } from './snapshot-name.ts';

/**
 * Marks: events that say that a snapshot is to be kept whatever the rules of retention say, or no longer. A mark belongs to the
 * snapshot of a time, so to all its forms. Everybody who can write can make one.
 */

/** Characters of a note. */
const MAX_NOTE = 200;

/** A note that people can read in a table. */
export function isNote(text: string): boolean {
  return text.trim() !== '' && text.length <= MAX_NOTE && NO_CONTROLS.test(text);
}

/** What a mark says of its snapshot. */
const WHAT = ['keep', 'release'] as const;

const FIELDS = {
  /** By the clock of the service, and later than all marks that were there: the latest one counts. */
  at: Time,
  /** Without the prefix. */
  snapshot: v.pipe(
    v.string(),
    v.check((name) => takenAtOf('', name) !== undefined),
  ),
  /** Without it a snapshot is kept until it is released. */
  until: v.optional(Time),
};

const Note = v.optional(v.pipe(PercentEncoded, v.check(isNote)));

/** A note that cannot be read makes a mark that releases invalid, and is omitted from one that keeps. */
const Mark = v.variant('what', [
  v.object({ ...FIELDS, what: v.literal('keep'), note: v.fallback(Note, undefined) }),
  v.object({ ...FIELDS, what: v.literal('release'), note: Note }),
]);

export type Mark = Readonly<v.InferOutput<typeof Mark>>;

/** The metadata of its blob. */
export function markFields({ at, snapshot, what, until, note }: Mark): Record<string, string> {
  return {
    ...{ at: at.toISOString(), snapshot, what },
    ...(until && { until: until.toISOString() }),
    ...(note !== undefined && { note: encodeURIComponent(note) }),
  };
}

/** A blob with a mark, as the service lists it. */
export interface MarkBlob {
  readonly kind: string;
  readonly name: string;
  readonly storedAt: Date;
  readonly fields: Readonly<Record<string, unknown>>;
  readonly signature: RecordSignature | undefined;
}

/** Whether an event is a mark that keeps or releases, unlike the one of a failed run. */
export function keepsOrReleases({ kind, fields }: Pick<MarkBlob, 'kind' | 'fields'>): boolean {
  return kind === 'mark' && WHAT.some((what) => fields['what'] === what);
}

/** A listed mark that is well-formed. */
interface ListedMark<T> {
  readonly blob: T;
  readonly mark: Mark;
}

export interface MarkRules {
  readonly prefix: string;
  /** When the marks were listed, by the clock of the service; undefined = unknown, and no mark has expired. */
  readonly time: Date | undefined;
  readonly areSignaturesRequired: boolean;
}

/** Those that are well-formed and not from the future. */
function marksIn<T extends MarkBlob>(events: readonly T[]): ListedMark<T>[] {
  return events.flatMap((blob) => {
    const parsed = blob.kind === 'mark' ? v.safeParse(Mark, blob.fields) : undefined;
    if (parsed?.success !== true || parsed.output.at.getTime() > blob.storedAt.getTime() + CLOCK_SKEW_MS) return [];
    return [{ blob, mark: parsed.output }];
  });
}

/** The mark that counts for the snapshot of each time, in milliseconds since 1970. */
function countingMarks<T extends MarkBlob>(
  events: readonly T[],
  areSignaturesRequired: boolean,
): Map<number, ListedMark<T>> {
  const trusted = marksIn(events).filter(({ blob }) => signatureProblem(blob, areSignaturesRequired) === undefined);
  return new Map(trusted.toSorted(byTime).map((listed) => [momentIn('', listed.mark.snapshot), listed]));
}

/** The latest one is last; of two of the same moment, one that keeps. */
function byTime(a: ListedMark<MarkBlob>, b: ListedMark<MarkBlob>): number {
  const keeps = ({ mark }: ListedMark<MarkBlob>): number => Number(mark.what === 'keep');
  return a.mark.at.getTime() - b.mark.at.getTime() || keeps(a) - keeps(b) || (a.blob.name < b.blob.name ? -1 : 1);
}

/** Of a snapshot and all its forms, in milliseconds since 1970; NaN for a name that this tool does not give. */
function momentIn(prefix: string, name: string): number {
  return takenAtOf(prefix, name)?.getTime() ?? NaN;
}

/** What keeps the snapshot of a name; undefined = no mark does. */
export type KeptOf = (name: string) => Kept | undefined;

/** Finds the mark that keeps a snapshot. */
export function readMarks(events: readonly MarkBlob[], { prefix, time, areSignaturesRequired }: MarkRules): KeptOf {
  const marks = countingMarks(events, areSignaturesRequired);
  return (name) => {
    const mark = marks.get(momentIn(prefix, name))?.mark;
    if (mark?.what !== 'keep') return undefined;
    const { until, note } = mark;
    const hasExpired = until !== undefined && time !== undefined && until <= time;
    return hasExpired ? undefined : { until, note };
  };
}

/** The same blob, which says so if a mark keeps it. */
export function withMark<T extends CataloguedBlob>(blob: T, keptOf: KeptOf): T {
  const kept = keptOf(blob.name);
  return kept === undefined ? blob : { ...blob, kept };
}

/** Milliseconds: a copy of a snapshot can arrive later than its marks. */
const SETTLED_MS = 3_600_000;

/** Marks that decide nothing any more: another one replaces them, or their snapshot is gone. */
export function obsoleteMarks<T extends MarkBlob>(
  blobs: readonly CataloguedBlob[],
  events: readonly T[],
  { prefix, time, areSignaturesRequired }: MarkRules,
): T[] {
  const present = new Set(blobs.map(({ name }) => momentIn(prefix, name)));
  const counting = countingMarks(events, areSignaturesRequired);
  const isSettled = ({ storedAt }: T): boolean =>
    time !== undefined && time.getTime() - storedAt.getTime() > SETTLED_MS;
  return marksIn(events)
    .filter(({ blob, mark }) => {
      const moment = momentIn('', mark.snapshot);
      if (!present.has(moment)) return isSettled(blob);
      const latest = counting.get(moment);
      return (
        latest !== undefined && latest.blob !== blob && signatureProblem(blob, areSignaturesRequired) === undefined
      );
    })
    .map(({ blob }) => blob);
}

/**
 * A moment for the next mark of a snapshot: now, but later than all marks that it has.
 * @param snapshot its name without the prefix
 * @param time of the service
 */
export function nextMoment(snapshot: string, events: readonly MarkBlob[], time: Date): Date {
  const moment = momentIn('', snapshot);
  const earlier = marksIn(events).filter(({ mark }) => momentIn('', mark.snapshot) === moment);
  return new Date(Math.max(time.getTime(), ...earlier.map(({ mark }) => mark.at.getTime() + 1)));
}

/** Why it stays, for a table: `kept until 2027-02-26: before 1.36`. The date is in UTC. */
export function keptText({ until, note }: Kept): string {
  const limit = until === undefined ? '' : ` until ${until.toISOString().slice(0, 10)}`;
  return `kept${limit}${note === undefined ? '' : `: ${note}`}`;
}

/** The same in results as JSON. */
export function keptJson({ until, note }: Kept): object {
  return { until: until?.toISOString() ?? null, note: note ?? null };
}

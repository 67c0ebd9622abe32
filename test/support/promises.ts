import { planRetention, type RetentionPlan } from '../../src/retention/retention-plan.ts';
import { isRecorded, isSame, takeInventory } from '../../src/snapshot/inventory.ts';
import { readMarks, withMark } from '../../src/snapshot/marks.ts';
import { type StoredBlob, storedBlob } from '../../src/store/catalogue.ts';
import { type RandomCatalogue, randomCatalogue, type RawBlob, shuffled, TODAY } from './catalogues.ts';
import { Random } from './random.ts';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const TOLERATED = 5 * 60_000;

/** The number of a period, by arithmetic of its own. */
export const NUMBER_OF = {
  hourly: (ms: number) => Math.floor(ms / HOUR),
  daily: (ms: number) => Math.floor(ms / DAY),
  // The first of January 1970 was a Thursday.
  weekly: (ms: number) => Math.floor((Math.floor(ms / DAY) + 3) / 7),
  monthly: (ms: number) => new Date(ms).getUTCFullYear() * 12 + new Date(ms).getUTCMonth(),
  yearly: (ms: number) => new Date(ms).getUTCFullYear(),
} as const;
export const PERIOD_RULES = ['hourly', 'daily', 'weekly', 'monthly', 'yearly'] as const;

const LISTED = new WeakMap<RawBlob, StoredBlob>();

/** As the program reads it from the service's answer. */
function listedAs(prefix: string, blob: RawBlob): StoredBlob {
  const { name, metadata, size, etag, storedAt } = blob;
  const properties = { contentLength: size, etag, createdOn: storedAt };
  const listed = LISTED.get(blob) ?? storedBlob(prefix, name, metadata, properties);
  LISTED.set(blob, listed);
  return listed;
}

/** What retention would do, by the program. */
export function planOf({
  prefix,
  blobs,
  marks,
  now,
  fresh,
  clusterIds,
  rules,
}: RandomCatalogue): RetentionPlan<StoredBlob> {
  const listed = blobs.map((blob) => listedAs(prefix, blob));
  // The etag of a commit comes from a header, with quotation marks.
  const stored = fresh && { name: fresh.name, etag: `"${fresh.etag}"` };
  const keptOf = readMarks(marks, { prefix, time: new Date(TODAY), areSignaturesRequired: false });
  const inventory = takeInventory(prefix, listed, stored).map((blob) => withMark(blob, keptOf));
  const snapshot = stored && inventory.filter(isRecorded).find((blob) => isSame(blob, stored));
  if ((snapshot === undefined) !== (fresh === undefined)) throw new Error('the fresh snapshot does not count');
  const config = { rules, previousClusterIds: clusterIds.slice(1) };
  return planRetention(inventory, config, now, snapshot && { snapshot, anomalies: [] });
}

export function removedBy({ decisions }: RetentionPlan<StoredBlob>): string[] {
  return decisions.flatMap(({ keep, snapshot }) => (keep ? [] : [snapshot.name])).toSorted();
}

/** The snapshots of a catalogue as the promises see them, the newest first. */
interface History {
  /** Those that no mark keeps: only they are counted by the rules. */
  readonly counted: readonly RawBlob[];
  /** Of this cluster, with a date that can be relied upon. */
  readonly dated: readonly RawBlob[];
  readonly own: readonly RawBlob[];
  readonly newest: RawBlob | undefined;
}

function momentOf({ takenAt, storedAt }: RawBlob): number {
  return Math.min(takenAt.getTime(), storedAt.getTime());
}

function historyOf({ blobs, kept, now, fresh, clusterIds }: RandomCatalogue): History {
  const isAhead = ({ takenAt, storedAt }: RawBlob): boolean =>
    takenAt.getTime() - storedAt.getTime() > TOLERATED || takenAt.getTime() - now.getTime() > TOLERATED;
  const valid = blobs.filter(({ clusterId }) => clusterId !== undefined);
  const all = valid
    .filter((blob) => !isAhead(blob))
    .toSorted(
      (a, b) =>
        momentOf(b) - momentOf(a) ||
        b.storedAt.getTime() - a.storedAt.getTime() ||
        // Stored in the same second: the clock of the one that is dated later was ahead.
        a.takenAt.getTime() - b.takenAt.getTime() ||
        (a.name < b.name ? 1 : -1),
    );
  const current = fresh?.clusterId ?? all[0]?.clusterId;
  const isOwn = ({ clusterId }: RawBlob): boolean => clusterId === current || clusterIds.indexOf(clusterId ?? '') > 0;
  const dated = all.filter(isOwn);
  const counted = dated.filter(({ name }) => !kept.has(name));
  const newest = dated.find(({ clusterId }) => clusterId === current) ?? dated[0];
  return { counted, dated, own: valid.filter(isOwn), newest };
}

/** What must be removed, straight from what each rule promises; slow, and as unlike the product as possible. */
export function promisedRemovals(catalogue: RandomCatalogue): string[] {
  const { fresh, rules, kept } = catalogue;
  if (!Object.values(rules).some((value) => value !== undefined)) return [];
  const { counted, dated, newest } = historyOf(catalogue);
  const isFreshCounted = fresh !== undefined && !kept.has(fresh.name);
  return counted
    .filter((one, index) => {
      if (one === fresh) return false;
      if (one === newest && (fresh === undefined || !dated.includes(fresh))) return false;
      if (fresh !== undefined && one.storedAt >= fresh.storedAt) return false;
      const isUnclear =
        newest !== undefined && one.storedAt > newest.storedAt && momentOf(newest) - momentOf(one) <= TOLERATED;
      if (fresh === undefined && isUnclear) return false;
      const newer = counted.slice(0, index);
      const before = newer.filter((other) => other !== fresh).length + (isFreshCounted ? 1 : 0);
      const isLast = before < (rules.last ?? 0);
      const isWithin = counted.every((other) => momentOf(other) - momentOf(one) < (rules.within ?? 0) * 1000);
      const isOfPeriod = PERIOD_RULES.some((rule) => {
        const period = ({ takenAt }: RawBlob): number => NUMBER_OF[rule](takenAt.getTime());
        const newerPeriods = new Set(newer.map(period));
        const count = rules[rule] ?? 0;
        if (newerPeriods.size < count && !newerPeriods.has(period(one))) return true;
        return index === counted.length - 1 && new Set(counted.map(period)).size < count;
      });
      return !isLast && !isWithin && !isOfPeriod;
    })
    .map(({ name }) => name)
    .toSorted();
}

/** For each rule: enough valid snapshots stay that are newer, or that one rule would be broken by what goes. */
function unjustified(catalogue: RandomCatalogue, gone: ReadonlySet<string>): string[] {
  const { fresh, rules, kept } = catalogue;
  const { counted } = historyOf(catalogue);
  const left = counted.filter(({ name }) => !gone.has(name));
  return counted.flatMap((one, index) => {
    if (!gone.has(one.name)) return [];
    const newer = left.filter((other) => counted.indexOf(other) < index);
    const isFreshCounted = fresh !== undefined && !kept.has(fresh.name);
    const isLastKept = new Set(isFreshCounted ? [...newer, fresh] : newer).size >= (rules.last ?? 0);
    const isPeriodKept = PERIOD_RULES.every((rule) => {
      const period = ({ takenAt }: RawBlob): number => NUMBER_OF[rule](takenAt.getTime());
      const periods = new Set(newer.map(period));
      return rules[rule] === undefined || periods.has(period(one)) || periods.size >= rules[rule];
    });
    const [newest] = counted;
    const isOld = newest === undefined || momentOf(newest) - momentOf(one) >= (rules.within ?? 0) * 1000;
    return isLastKept && isPeriodKept && isOld ? [] : [one.name];
  });
}

export interface Checked {
  /** How many snapshots were removed. */
  readonly removals: number;
  /** What was promised and not held. */
  readonly broken: readonly string[];
}

/** Makes the catalogue of a seed, and looks at everything that retention promises. */
export function checkPromises(seed: number): Checked {
  const random = new Random(seed);
  const catalogue = randomCatalogue(random);
  const { blobs, fresh } = catalogue;
  const plan = planOf(catalogue);
  const removed = removedBy(plan);
  const gone = new Set(removed);
  const { dated, own, newest } = historyOf(catalogue);

  const valid = blobs.filter(({ clusterId }) => clusterId !== undefined);
  const withoutForged = removedBy(planOf({ ...catalogue, blobs: valid }));
  const inOtherOrder = removedBy(planOf({ ...catalogue, blobs: shuffled(random, blobs) }));
  // A forged copy whose original is gone is a snapshot for all that anybody can see.
  const rest = { ...catalogue, blobs: valid.filter(({ name }) => !gone.has(name)) };

  const interrupted = { ...catalogue, blobs: valid.filter(({ name }) => !gone.has(name) || random.below(2) === 0) };
  const rule = random.of(['last', ...PERIOD_RULES, 'within'] as const);
  const more = (catalogue.rules[rule] ?? 0) + 1 + random.below(rule === 'within' ? 1e7 : 10);
  const hasRule = Object.values(catalogue.rules).some((value) => value !== undefined);
  const goneWithMore = removedBy(planOf({ ...catalogue, rules: { ...catalogue.rules, [rule]: more } }));

  // What is marked has no influence on the others, unless it shows which snapshot is the newest.
  const { kept } = catalogue;
  const isNewestMarked = [fresh, newest].some((blob) => blob !== undefined && kept.has(blob.name));
  const others = isNewestMarked ? valid : valid.filter(({ name }) => !kept.has(name));
  const withoutMarked = removedBy(planOf({ ...catalogue, blobs: others }));

  const promises: Record<string, boolean> = {
    'what is marked stays': removed.every((name) => !kept.has(name)),
    'what is marked does not decide about others': same(removed, withoutMarked),
    'what the rules promise stays, and nothing else': same(removed, promisedRemovals(catalogue)),
    'the fresh snapshot stays': fresh === undefined || !gone.has(fresh.name),
    'the newest one stays': newest === undefined || fresh !== undefined || !gone.has(newest.name),
    'one with a good date stays': dated.length === 0 || dated.some(({ name }) => !gone.has(name)),
    'only snapshots of this cluster go': removed.every((name) => own.some((blob) => blob.name === name)),
    'enough valid ones stay by every rule': unjustified(catalogue, gone).length === 0,
    'what is no snapshot decides nothing': same(removed, withoutForged),
    'the order decides nothing': same(removed, inOtherOrder),
    'a second time nothing goes': removedBy(planOf(rest)).length === 0,
    'an interrupted run is taken up': removedBy(planOf(interrupted)).every((name) => gone.has(name)),
    [`more ${rule} removes no more`]: !hasRule || goneWithMore.every((name) => gone.has(name)),
    'each has one decision with a reason':
      plan.decisions.length === blobs.length && plan.decisions.every(({ reasons }) => reasons.length > 0),
  };
  const broken = Object.entries(promises).flatMap(([promise, isHeld]) => (isHeld ? [] : [promise]));
  return { removals: removed.length, broken };
}

function same(a: readonly string[], b: readonly string[]): boolean {
  return a.join() === b.join();
}

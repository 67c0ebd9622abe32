import type { RetentionRules } from '../../src/config/config.ts';
import type { MarkBlob } from '../../src/snapshot/marks.ts';
import { nameOf, recordOf } from './catalogue.ts';
import { DEFECTS, type Metadata, withDefect } from './defects.ts';
import type { Random } from './random.ts';

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const YEAR = 365 * DAY;

/** A blob as the service lists it. */
export interface RawBlob {
  readonly name: string;
  readonly etag: string;
  readonly size: number;
  readonly storedAt: Date;
  readonly metadata: Metadata;
  /** What the one who made it knows of it: of which cluster it is a snapshot, or that it is none. */
  readonly clusterId: string | undefined;
  readonly takenAt: Date;
}

export interface RandomCatalogue {
  readonly prefix: string;
  readonly blobs: readonly RawBlob[];
  readonly marks: readonly MarkBlob[];
  /** Names of the blobs that the marks keep, as the one who made them knows it. */
  readonly kept: ReadonlySet<string>;
  /** What the clock of the run says. */
  readonly now: Date;
  /** The blob that the run has stored and read back; undefined where it only prunes. */
  readonly fresh: RawBlob | undefined;
  /** Of this cluster, its own first. */
  readonly clusterIds: readonly string[];
  readonly rules: RetentionRules;
}

/** When all of it happens, by a clock that is right, such as that of the service. */
export const TODAY = Date.UTC(2026, 10, 24, 13);

/**
 * What a container can hold: snapshots of this cluster, of its earlier life (c0) and of another cluster (c2), taken by hosts
 * whose clocks are right, off by minutes or off by years; copies of them; forged records; and what is nobody's.
 */
export function randomCatalogue(random: Random): RandomCatalogue {
  const prefix = random.of(['', 'prod', 'prod/', 'a/b']);
  const snapshots = randomSnapshots(random, prefix);
  const isBackup = random.below(2) === 0;
  const off = clockError(random);
  const now = new Date(TODAY + off);
  const fresh = isBackup ? makeSnapshot(random, prefix, 'c1', now, new Date(TODAY)) : undefined;
  const taken = fresh === undefined ? snapshots : [...snapshots.filter(({ name }) => name !== fresh.name), fresh];
  const others = Array.from({ length: random.below(15) }, () => forge(random, prefix, taken, fresh));
  const blobs = new Map([...taken, ...others.flat()].map((blob) => [blob.name, blob]));
  // No forgery takes the place of a snapshot.
  for (const blob of taken) blobs.set(blob.name, blob);
  const catalogue = {
    ...{ prefix, now, fresh, rules: randomRules(random) },
    blobs: shuffled(random, [...blobs.values()]),
    clusterIds: random.of([['c1'], ['c1', 'c0']]),
  };
  const marked = random.below(2) === 0 ? [] : taken.filter(() => random.below(4) === 0);
  const histories = marked.map((blob) => randomMarks(random, prefix, blob));
  return {
    ...catalogue,
    marks: shuffled(
      random,
      histories.flatMap(({ marks }) => marks),
    ),
    kept: new Set(histories.flatMap(({ isKept }, index) => (isKept ? (marked[index]?.name ?? []) : []))),
  };
}

/** Up to two years with gaps, and now and then several in the same minutes, as of hosts that do not know of each other. */
function randomSnapshots(random: Random, prefix: string): RawBlob[] {
  const step = random.of([10 * SECOND, MINUTE, HOUR / 3, HOUR, 6 * HOUR, DAY, 5 * DAY]);
  let at = TODAY - SECOND;
  const blobs = new Map<string, RawBlob>();
  for (let left = random.below(60); left > 0; left--) {
    at -= random.below(20) === 0 ? random.below(60) * DAY : random.below(2 * step);
    const clusterId = random.of(['c1', 'c1', 'c1', 'c0', 'c2']);
    const takenAt = new Date(at + (random.below(4) === 0 ? clockError(random) : 0));
    // A container that was copied has dates of its own.
    const storedAt = new Date(
      random.below(10) === 0 ? TODAY - random.below(5) * SECOND : at + random.below(10) * SECOND,
    );
    const blob = makeSnapshot(random, prefix, clusterId, takenAt, storedAt);
    if (!blobs.has(blob.name)) blobs.set(blob.name, blob);
  }
  return [...blobs.values()];
}

/** Milliseconds: none, around the five minutes that are tolerated, or up to ten years. */
function clockError(random: Random): number {
  const sign = random.of([-1, 1]);
  switch (random.below(4)) {
    case 0:
      return sign * (5 * MINUTE + random.of([-2, -1, 0, 1, 2]) * SECOND);
    case 1:
      return sign * random.below(10) * MINUTE;
    case 2:
      return sign * random.below(10 * 365) * DAY;
    default:
      return 0;
  }
}

function makeSnapshot(random: Random, prefix: string, clusterId: string, takenAt: Date, storedAt: Date): RawBlob {
  const record = recordOf(takenAt);
  const metadata = { ...record, clusterid: clusterId, uploadid: random.bytes(16).toString('hex') };
  return {
    ...{ name: `${prefix}${nameOf(takenAt)}`, etag: etagOf(random), size: Number(record['totalsize']) + 32 },
    ...{ storedAt, metadata, clusterId, takenAt },
  };
}

/** What people said of a snapshot, one thing after the other, and what others stored that counts for nothing. */
function randomMarks(random: Random, prefix: string, { name }: RawBlob): { marks: MarkBlob[]; isKept: boolean } {
  const snapshot = name.slice(prefix.length);
  const folder = `${prefix}etcd-snapshot-marks/`;
  const markAt = (at: number, fields: object, storedAt = at): MarkBlob => ({
    ...{ kind: 'mark', name: `${folder}${random.bytes(8).toString('hex')}.json`, storedAt: new Date(storedAt) },
    fields: { at: new Date(at).toISOString(), snapshot, ...fields },
    signature: undefined,
  });
  let isKept = false;
  let at = TODAY - random.below(100) * DAY - HOUR;
  const marks: MarkBlob[] = [];
  for (let left = 1 + random.below(3); left > 0; left--) {
    // Several things can be said within a second of the service's clock.
    at += random.of([1, 1, SECOND, MINUTE]);
    const until = [undefined, TODAY - SECOND, TODAY + DAY][random.below(3)];
    const isRelease = random.below(3) === 0;
    isKept = !isRelease && (until === undefined || until > TODAY);
    const keep = { what: 'keep', ...(until !== undefined && { until: new Date(until).toISOString() }), note: 'a%20b' };
    marks.push(markAt(at, isRelease ? { what: 'release' } : keep));
  }
  const release = { what: 'release' };
  const worthless = [
    markAt(at + HOUR, release, at),
    markAt(at + 1, { what: 'keep', until: 'tomorrow' }),
    markAt(at + 1, { ...release, note: '%' }),
    markAt(at + 1, { ...release, note: 'x'.repeat(201) }),
    markAt(at + 1, { ...release, snapshot: `x/${snapshot}` }),
    { ...markAt(at + 1, release), kind: 'drill' },
    { ...markAt(at + 1, release), signature: { state: 'bad', keyId: null } as const },
  ];
  return { marks: [...marks, ...worthless.filter(() => random.below(4) === 0)], isKept };
}

function etagOf(random: Random): string {
  return `0x8D${random.bytes(6).toString('hex').toUpperCase()}`;
}

/** One blob that is no snapshot, mostly one that wants to be taken for the newest, or for one of those that are there. */
function forge(random: Random, prefix: string, taken: readonly RawBlob[], fresh: RawBlob | undefined): RawBlob[] {
  const storedAt = new Date(TODAY - random.below(1000) * SECOND);
  const takenAt = new Date(TODAY - random.of([0, 1, 2, HOUR, YEAR]) * random.below(60) * SECOND);
  const model = makeSnapshot(random, prefix, 'c1', takenAt, storedAt);
  const forged = { ...model, clusterId: undefined };
  const [defect = {}] = [DEFECTS.get(random.of([...DEFECTS.keys()]))];
  const original = taken.length === 0 ? undefined : random.of(taken);
  const later = new Date(Math.max(original?.storedAt.getTime() ?? 0, storedAt.getTime()) + SECOND);
  switch (random.below(8)) {
    case 0:
      return [{ ...forged, size: random.of([0, 1, 32, model.size - 1, model.size + 1, model.size * 2]) }];
    case 1:
      return [{ ...forged, name: `${model.name}x` }];
    case 2:
      return [{ ...forged, name: `${prefix}${nameOf(new Date(takenAt.getTime() + random.of([-1, 1]) * SECOND))}` }];
    case 3:
      return [{ ...forged, name: `${prefix}${random.of(['-eu/', 'x/', 'kube', '/'])}${nameOf(takenAt)}` }];
    case 4:
      return [{ ...forged, metadata: random.of<Metadata>([{}, { ...model.metadata, tool: 'azcopy', uploadid: '' }]) }];
    case 5:
      // A copy keeps its metadata, under whatever name.
      return original === undefined
        ? []
        : [{ ...original, clusterId: undefined, name: `${original.name}.bak`, storedAt }];
    case 6: {
      if (original === undefined) return [];
      // One upload id cannot be two snapshots, even where the rest fits; what was just stored is the original in any case.
      const metadata = { ...model.metadata, uploadid: original.metadata['uploadid'] ?? '' };
      return [{ ...forged, metadata, storedAt: original === fresh ? storedAt : later }];
    }
    default:
      return [{ ...forged, metadata: withDefect(model.metadata, defect) }];
  }
}

export function randomRules(random: Random): RetentionRules {
  const count = (most: number): number | undefined => (random.below(3) > 0 ? undefined : 1 + random.below(most));
  return {
    last: random.below(3) === 0 ? 1 : count(20),
    hourly: count(30),
    daily: count(20),
    weekly: count(10),
    monthly: count(12),
    yearly: count(3),
    within: random.below(4) > 0 ? undefined : 3600 * (1 + random.below(1000)),
  };
}

export function shuffled<T>(random: Random, items: readonly T[]): T[] {
  return items
    .map((item) => ({ item, key: random.below(1e9) }))
    .toSorted((a, b) => a.key - b.key)
    .map(({ item }) => item);
}

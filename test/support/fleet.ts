import { clusterOf, type Cluster, type Expectations, unreachable } from '../../src/report/facts.ts';
import { takeInventory, withBundles } from '../../src/snapshot/inventory.ts';
import { type StoredBlob, storedBlob } from '../../src/store/catalogue.ts';
import type { DrillNote } from '../../src/store/drill-notes.ts';
import { nameOf, recordOf } from './catalogue.ts';

export const HOUR = 3_600_000;
export const DAY = 24 * HOUR;

/** The moment of the reports. */
export const NOW = new Date('2026-11-24T13:00:00Z');

interface Wanted {
  readonly prefix?: string;
  /** Metadata besides the usual. */
  readonly metadata?: Readonly<Record<string, string | undefined>>;
  readonly name?: string;
  /** When it was stored, if not when it was taken. */
  readonly storedAt?: Date;
}

/** A blob as a listing returns it, taken so many milliseconds ago. */
export function blob(ago: number, { prefix = '', metadata = {}, name, storedAt }: Wanted = {}): StoredBlob {
  const takenAt = new Date(NOW.getTime() - ago);
  const fields = Object.entries({ ...recordOf(takenAt), ...metadata }).filter(([, value]) => value !== undefined);
  const size = Number(metadata['storedsize'] ?? Number(metadata['totalsize'] ?? 4096) + 32);
  const properties = { contentLength: size, etag: 'e', createdOn: storedAt ?? takenAt };
  return storedBlob(prefix, `${prefix}${name ?? nameOf(takenAt)}`, Object.fromEntries(fields), properties);
}

/** So many blobs at a distance, the newest one distance ago. */
export function series(count: number, distance: number, wanted: Wanted = {}): StoredBlob[] {
  return Array.from({ length: count }, (_, index) => blob((index + 1) * distance, wanted));
}

export function drill(ago: number, recoveryMs = 12_300, snapshot = nameOf(NOW)): DrillNote {
  return { at: new Date(NOW.getTime() - ago), snapshot, recoveryMs };
}

const EXPECTATIONS: Expectations = {
  objective: undefined,
  drillWithin: 14 * DAY,
  hasStrip: true,
  retention: {
    rules: Object.fromEntries(
      ['last', 'hourly', 'daily', 'weekly', 'monthly', 'yearly', 'within'].map((rule) => [rule, undefined]),
    ) as never,
    previousClusterIds: [],
  },
};

/** What a report says of a cluster with these blobs. */
export function reported(
  name: string,
  blobs: readonly StoredBlob[],
  drills: readonly DrillNote[] = [drill(DAY)],
  expected: Partial<Expectations> = {},
): Cluster {
  const inventory = takeInventory('', withBundles(blobs));
  const bytes = blobs.reduce((sum, { size }) => sum + size, 0);
  const contents = { prefix: '', blobs: inventory, drills, bytes };
  const place = { name, account: 'backups', endpoint: 'https://backups.example', container: 'c', prefix: '' };
  return clusterOf(place, contents, { policy: true, legalHold: false }, { ...EXPECTATIONS, ...expected }, NOW);
}

export function unread(name: string): Cluster {
  const place = { name, account: 'backups', endpoint: 'https://backups.example', container: 'c', prefix: '' };
  return unreachable(place, 'Container c does not exist in account backups. [ContainerNotFound, request 4711]');
}

import { createHash } from 'node:crypto';
import { nameOfSize } from './bench.ts';
import { GB, markdown, MB, MIB } from './figures.ts';

const CLUSTERS = 10_000;
const RUNS_A_DAY = 4;
const DAYS_A_MONTH = 30;
/** Snapshots that retention keeps of each cluster: a week of every run. */
const KEPT = 28;
const SIZES = [3 * MB, 200 * MB, 2 * GB];

/** What the worker does: see src/store/upload.ts, download.ts and catalogue.ts. */
const BLOCK = 8 * MIB;
const RANGE = 2 * MIB;
const PAGE = 500;

/** Bytes per second that one cluster's line carries, either way. */
const LINE = 25 * MB;

/** What Azure documents for a standard account, by default and in its larger regions. */
const REQUESTS_A_SECOND = 20_000;
const INGRESS_GBPS = 25;

/** Minutes over which the starts of all runs are spread. */
const SPREADS = [0, 10, 30, 60, 360];

interface Requests {
  readonly writes: number;
  readonly reads: number;
  readonly lists: number;
  readonly deletes: number;
}

/** Of one backup whose retention removes as many snapshots as are added. */
function requestsOf(size: number): Requests {
  return {
    writes: size <= BLOCK ? 1 : Math.ceil(size / BLOCK) + 1,
    reads: 1 + Math.ceil(size / RANGE),
    lists: Math.ceil((KEPT + 1) / PAGE),
    deletes: 1,
  };
}

interface Load {
  /** Requests. */
  readonly requests: number;
  /** Gigabits in the same second. */
  readonly ingress: number;
  readonly egress: number;
}

/**
 * The busiest second of a day: every cluster starts at a minute of the spread that a hash of its name says, for
 * schedules know no seconds, uploads with the
 * speed of its line, and reads back with the same.
 */
function busiestSecond(size: number, minutes: number): Load {
  const transfer = Math.ceil(size / LINE);
  const { writes, reads, lists, deletes } = requestsOf(size);
  const seconds = minutes * 60 + 2 * transfer;
  const [requests, ingress, egress] = [0, 0, 0].map(() => new Float64Array(seconds + 1));
  if (requests === undefined || ingress === undefined || egress === undefined) throw new Error('no room');
  for (let cluster = 0; cluster < CLUSTERS; cluster++) {
    const start = minutes === 0 ? 0 : 60 * offsetOf(`cluster-${cluster}`, minutes);
    for (let second = 0; second < transfer; second++) {
      add(ingress, start + second, size / transfer);
      add(requests, start + second, writes / transfer);
      add(egress, start + transfer + second, size / transfer);
      add(requests, start + transfer + second, (reads - 1) / transfer);
    }
    add(requests, start, 1);
    add(requests, start + 2 * transfer, lists + deletes);
  }
  return { requests: Math.max(...requests), ingress: gigabits(ingress), egress: gigabits(egress) };
}

function add(to: Float64Array, at: number, amount: number): void {
  to[at] = (to[at] ?? 0) + amount;
}

/** Of the busiest second. */
function gigabits(bytes: Float64Array): number {
  return (Math.max(...bytes) * 8) / 1e9;
}

function offsetOf(name: string, minutes: number): number {
  return createHash('sha256').update(name).digest().readUInt32BE() % minutes;
}

function rounded(value: number): string {
  return value < 10 ? value.toFixed(1) : Math.round(value).toLocaleString('en');
}

/** What so many clusters ask of Azure, as Markdown tables. */
export function scaleReport(): string {
  const runs = CLUSTERS * RUNS_A_DAY * DAYS_A_MONTH;
  const millions = (value: number): string => `${rounded((value * runs) / 1e6)} M`;
  const perRun = SIZES.map((size) => {
    const { writes, reads, lists, deletes } = requestsOf(size);
    return [nameOfSize(size), ...[writes, reads, lists, deletes].map(String)];
  });
  const perMonth = SIZES.map((size) => {
    const { writes, reads, lists, deletes } = requestsOf(size);
    const stored = (size * KEPT * CLUSTERS) / GB;
    const moved = (size * CLUSTERS * RUNS_A_DAY) / GB;
    return [nameOfSize(size), ...[writes, reads, lists, deletes].map(millions), rounded(stored), rounded(moved)];
  });
  const peaks = SIZES.flatMap((size) =>
    SPREADS.map((minutes) => {
      const { requests, ingress, egress } = busiestSecond(size, minutes);
      const accounts = Math.ceil(Math.max(requests / REQUESTS_A_SECOND, ingress / INGRESS_GBPS));
      const spread = minutes === 0 ? 'none' : `${minutes} min`;
      return [nameOfSize(size), spread, rounded(requests), rounded(ingress), rounded(egress), String(accounts)];
    }),
  );
  const operations = ['writes', 'reads', 'lists', 'deletes'];
  const peakColumns = ['spread', 'requests/s', 'Gbit/s in', 'Gbit/s out', 'accounts'];
  return [
    markdown('Requests of one run', ['snapshot', ...operations], perRun),
    markdown(
      `A month of ${rounded(CLUSTERS)} clusters, ${RUNS_A_DAY} runs a day, ${KEPT} snapshots kept of each`,
      ['snapshot', ...operations, 'GB stored', 'GB a day, in and out'],
      perMonth,
    ),
    markdown('The busiest second, and the standard accounts that it takes', ['snapshot', ...peakColumns], peaks),
  ].join('\n\n');
}

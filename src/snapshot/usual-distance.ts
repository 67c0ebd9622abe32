/** How far apart snapshots usually are. */
interface Usual {
  /** How many distances count, of the newest ones. */
  readonly last: number;
  /** With fewer distances there is no median. */
  readonly fewest: number;
  /** Milliseconds, where there is no median. */
  readonly fallback: number;
  /** The shortest one, in milliseconds: snapshots that are taken by hand, one after the other, do not make a schedule. */
  readonly least: number;
}

/** The median of distances, in milliseconds. @param distances between snapshots, the newest first */
export function usualDistance(distances: readonly number[], { last, fewest, fallback, least }: Usual): number {
  const sorted = distances.slice(0, last).toSorted((a, b) => a - b);
  const median = sorted[sorted.length >> 1];
  return distances.length < fewest || median === undefined ? fallback : Math.max(least, median);
}

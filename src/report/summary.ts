import type { Cluster, State } from './facts.ts';

/** What a report says. Times are milliseconds since 1970, durations milliseconds. */
export interface Report {
  /** The worst first. */
  readonly clusters: readonly Cluster[];
  readonly generatedAt: number;
  /** Undefined = the usual distance of each cluster. */
  readonly objective: number | undefined;
  readonly drillWithin: number;
  /** Of an account: containers without a snapshot, and those that the identity cannot list. */
  readonly otherContainers: readonly string[] | undefined;
  /** Of this program. */
  readonly version: string;
}

/** How many clusters there are in a state. */
export function count(clusters: readonly Cluster[], ...states: readonly State[]): number {
  return clusters.filter(({ state }) => states.includes(state)).length;
}

/** As people read it. */
export function stateText(state: State): string {
  return state.replace('-', ' ');
}

/** The result in one line. */
export function summaryOf({ clusters }: Report): string {
  const parts = [
    [count(clusters, 'ok'), 'ok'],
    [count(clusters, 'not-drilled'), 'not drilled'],
    [count(clusters, 'late'), 'late'],
    [count(clusters, 'invalid'), 'with an invalid newest snapshot'],
    [count(clusters, 'unreachable'), 'unreachable'],
  ] as const;
  const counts = parts.filter(([number]) => number > 0).map(([number, what]) => `${number} ${what}`);
  return `${clusters.length} cluster${clusters.length === 1 ? '' : 's'}: ${counts.join(', ')}`;
}

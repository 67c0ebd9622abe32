/** Whether the figures meet their goals. */
import { markdown, median, spread } from './figures.ts';

export interface Target {
  readonly what: string;
  readonly goal: number;
  /** The figure in each round. */
  readonly rounds: readonly number[];
  /** What is judged, where it is not their median. */
  readonly judged?: number;
  /** Digits behind the point. */
  readonly digits?: number;
  /** In each round, what the figure would be if all processors had worked all the time: no balance of the work makes it less. */
  readonly floor?: readonly number[];
  /** The options of `npm run bench` that measure it alone. */
  readonly command: string;
}

/** What a section has to show. */
export interface Report {
  readonly tables: readonly string[];
  readonly targets: readonly Target[];
}

export function targetTable(targets: readonly Target[]): string {
  const rows = targets.map(({ what, goal, rounds, judged = median(rounds), digits = 2, floor, command }) => [
    what,
    `≤ ${goal.toFixed(digits)}`,
    spread(rounds, digits, judged),
    judged <= goal ? 'met' : '**not met**',
    floor === undefined ? '' : median(floor).toFixed(digits),
    `\`npm run bench -- ${command}\``,
  ]);
  return markdown('Goals', ['', 'goal', 'measured', '', 'floor', 'measured by'], rows);
}

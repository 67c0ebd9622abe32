/** Whether the figures keep what they were meant to keep, and whether the run before gave the same. */
import { markdown, median, spread } from './figures.ts';

/** What the bench is for: a limit that a figure must keep. */
export interface Target {
  readonly what: string;
  readonly limit: number;
  /** The figure in each round. */
  readonly rounds: readonly number[];
  /** What is judged, where it is not their median. */
  readonly judged?: number;
  /** Digits behind the point. */
  readonly digits?: number;
}

/** What a section has to show. */
export interface Report {
  readonly tables: readonly string[];
  readonly targets: readonly Target[];
}

/** What an earlier run measured: when, and the cells of its table of targets by what they are about. */
export interface EarlierRun {
  readonly when: string;
  readonly measured: ReadonlyMap<string, string>;
}

/** @param earlier undefined = there was none */
export function targetTable(targets: readonly Target[], earlier: EarlierRun | undefined): string {
  const rows = targets.map(({ what, limit, rounds, judged = median(rounds), digits = 2 }) => {
    const measured = spread(rounds, digits, judged);
    const before = earlier?.measured.get(what) ?? '–';
    const verdict = judged <= limit ? 'met' : '**not met**';
    return [what, `≤ ${limit.toFixed(digits)}`, measured, verdict, before, comparison(measured, before)];
  });
  const heading = earlier === undefined ? 'no run before' : `the run before, ${earlier.when}`;
  return markdown('Targets', ['', 'limit', 'measured', '', heading, 'the same'], rows);
}

/** What the tables of a run say that was made before. Undefined where they have no targets. */
export function earlierRun(tables: string): EarlierRun | undefined {
  const [, when] = /^Measured on (.+?): /m.exec(tables) ?? [];
  const [, rows] = tables.split('**Targets**');
  if (when === undefined || rows === undefined) return undefined;
  const cells = rows.split('\n').map((row) => row.split('|').map((cell) => cell.trim()));
  return { when, measured: new Map(cells.map(([, what = '', , measured = '']) => [what, measured])) };
}

/** Two runs give the same when their spreads have something in common; of a single round nobody knows the spread. */
function comparison(one: string, other: string): string {
  const [a, b] = [spreadOf(one), spreadOf(other)];
  if (a === undefined || b === undefined) return '–';
  return a.least <= b.greatest && b.least <= a.greatest ? 'yes' : '**no**';
}

/** Of a cell like `1.30 (1.22–1.41)`. */
function spreadOf(cell: string): { least: number; greatest: number } | undefined {
  const [, least, greatest] = /\((-?[\d.]+)–(-?[\d.]+)\)/.exec(cell) ?? [];
  return least === undefined ? undefined : { least: Number(least), greatest: Number(greatest) };
}

/** Numbers of several rounds, and how they stand in a table. */

export function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const [low = NaN, high = NaN] = [sorted[middle - 1], sorted[middle]];
  return sorted.length % 2 === 0 ? (low + high) / 2 : high;
}

/** The value below which this share of the numbers lies. */
export function quantile(numbers: readonly number[], share: number): number {
  return numbers.toSorted((a, b) => a - b)[Math.ceil(numbers.length * share) - 1] ?? NaN;
}

/** Median, and in brackets the least and the greatest. */
export function spread(numbers: readonly number[], digits = 2): string {
  const told = [median(numbers), Math.min(...numbers), Math.max(...numbers)].map((number) => number.toFixed(digits));
  return numbers.length === 1 ? String(told[0]) : `${told[0]} (${told[1]}–${told[2]})`;
}

/** The median of what one has for what the other has, round by round: what disturbs one round disturbs both. */
export function ratio(numbers: readonly number[], base: readonly number[]): number {
  return median(numbers.map((number, round) => number / (base[round] ?? NaN)));
}

export function markdown(title: string, columns: readonly string[], rows: readonly (readonly string[])[]): string {
  const ruler = line(columns.map((_, index) => (index === 0 ? '---' : '---:')));
  return [`**${title}**`, '', line(columns), ruler, ...rows.map(line)].join('\n');
}

function line(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`;
}

/** What the bench is for: a limit that a figure must keep. */
export interface Target {
  readonly what: string;
  readonly limit: number;
  readonly measured: number;
  /** Digits behind the point. */
  readonly digits?: number;
}

export function targetTable(targets: readonly Target[]): string {
  const rows = targets.map(({ what, limit, measured, digits = 2 }) => [
    what,
    `≤ ${limit.toFixed(digits)}`,
    measured.toFixed(digits),
    measured <= limit ? 'met' : '**not met**',
  ]);
  return markdown('Targets', ['', 'limit', 'measured', ''], rows);
}

/** What a section has to show. */
export interface Report {
  readonly tables: readonly string[];
  readonly targets: readonly Target[];
}

export const MB = 1e6;
export const GB = 1e9;
export const MIB = 1024 * 1024;

/** Bytes of `3MB` or `2GB`. @throws Error */
export function bytesOf(text: string): number {
  const [, amount = '', unit = ''] = /^(\d+(?:\.\d+)?)(MB|GB)$/.exec(text) ?? [];
  if (amount === '') throw new Error(`${text}: sizes are written 240MB or 2GB`);
  return Number(amount) * (unit === 'GB' ? 1000 : 1) * MB;
}

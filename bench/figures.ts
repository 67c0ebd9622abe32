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

/** The median, or what else stands for all of them, and in brackets the least and the greatest. */
export function spread(numbers: readonly number[], digits = 2, figure = median(numbers)): string {
  const [told, least, greatest] = [figure, Math.min(...numbers), Math.max(...numbers)].map((n) => n.toFixed(digits));
  return numbers.length === 1 ? String(told) : `${told} (${least}–${greatest})`;
}

/** What one has for what the other has, round by round: what disturbs one round disturbs both. */
export function ratios(numbers: readonly number[], base: readonly number[]): number[] {
  return numbers.map((number, round) => number / (base[round] ?? NaN));
}

export function markdown(title: string, columns: readonly string[], rows: readonly (readonly string[])[]): string {
  const ruler = line(columns.map((_, index) => (index === 0 ? '---' : '---:')));
  return [`**${title}**`, '', line(columns), ruler, ...rows.map(line)].join('\n');
}

function line(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`;
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

/** Text tables as etcdctl draws them: headings centred, cells to the right, but those of `textColumns` to the left. */
export function drawTable(
  headings: readonly string[],
  rows: readonly (readonly string[])[],
  textColumns: readonly string[] = [],
): string {
  const widths = headings.map((heading, column) =>
    Math.max(heading.length, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  const rule = `+${widths.map((width) => '-'.repeat(width + 2)).join('+')}+`;
  const line = (cells: readonly string[], pad: (cell: string, width: number, heading: string) => string): string =>
    `|${widths.map((width, column) => ` ${pad(cells[column] ?? '', width, headings[column] ?? '')} `).join('|')}|`;
  const body = rows.map((row) =>
    line(row, (cell, width, heading) => (textColumns.includes(heading) ? cell.padEnd(width) : cell.padStart(width))),
  );
  return [rule, line(headings, centred), rule, ...body, rule].join('\n');
}

function centred(text: string, width: number): string {
  return text.padStart(text.length + Math.floor((width - text.length) / 2)).padEnd(width);
}

/** Bytes in decimal units with one decimal below ten of a unit, as etcdctl shows sizes: `278 kB`, `3.1 MB`. */
export function humanSize(bytes: number): string {
  if (bytes < 10) return `${bytes} B`;
  const exponent = Math.floor(Math.log10(bytes) / 3);
  const value = Math.floor((bytes / 1000 ** exponent) * 10 + 0.5) / 10;
  return `${value.toFixed(value < 10 ? 1 : 0)} ${['B', 'kB', 'MB', 'GB', 'TB', 'PB'][exponent]}`;
}

/** With one decimal: `12.3 s`. */
export function humanSeconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

/** The largest unit that is full, as in `3d`, `17h`, `5m`, `40s`. */
export function humanAge(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds >= 2 * 86_400) return `${Math.floor(seconds / 86_400)}d`;
  if (seconds >= 2 * 3600) return `${Math.floor(seconds / 3600)}h`;
  if (seconds >= 2 * 60) return `${Math.floor(seconds / 60)}m`;
  return `${seconds}s`;
}

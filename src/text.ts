/** Text tables as etcdctl draws them: headings centred, cells to the right, those of `textColumns` to the left. */
export function drawTable(
  headings: readonly string[],
  data: readonly (readonly string[])[],
  textColumns: readonly string[] = [],
): string {
  const rows = data.map((row) => row.map(printable));
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

/** The table of `etcdctl snapshot status -w table`; a dash for what could not be computed. */
export function statusTable(status: {
  readonly hash: string | null;
  readonly revision: number | null;
  readonly totalKeys: number | null;
  readonly totalSize: number | null;
}): string {
  const { hash, revision, totalKeys, totalSize } = status;
  const size = totalSize === null ? '-' : humanSize(totalSize);
  const cells = [hash ?? '-', String(revision ?? '-'), String(totalKeys ?? '-'), size];
  return drawTable(['HASH', 'REVISION', 'TOTAL KEYS', 'TOTAL SIZE'], [cells]);
}

/** Columns of tables for people, where the data allow. */
const TABLE_WIDTH = 100;

/** Columns that the last cell of a row keeps, however long the others are. */
const LEAST_LAST = 30;

/** Colours of the cells in the columns STATE and HEALTH. */
const STATE_COLOURS: ReadonlyMap<string, Colour> = new Map([
  ...[['ok', 'green'] as const, ['warn', 'yellow'] as const, ['fail', 'red'] as const],
  ...[['healthy', 'green'] as const, ['unhealthy', 'yellow'] as const, ['unreachable', 'red'] as const],
  ...[['not drilled', 'yellow'] as const, ['late', 'red'] as const, ['invalid', 'red'] as const],
]);

/**
 * Columns two spaces apart, as kubectl and restic align them: numbers to the right, text to the left. The last column wraps.
 * @param numbers headings of the columns that are aligned to the right
 */
export function alignColumns(
  headings: readonly string[],
  data: readonly (readonly string[])[],
  numbers: readonly string[] = [],
): string {
  const rows = [headings, ...data.map((row) => row.map(printable))];
  const widths = headings.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const indent = widths.slice(0, -1).reduce((sum, width) => sum + width + 2, 0);
  const lines: string[] = [];
  for (const row of rows) {
    const cells = row.slice(0, -1).map((cell, column) => {
      const width = widths[column] ?? 0;
      const heading = headings[column] ?? '';
      const padded = numbers.includes(heading) ? cell.padStart(width) : cell.padEnd(width);
      return /^(STATE|HEALTH)$/.test(heading) ? paint(STATE_COLOURS.get(cell), padded) : padded;
    });
    const [first = '', ...more] = wrap(row.at(-1) ?? '', Math.max(LEAST_LAST, TABLE_WIDTH - indent));
    const last = numbers.includes(headings.at(-1) ?? '') ? first.padStart(widths.at(-1) ?? 0) : first;
    lines.push([...cells, last].join('  ').trimEnd());
    for (const line of more) lines.push(`${' '.repeat(indent)}${line}`);
  }
  return lines.join('\n');
}

/** A paragraph in lines as wide as a table. */
export function paragraph(text: string): string {
  return wrap(text, TABLE_WIDTH).join('\n');
}

export type Colour = 'green' | 'yellow' | 'red';

/*
 * A colour is a private character before and after the text until the output is known: what comes from outside has gone
 * through `printable`, which lets none of them pass.
 */
const COLOURS: Readonly<Record<Colour, { readonly mark: string; readonly ansi: string }>> = {
  green: { mark: '\ue001', ansi: '\u001b[32m' },
  yellow: { mark: '\ue002', ansi: '\u001b[33m' },
  red: { mark: '\ue003', ansi: '\u001b[31m' },
};
const COLOUR_END = { mark: '\ue000', ansi: '\u001b[0m' };

export function paint(colour: Colour | undefined, text: string): string {
  return colour === undefined ? text : `${COLOURS[colour].mark}${text}${COLOUR_END.mark}`;
}

/** Text that `paint` was used on, for a terminal that shows colours or for anything else. @param clean for the text itself */
export function withColours(text: string, isColoured: boolean, clean: (text: string) => string): string {
  const all = [...Object.values(COLOURS), COLOUR_END];
  return text
    .split(/([\ue000-\ue003])/)
    .map((part, index) => {
      if (index % 2 === 0) return clean(part);
      return isColoured ? all.find(({ mark }) => mark === part)?.ansi : '';
    })
    .join('');
}

/** Bytes in decimal units with one decimal below ten of a unit, as etcdctl shows sizes: `278 kB`, `3.1 MB`. */
export function humanSize(bytes: number): string {
  if (bytes < 10) return `${bytes} B`;
  const exponent = Math.floor(Math.log10(bytes) / 3);
  const value = Math.floor((bytes / 1000 ** exponent) * 10 + 0.5) / 10;
  return `${value.toFixed(value < 10 ? 1 : 0)} ${['B', 'kB', 'MB', 'GB', 'TB', 'PB'][exponent]}`;
}

/** A sentence of ours after a colon: in lower case, except for names. */
export function afterColon(sentence: string): string {
  const isName = /^(Azure|Entra|Node)\b/.test(sentence);
  return isName ? sentence : sentence.replace(/^[A-Z](?=[a-z]* )/, (letter) => letter.toLowerCase());
}

/** `3 snapshots`, `1 snapshot`. */
export function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}

/** The first texts of a list, and how many more there are. */
export function firstOf(texts: readonly string[], most: number): string[] {
  return texts.length > most ? [...texts.slice(0, most), `and ${texts.length - most} more`] : [...texts];
}

/** With one decimal: `12.3 s`. */
export function humanSeconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

/** The largest unit that is full, but hours up to two days: `3d`, `17h`, `5m`, `40s`. */
export function humanAge(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds >= 2 * 86_400) return `${Math.floor(seconds / 86_400)}d`;
  if (seconds >= 3600) return `${Math.floor(seconds / 3600)}h`;
  if (seconds >= 60) return `${Math.floor(seconds / 60)}m`;
  return `${seconds}s`;
}

/** The two largest units: `3d 4h`, `6h 20m`, `6h`, `40s`. */
export function humanSpan(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  const parts = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'm'],
    [seconds % 60, 's'],
  ] as const;
  const first = parts.findIndex(([count]) => count > 0);
  if (first < 0) return '0s';
  return parts
    .slice(first, first + 2)
    .flatMap(([count, unit]) => (count > 0 ? `${count}${unit}` : []))
    .join(' ');
}

/**
 * Text that does not come from this program, safe for a terminal: control characters, line feeds, characters that change the
 * direction of writing and those without a shape become `\u{…}`. Names of blobs and members, and every answer of a server,
 * can have any of them.
 */
export function printable(text: string): string {
  return text.replaceAll(UNPRINTABLE, escaped);
}

/** The same for whole output: its line feeds are of this program. Its parts have gone through `printable` before. */
export function printableLines(text: string): string {
  return text.split('\n').map(printable).join('\n');
}

/** The same for a part of a sentence: at most so many characters of it. */
export function excerpt(text: string, max = 300): string {
  return printable(text.slice(0, max)) + (text.length > max ? '…' : '');
}

/** Besides control characters also what has no width on a terminal, such as zero-width characters and fillers. */
export const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu;

function escaped(char: string): string {
  return `\\u{${(char.codePointAt(0) ?? 0).toString(16)}}`;
}

/** One word of a command line for a POSIX shell. A word that begins with a hyphen is still an option. */
export function quoteShell(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** An assignment for `Environment=` in a systemd unit, with its quotes; `$` has no meaning there. */
export function quoteSystemd(assignment: string): string {
  return `"${assignment.replaceAll(/["\\]/g, '\\$&').replaceAll('%', '%%')}"`;
}

/** Text in which the URLs have neither user nor query: those can be secrets, such as the signature of a SAS token. */
export function withoutQuery(text: string): string {
  return text.replace(/([a-z][a-z0-9+.-]*:\/\/)([^\s/?#]*@)?([^\s?#]*)([?#]\S*)?/gi, '$1$3');
}

/** The word of a list that a misspelt one most likely means: it has this prefix, or few characters differ. */
export function nearest(word: string, known: readonly string[], maxDistance = 2): string | undefined {
  const beginning = known.filter((name) => word.length > 3 && name.startsWith(word));
  if (beginning.length === 1) return beginning[0];
  if (word.length > 100) return undefined;
  const ranked = known.map((name) => ({ name, distance: editDistance(word, name) }));
  const [best] = ranked.toSorted((a, b) => a.distance - b.distance);
  return best !== undefined && best.distance <= maxDistance ? best.name : undefined;
}

/** Levenshtein's: how many characters must be inserted, deleted or replaced. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let i = 0; i < a.length; i++) {
    const next = [i + 1];
    for (let j = 0; j < b.length; j++) {
      next.push(Math.min((next[j] ?? 0) + 1, (row[j + 1] ?? 0) + 1, (row[j] ?? 0) + (a[i] === b[j] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

/** The words of a text in lines of at most so many characters, but for words that are longer. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= width) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines;
}

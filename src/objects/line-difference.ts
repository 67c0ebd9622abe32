/** Cells of the table of the longest common lines; texts that need more differ in one block. */
const MAX_CELLS = 4_000_000;

/** Lines around a difference. */
const CONTEXT = 3;

/** The lines that differ between two texts with three lines around each, marked with `-`, `+` and a space. */
export function differingLines(before: string, after: string): string[] {
  const marked = compare(before.split('\n'), after.split('\n'));
  const isNear = marked.map((_, at) =>
    marked.slice(Math.max(0, at - CONTEXT), at + CONTEXT + 1).some((line) => !line.startsWith(' ')),
  );
  return marked.flatMap((line, at) => {
    if (isNear[at] === true) return [line];
    return isNear[at - 1] === true && at < marked.length - 1 ? [' …'] : [];
  });
}

function compare(before: readonly string[], after: readonly string[]): string[] {
  let [start, end] = [0, 0];
  while (start < before.length && start < after.length && before[start] === after[start]) start++;
  while (
    end < Math.min(before.length, after.length) - start &&
    before[before.length - 1 - end] === after[after.length - 1 - end]
  ) {
    end++;
  }
  return [
    ...before.slice(0, start).map((line) => ` ${line}`),
    ...compareMiddle(before.slice(start, before.length - end), after.slice(start, after.length - end)),
    ...before.slice(before.length - end).map((line) => ` ${line}`),
  ];
}

function compareMiddle(before: readonly string[], after: readonly string[]): string[] {
  const width = after.length + 1;
  if (before.length * width > MAX_CELLS)
    return [...before.map((line) => `-${line}`), ...after.map((line) => `+${line}`)];
  // Length of the longest common part of what follows each pair of places.
  const common = new Uint32Array((before.length + 1) * width);
  const at = (row: number, column: number): number => common[row * width + column] ?? 0;
  for (let row = before.length - 1; row >= 0; row--) {
    for (let column = after.length - 1; column >= 0; column--) {
      common[row * width + column] =
        before[row] === after[column]
          ? at(row + 1, column + 1) + 1
          : Math.max(at(row + 1, column), at(row, column + 1));
    }
  }
  const lines: string[] = [];
  let [row, column] = [0, 0];
  while (row < before.length || column < after.length) {
    if (row < before.length && column < after.length && before[row] === after[column]) {
      lines.push(` ${before[row++]}`);
      column++;
    } else if (column >= after.length || (row < before.length && at(row + 1, column) >= at(row, column + 1))) {
      lines.push(`-${before[row++]}`);
    } else lines.push(`+${after[column++]}`);
  }
  return lines;
}

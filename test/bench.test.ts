import t from 'tap';
import { publishedTables } from '../bench/results-page.ts';
import { earlierRun, type Target, targetTable } from '../bench/verdicts.ts';

const targets: Target[] = [
  { what: 'quick', limit: 1, rounds: [0.9, 0.8, 1.1] },
  { what: 'small, MiB', limit: 160, rounds: [150, 161, 155], judged: 161, digits: 0 },
];

t.test('a figure is shown with its spread and compared with its limit', (t) => {
  t.strictSame(rowsOf(targetTable(targets, undefined)), [
    ['quick', '≤ 1.00', '0.90 (0.80–1.10)', 'met', '–', '–'],
    ['small, MiB', '≤ 160', '161 (150–161)', '**not met**', '–', '–'],
  ]);
  t.end();
});

t.test('two runs gave the same when their spreads meet', (t) => {
  const tables = (rounds: readonly number[]): string =>
    `Measured on 2026-01-31 10:20 UTC: 2 cores.\n\n${targetTable([{ what: 'quick', limit: 1, rounds }], undefined)}`;
  for (const [rounds, same] of [
    [[1.1, 1.2, 1.3], 'yes'],
    [[1.11, 1.2, 1.3], '**no**'],
    [[0.6, 0.7, 0.8], 'yes'],
    [[0.6, 0.7, 0.79], '**no**'],
    [[0.9], '–'],
  ] as const) {
    const earlier = earlierRun(tables(rounds));
    t.equal(earlier?.when, '2026-01-31 10:20 UTC');
    const [quick = [], small = []] = rowsOf(targetTable(targets, earlier));
    t.equal(quick.at(-1), same, `${rounds.join(', ')} before 0.9, 0.8, 1.1`);
    t.strictSame(small.slice(-2), ['–', '–'], 'what was not measured before');
  }
  t.end();
});

t.test('the published results can be read again', (t) => {
  const earlier = earlierRun(publishedTables());
  t.match(earlier?.when, /^\d{4}-\d\d-\d\d/);
  t.ok(earlier?.measured.has('`verify FILE`: wall / `etcdutl snapshot status`'));
  t.equal(earlierRun('no tables'), undefined);
  t.end();
});

function rowsOf(table: string): string[][] {
  const rows = table.split('\n').filter((row) => row.startsWith('|'));
  return rows.slice(2).map((row) =>
    row
      .slice(1, -1)
      .split('|')
      .map((cell) => cell.trim()),
  );
}

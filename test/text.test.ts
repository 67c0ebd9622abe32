import t from 'tap';
import { firstOf, afterColon, alignColumns, humanAge, paint, printableLines, withColours } from '../src/text.ts';

const HEADINGS = ['NAME', 'SIZE', 'WHY'];

t.test('columns are aligned, numbers to the right, and the last one wraps', (t) => {
  const why = Array.from({ length: 30 }, (_, index) => `daily-${index}`).join(', ');
  const rows = [
    ['a-long-name', '1.2 MB', 'newest'],
    ['b', '12 kB', why],
  ];
  const lines = alignColumns(HEADINGS, rows, ['SIZE']).split('\n');
  t.strictSame(lines.slice(0, 2), ['NAME           SIZE  WHY', 'a-long-name  1.2 MB  newest']);
  t.match(lines[2], /^b {13}12 kB {2}daily-0, daily-1,/);
  t.ok(lines.length > 4 && lines.slice(3).every((line) => /^ {21}daily-/.test(line)), lines.join('\n'));
  t.ok(lines.every((line) => line.length <= 100));
  t.end();
});

t.test('colours are for terminals, and what comes from outside has none', (t) => {
  const table = alignColumns(['STATE', 'WHAT'], [['ok', '\ue003red\u001b[31m']]);
  t.equal(withColours(table, false, printableLines), 'STATE  WHAT\nok     \\u{e003}red\\u{1b}[31m');
  t.equal(withColours(table, true, printableLines), 'STATE  WHAT\n\u001b[32mok   \u001b[0m  \\u{e003}red\\u{1b}[31m');
  t.equal(withColours(paint('red', 'x'), true, printableLines), '\u001b[31mx\u001b[0m');
  t.end();
});

t.test('ages in words', (t) => {
  const second = 1000;
  for (const [seconds, age] of [
    ...([
      [-5, '0s'],
      [59, '59s'],
      [114, '1m'],
      [3599, '59m'],
      [3600, '1h'],
      [47 * 3600, '47h'],
      [49 * 3600, '2d'],
    ] as const),
  ])
    t.equal(humanAge(seconds * second), age);
  t.end();
});

t.test('a sentence after a colon begins in lower case, a name does not', (t) => {
  for (const [sentence, shown] of [
    ['It was added.', 'it was added.'],
    ['A member answers.', 'a member answers.'],
    ['SNAPSHOT_TIMEOUT is over.', 'SNAPSHOT_TIMEOUT is over.'],
    ['Azure refused it.', 'Azure refused it.'],
    ['Entra ID refused it.', 'Entra ID refused it.'],
    ['', ''],
  ] as const) {
    t.equal(afterColon(sentence), shown);
  }
  t.end();
});

t.test('the first of a list, and how many more there are', async (t) => {
  t.strictSame(firstOf(['a', 'b'], 2), ['a', 'b']);
  t.strictSame(firstOf(['a', 'b', 'c', 'd'], 2), ['a', 'b', 'and 2 more']);
  t.strictSame(firstOf([], 2), []);
});

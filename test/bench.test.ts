import { spawn } from 'node:child_process';
import t from 'tap';
import { otherLoad } from '../bench/measure.ts';
import { keyOf, valueOf } from '../bench/objects.ts';
import { type Target, targetTable } from '../bench/verdicts.ts';

const targets: Target[] = [
  { what: 'quick', goal: 1, rounds: [0.9, 0.8, 1.1], command: '--sections quick', floor: [0.4, 0.5, 0.6] },
  { what: 'small, MiB', goal: 160, rounds: [150, 161, 155], judged: 161, digits: 0, command: '--sections small' },
];

t.test('a figure is shown with its spread, its goal, its floor and the command that measures it', (t) => {
  t.strictSame(rowsOf(targetTable(targets)), [
    ['quick', '≤ 1.00', '0.90 (0.80–1.10)', 'met', '0.50', '`npm run bench -- --sections quick`'],
    ['small, MiB', '≤ 160', '161 (150–161)', '**not met**', '', '`npm run bench -- --sections small`'],
  ]);
  t.end();
});

t.test('objects have one key each, and another value each time', (t) => {
  const ids = Array.from({ length: 1000 }, (_, id) => id);
  t.equal(new Set(ids.map((id) => keyOf(id).toString())).size, ids.length);
  t.ok(keyOf(7).equals(keyOf(7)));
  t.notOk(valueOf(7).equals(valueOf(7)));
  t.end();
});

t.test('other load on the machine is seen', async (t) => {
  const busy = spawn(process.execPath, ['-e', 'for (;;);']);
  t.teardown(() => busy.kill('SIGKILL'));
  t.ok((await otherLoad()) > 0.1);
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

import t from 'tap';
import { Budget, KeyStore, Table } from '../../src/snapshot/verify/memory-budget.ts';

t.test('stores within a budget', async (t) => {
  const budget = new Budget(100_000);
  const table = new Table(budget, 3);
  const rows = Uint32Array.from({ length: 90 }, (_, i) => i);
  for (let first = 0; first < 2100; first += 30) t.equal(table.append(rows, 30), first);
  t.strictSame(
    [table.get(1023, 0), table.get(1024, 2), table.get(2099, 1)],
    [(1023 % 30) * 3, (1024 % 30) * 3 + 2, 88],
  );
  table.set(5, 1, 0xffff_ffff);
  t.equal(table.get(5, 1), 0xffff_ffff);
  while (table.append(rows, 30) >= 0);
  t.equal(table.append(rows, 30), -1, 'the budget is used up');
  t.ok(budget.peak <= 100_000);
  const keys = new KeyStore(budget);
  t.equal(keys.reserve(10), -1);
  table.close();
  t.equal(keys.reserve(65_536), 0);
  t.equal(keys.reserve(1), -1);
  t.equal(table.length, 0);
});

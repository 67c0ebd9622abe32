import t from 'tap';
import type { SnapshotRecord } from '../../src/snapshot/record.ts';
import { type CataloguedSnapshot, decideRetention } from '../../src/snapshot/retention.ts';

function snapshot(day: number, clusterId = 'c1'): CataloguedSnapshot {
  const takenAt = new Date(Date.UTC(2026, 0, day));
  return { name: `snapshot-${day}-${clusterId}`, record: { clusterId, takenAt } as SnapshotRecord };
}

function removed(catalogue: CataloguedSnapshot[], keepLast: number | undefined): string[] {
  const decisions = decideRetention(catalogue, 'c1', { keepLast });
  t.equal(decisions.length, catalogue.length, 'every snapshot has a decision');
  t.ok(decisions.every(({ reason }) => reason !== ''));
  return decisions.filter(({ keep }) => !keep).map(({ snapshot }) => snapshot.name);
}

const FIVE = [3, 1, 5, 2, 4].map((day) => snapshot(day));

t.test('the newest stay, in whatever order they are listed', (t) => {
  t.strictSame(removed(FIVE, 3).toSorted(), ['snapshot-1-c1', 'snapshot-2-c1']);
  t.strictSame(removed(FIVE, 5), []);
  t.strictSame(removed(FIVE, 500), []);
  t.end();
});

t.test('the newest proven snapshot stays whatever the rule says', (t) => {
  t.equal(removed(FIVE, 1).length, 4);
  t.equal(removed(FIVE, 0).length, 4);
  t.strictSame(removed([snapshot(1)], 0), []);
  t.end();
});

t.test('no rule, nothing goes', (t) => {
  t.strictSame(removed(FIVE, undefined), []);
  t.end();
});

t.test('foreign blobs neither go nor count', (t) => {
  const foreign = [{ name: 'notes.txt', record: undefined }, snapshot(9, 'c2'), snapshot(8, 'c2')];
  t.strictSame(removed([...foreign, ...FIVE], 4), ['snapshot-1-c1']);
  t.strictSame(removed(foreign, 1), []);
  t.end();
});

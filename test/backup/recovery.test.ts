import t from 'tap';
import { recoveryOf } from '../../src/backup/recovery.ts';
import { failureMark, obsoleteFailures } from '../../src/snapshot/failure-marks.ts';
import type { CataloguedBlob, Recorded } from '../../src/snapshot/inventory.ts';
import { RECORD } from '../support/store.ts';
import { nameOf } from '../support/catalogue.ts';

const NOW = Date.parse('2026-03-01T00:00:00Z');

/** A snapshot taken so many hours ago. */
function snapshot(hours: number, clusterId = 'c1'): Recorded<CataloguedBlob> {
  const takenAt = new Date(NOW - hours * 3_600_000);
  const record = { ...RECORD, takenAt, clusterId, uploadId: String(hours) };
  return { name: nameOf(takenAt), etag: String(hours), size: 1, storedAt: takenAt, record, problem: undefined };
}

function failure(hours: number): { kind: 'mark'; fields: Readonly<Record<string, string>>; storedAt: Date } {
  const storedAt = new Date(NOW - hours * 3_600_000);
  return { kind: 'mark', fields: failureMark(storedAt, 'backup', 10).fields, storedAt };
}

function recovery(hours: readonly number[], failures: readonly number[], previousClusterIds: string[] = []) {
  const fresh = snapshot(0);
  const blobs = [fresh, ...hours.map((each) => snapshot(each))];
  return recoveryOf(fresh, blobs, failures.map(failure), { previousClusterIds }, new Date(NOW));
}

t.test('a failure since the previous snapshot', (t) => {
  t.equal(recovery([6, 12, 18], []), undefined);
  t.equal(recovery([6, 12, 18], [7, 13]), undefined, 'they were reported before');
  t.equal(recovery([6, 12, 18], [3, 7]), '1 run failed before it; the previous snapshot is 6h older.');
  t.equal(recovery([], [3, 2, 1]), '3 runs failed before it.');
  t.equal(recovery([], []), undefined, 'the first backup');
  const fresh = snapshot(0);
  for (const fields of [{ what: 'keep' }, { what: ['failed'] }, failureMark(fresh.storedAt, 'drill', 10).fields, {}]) {
    const events = [{ kind: 'mark', fields, storedAt: fresh.storedAt }] as const;
    t.equal(recoveryOf(fresh, [fresh], events, { previousClusterIds: [] }, new Date(NOW)), undefined);
  }
  t.end();
});

t.test('a gap since the previous snapshot', (t) => {
  t.equal(recovery([12, 18, 24], []), undefined, 'twice the usual distance');
  t.equal(recovery([13, 19, 25], []), 'The previous snapshot is 13h older.');
  t.equal(recovery([48], []), undefined, 'with fewer than three snapshots usual is a day');
  t.equal(recovery([49], []), 'The previous snapshot is 2d older.');
  t.end();
});

t.test('snapshots of other clusters do not count, except for its own earlier ids', (t) => {
  const fresh = snapshot(0);
  const blobs = [fresh, snapshot(100, 'c0'), snapshot(1, 'c2')];
  const of = (previousClusterIds: string[]): string | undefined =>
    recoveryOf(fresh, blobs, [], { previousClusterIds }, new Date(NOW));
  t.equal(of([]), undefined);
  t.equal(of(['c0']), 'The previous snapshot is 4d older.');
  t.end();
});

t.test('marks of failures are of use for 90 days', (t) => {
  const [old, recent] = [failure(91 * 24), failure(89 * 24)];
  t.strictSame(obsoleteFailures([old, recent, { ...old, fields: {} }], new Date(NOW)), [old]);
  t.strictSame(obsoleteFailures([old], undefined), [], 'without the time of the service');
  t.end();
});

import t from 'tap';
import { findAnomalies } from '../../src/retention/anomalies.ts';
import type { SnapshotRecord } from '../../src/snapshot/record.ts';

const RECORD = {
  clusterId: 'c1',
  revision: 1000,
  totalKeys: 800,
  liveKeys: 400,
  totalSize: 1_000_000,
  takenAt: new Date('2026-02-02T00:00:00Z'),
  members: [] as SnapshotRecord['members'],
} as SnapshotRecord;

function anomalies(change: Partial<SnapshotRecord>, ...earlier: Partial<SnapshotRecord>[]): string[] {
  return anomaliesAfter([], change, ...earlier);
}

function anomaliesAfter(
  previousClusterIds: string[],
  change: Partial<SnapshotRecord>,
  ...earlier: Partial<SnapshotRecord>[]
): string[] {
  const takenAt = new Date('2026-02-01T00:00:00Z');
  return findAnomalies(
    { ...RECORD, ...change },
    earlier.map((other) => Object.assign({}, RECORD, { takenAt }, other)),
    previousClusterIds,
  );
}

t.test('nothing suspicious', (t) => {
  t.strictSame(anomalies({}), [], 'the first snapshot');
  t.strictSame(anomalies({}, {}), [], 'nothing happened since');
  t.strictSame(anomalies({ revision: 2000, liveKeys: 390, totalKeys: 100, totalSize: 300_000 }, {}), [], 'compacted');
  t.end();
});

t.test('suspicious', (t) => {
  t.match(anomalies({ revision: 999 }, {}), ['the revision went back from 1000 to 999']);
  t.match(anomalies({ liveKeys: 199 }, {}), ['the number of keys fell from 400 to 199']);
  t.match(anomalies({ liveKeys: undefined, totalKeys: 399 }, {}), ['the number of keys fell from 800 to 399']);
  t.match(anomalies({ totalSize: 249_999 }, {}), ['the size fell from 1000000 to 249999 bytes']);
  t.match(anomalies({}, { clusterId: 'c2' }), ['the cluster id is c1, but the snapshots here belong to cluster c2']);
  const members = (...names: string[]): SnapshotRecord['members'] =>
    names.map((name, index) => ({ id: `m${index}`, name, peerURLs: [], isLearner: false }));
  t.match(anomalies({ members: members('x', 'y') }, { members: members('a', 'b', 'c') }), [
    /^all members have new names/,
  ]);
  for (const [now, before] of [
    [
      ['x', 'b'],
      ['a', 'b'],
    ],
    [['x'], ['a']],
    [
      ['a', 'b'],
      ['', 'b', 'c'],
    ],
    [
      ['x', 'y'],
      ['', 'b'],
    ],
  ] as const) {
    t.strictSame(anomalies({ members: members(...now) }, { members: members(...before) }), [], now.join());
  }
  t.equal(anomalies({ revision: 1, liveKeys: 1, totalSize: 1 }, {}).length, 3);
  t.end();
});

t.test('compared with the newest of the same cluster', (t) => {
  const older = { takenAt: new Date('2026-01-01T00:00:00Z'), revision: 5000 };
  t.strictSame(anomalies({}, older, {}), []);
  const foreign = { clusterId: 'c2', takenAt: new Date('2026-02-01T12:00:00Z'), revision: 9999 };
  t.strictSame(anomalies({}, foreign, {}), []);
  t.end();
});

t.test('a restored cluster whose earlier id is named', (t) => {
  const before = { clusterId: 'c0', revision: 5000, totalSize: 9_000_000, liveKeys: 9000 };
  t.match(anomalies({}, before), ['the cluster id is c1, but the snapshots here belong to cluster c0']);
  t.match(anomalies({}, before), [/set SNAPSHOT_PREVIOUS_CLUSTER_IDS=c0\)/], 'what to do is said');
  t.strictSame(anomaliesAfter(['c0'], {}, before), [], 'what it was before is not compared');
  t.match(anomaliesAfter(['c0'], { revision: 9 }, { revision: 10 }, before), ['the revision went back from 10 to 9']);
  const stranger = { clusterId: 'c2', takenAt: new Date('2026-02-01T12:00:00Z') };
  t.match(anomaliesAfter(['c0'], {}, before, stranger), ['but the snapshots here belong to cluster c2']);
  t.match(anomaliesAfter(['c0'], {}, before, stranger), [/set SNAPSHOT_PREVIOUS_CLUSTER_IDS=c0,c2\)/], 'both');
  t.end();
});

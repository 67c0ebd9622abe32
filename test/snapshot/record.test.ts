import t from 'tap';
import { snapshotName, takenAtOf } from '../../src/snapshot/name.ts';
import { fromMetadata, type SnapshotRecord, toMetadata, toolName } from '../../src/snapshot/record.ts';

const RECORD: SnapshotRecord = {
  sha256: 'ab'.repeat(32),
  hash: '84e984f3',
  revision: 293,
  totalKeys: 287,
  liveKeys: 127,
  totalSize: 20_480,
  etcdVersion: '3.6.16',
  storageVersion: '3.6.0',
  clusterId: 'cdf818194e3a8c32',
  memberId: '8e9e05c52164694d',
  members: [{ id: '8e9e05c52164694d', name: 'mäster-0 "x"', peerURLs: ['https://10.0.0.5:2380'], isLearner: false }],
  takenAt: new Date('2026-02-03T04:05:06.789Z'),
  uploadId: '00ff',
  tool: toolName('0.1.0'),
};

t.test('a record survives its way through metadata, in lower-case names and ASCII values', (t) => {
  const metadata = toMetadata(RECORD);
  t.strictSame(fromMetadata(metadata), RECORD);
  for (const [name, value] of Object.entries(metadata)) {
    t.match(name, /^[a-z0-9]+$/);
    t.match(value, /^[\x21-\x7e][\x20-\x7e]*$/, name);
  }
  t.end();
});

t.test('metadata that is not a whole record is none', (t) => {
  t.equal(fromMetadata(undefined), undefined);
  t.equal(fromMetadata({}), undefined);
  const spoilt = {
    tool: 'azcopy',
    sha256: 'xyz',
    clusterid: '',
    totalsize: '-1',
    revision: 'x',
    totalkeys: '',
    takenat: 'yesterday',
    members: '{',
  };
  for (const [name, value] of Object.entries(spoilt)) {
    t.equal(fromMetadata({ ...toMetadata(RECORD), [name]: value }), undefined, name);
  }
  t.end();
});

t.test('names are of fixed width, in UTC, and tell when the snapshot was taken', (t) => {
  const name = snapshotName('prod-eu/', RECORD.takenAt);
  t.equal(name, 'prod-eu/kubernetes-etcd-snapshot_20260203_040506.db');
  t.strictSame(takenAtOf('prod-eu/', name), new Date('2026-02-03T04:05:06Z'));
  t.equal(takenAtOf('', name), undefined, 'under another prefix');
  t.equal(takenAtOf('', 'kubernetes-etcd-snapshot_20261399_040506.db'), undefined, 'no such day');
  t.equal(takenAtOf('', 'notes.txt'), undefined);
  t.end();
});

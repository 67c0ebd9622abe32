import t from 'tap';
import { parseMetadata, type SnapshotRecord, toMetadata, toolName } from '../../src/snapshot/record.ts';
import { bundleName, encodingOfName, isBundleName, snapshotName, takenAtOf } from '../../src/snapshot/snapshot-name.ts';
import { fromMetadata } from '../support/catalogue.ts';
import { DEFECTS, REQUIRED, withDefect } from '../support/defects.ts';

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
  uploadId: '00ff'.repeat(8),
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

t.test(`${DEFECTS.size} defects: none of them is a record, and each is named`, (t) => {
  const sound = toMetadata(RECORD);
  for (const [name, defect] of DEFECTS) {
    const [field = ''] = Object.keys(defect);
    const { record, problem = '' } = parseMetadata(withDefect(sound, defect));
    t.equal(record, undefined, name);
    t.match(problem, /^its record is not well-formed: /, name);
    t.ok(problem.includes(field) || problem.includes('more keys'), problem);
    t.ok(problem.length < 300 && !/\p{C}/u.test(problem), 'and nothing of its value is shown');
  }
  t.end();
});

t.test('what a record says of a bundle', (t) => {
  const sha256 = 'cd'.repeat(32);
  const keys = {
    cas: [sha256],
    serviceAccount: [],
    encryption: [{ provider: 'aescbc', name: 'schlüssel', hmac: '0123456789abcdef' }],
    token: '0123456789abcdef',
  };
  const record = { ...RECORD, bundleSha256: sha256, bundleKeys: keys };
  const metadata = toMetadata(record);
  t.strictSame(fromMetadata(metadata), record);
  t.match(metadata['bundlekeys'], /^[\x20-\x7e]+$/);
  const [key] = keys.encryption;
  const wrong: object[] = [
    { ...keys, cas: undefined },
    { ...keys, cas: ['ab'] },
    { ...keys, cas: Array.from({ length: 9 }, () => sha256) },
    { ...keys, token: 'x' },
    { ...keys, token: null },
    { ...keys, encryption: [{ ...key, hmac: sha256 }] },
    { ...keys, encryption: [{ ...key, name: 'a\u001b[2J' }] },
    { ...keys, encryption: [{ ...key, name: 'a'.repeat(101) }] },
    { ...keys, encryption: [null] },
    [],
  ];
  for (const value of [...wrong.map((each) => JSON.stringify(each)), 'x', 'null', '']) {
    const { record: parsed, problem } = parseMetadata({ ...metadata, bundlekeys: value });
    t.equal(parsed, undefined, value);
    t.match(problem, /^its record is not well-formed: bundlekeys/, value);
  }
  t.equal(fromMetadata({ ...metadata, bundlesha256: 'x' }), undefined);
  t.end();
});

t.test('an imported file does not say which member it comes from', (t) => {
  const { memberId: _, etcdVersion: __, ...known } = RECORD;
  const record = { ...known, imported: 'etcd-snapshot-m1-1770091506.zip' };
  t.strictSame(fromMetadata(toMetadata(record)), record);
  t.match(parseMetadata(toMetadata(known)), { record: undefined, problem: /lacks etcdversion or memberid/ });
  t.end();
});

t.test('the name of a bundle is that of its snapshot', (t) => {
  const name = 'prod-eu/kubernetes-etcd-snapshot_20260203_040506.bundle.tar.zst.age';
  for (const encoding of [undefined, 'zstd', 'age', 'zstd+age'] as const) {
    t.equal(bundleName(snapshotName('prod-eu/', RECORD.takenAt, encoding)), name);
  }
  t.ok(isBundleName(name));
  t.equal(takenAtOf('prod-eu/', name), undefined, 'it is no snapshot');
  for (const other of ['x.bundle.tar.zst.age', snapshotName('', RECORD.takenAt, 'age'), `${name}.age`]) {
    t.notOk(isBundleName(other), other);
  }
  t.end();
});

t.test('values of other types, and names that objects have of themselves', (t) => {
  const sound = toMetadata(RECORD);
  for (const field of REQUIRED) {
    for (const value of [null, 1, true, {}, [], ['x'], { $: 'x' }]) {
      t.equal(parseMetadata({ ...sound, [field]: value }).record, undefined, field);
    }
  }
  const hostile = JSON.parse(
    JSON.stringify(sound).replace('{', '{"__proto__":{"tool":"x"},"constructor":"x",'),
  ) as object;
  t.strictSame(parseMetadata({ ...hostile }), { record: RECORD }, 'more fields are no problem');
  t.end();
});

t.test('metadata of others is no problem', (t) => {
  for (const metadata of [undefined, {}, { tool: 'azcopy' }, { hdi_isfolder: 'true' }, { uploadid: 'x' }]) {
    t.strictSame(parseMetadata(metadata), {});
    t.equal(fromMetadata(metadata), undefined);
  }
  t.end();
});

t.test('records that earlier versions wrote, and what real clusters have', (t) => {
  const { livekeys: _, storageversion: __, ...old } = toMetadata(RECORD);
  t.match(fromMetadata(old), { sha256: RECORD.sha256, liveKeys: undefined, storageVersion: undefined });
  const urls = [
    'http://127.0.0.1:2380',
    'https://etcd-0.etcd.kube-system.svc:2380',
    'https://[2001:db8::1]:2380',
    'unix://m1:1',
  ];
  for (const member of [
    { id: 'a1', name: '', peerURLs: urls, isLearner: true },
    {
      id: 'ffffffffffffffff',
      name: 'k8s-master-31200428-0.märz',
      peerURLs: urls.slice(0, 1),
      isLearner: false,
      more: 1,
    },
  ]) {
    t.match(fromMetadata({ ...old, members: JSON.stringify([member]) }), { members: [{ id: member.id }] });
  }
  t.match(fromMetadata({ ...old, members: '[]' }), { members: [] });
  for (const etcdversion of ['3.4.23', '3.5.13-k3s1', '3.6.0-rc.1', '3.5.9+dirty']) {
    t.match(fromMetadata({ ...old, etcdversion }), { etcdVersion: etcdversion });
  }
  for (const takenat of ['1970-01-01T00:00:00.000Z', '2016-02-29T23:59:59.999Z', '9999-12-31T23:59:59.999Z']) {
    t.equal(fromMetadata({ ...old, takenat })?.takenAt.toISOString(), takenat, 'a clock may say anything');
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
  const sealed = snapshotName('prod-eu/', RECORD.takenAt, 'zstd');
  t.equal(sealed, `${name}.zst`);
  t.strictSame(takenAtOf('prod-eu/', sealed), takenAtOf('prod-eu/', name));
  t.equal(encodingOfName(sealed), 'zstd');
  t.equal(encodingOfName(name), undefined);
  t.end();
});

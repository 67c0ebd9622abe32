import t from 'tap';
import {
  type CataloguedBlob,
  ELSEWHERE,
  isRecorded,
  malformed,
  newestSnapshot,
  takeInventory,
} from '../../src/snapshot/inventory.ts';
import { storedBlob } from '../../src/store/catalogue.ts';
import { nameOf, recordOf } from '../support/catalogue.ts';

const HOUR = 3_600_000;
const NOW = new Date('2026-11-24T13:00:00Z');
const hoursAgo = (hours: number): Date => new Date(NOW.getTime() - hours * HOUR);

interface Made {
  readonly prefix?: string;
  readonly name?: string;
  readonly size?: number;
  readonly storedAt?: Date;
  readonly metadata?: Readonly<Record<string, string>>;
}

function made(takenAt: Date, { prefix = '', metadata, ...more }: Made = {}): CataloguedBlob {
  const { name = `${prefix}${nameOf(takenAt)}`, size = 4096 + 32, storedAt = takenAt } = more;
  const properties = { contentLength: size, etag: name, createdOn: storedAt };
  return storedBlob(prefix, name, { ...recordOf(takenAt), ...metadata }, properties);
}

/** The names of those that are snapshots under a prefix. */
function counted(prefix: string, ...blobs: CataloguedBlob[]): string[] {
  return takeInventory(prefix, blobs)
    .filter(isRecorded)
    .map(({ name }) => name);
}

t.test('only what lies under its own name, with its own length', (t) => {
  const takenAt = hoursAgo(1);
  const name = nameOf(takenAt);
  const cases: [what: string, problem: RegExp, more: Made][] = [
    ['one byte', /has 1 bytes, but its record says 4128/, { size: 1 }],
    ['a byte less', /has 4127 bytes/, { size: 4127 }],
    ['a byte more', /has 4129 bytes/, { size: 4129 }],
    ['without its checksum', /has 4096 bytes/, { size: 4096 }],
    ['a copy', /its name does not match/, { name: `${name}x` }],
    ['a copy of another kind', /its name does not match/, { name: 'before-the-upgrade.db' }],
    ['a second later', /its name does not match/, { name: nameOf(new Date(takenAt.getTime() + 1000)) }],
    ['a year later', /its name does not match/, { name: nameOf(new Date(takenAt.getTime() + 365 * 24 * HOUR)) }],
    ['in capitals', /its name does not match/, { name: name.toUpperCase() }],
    ['of another cluster', /it is under another prefix/, { name: `x/${name}` }],
  ];
  t.strictSame(counted('', made(takenAt)), [name]);
  for (const [what, problem, more] of cases) {
    const [blob] = takeInventory('', [made(takenAt, more)]);
    t.match(blob, { record: undefined, problem }, what);
  }
  t.end();
});

t.test('a prefix is exact', (t) => {
  const takenAt = hoursAgo(1);
  const prefixes = ['', 'x/', 'prod', 'prod/', 'prod-eu', 'prod-eu/', 'prodkubernetes-etcd-snapshot_', 'kube'];
  const blobs = prefixes.map((prefix) => made(takenAt, { prefix }));
  for (const [index, prefix] of prefixes.entries()) {
    const inventory = takeInventory(prefix, blobs);
    t.strictSame(
      inventory.filter(isRecorded).map(({ name }) => name),
      [blobs[index]?.name],
      prefix,
    );
    t.ok(inventory.every(({ record, problem }) => record !== undefined || problem === ELSEWHERE));
    t.strictSame(malformed(inventory), [], 'nothing is wrong with the others');
  }
  t.end();
});

t.test('an upload id is one snapshot: the one that was stored first, or the one that this run has stored', (t) => {
  const original = made(hoursAgo(2));
  const { uploadId: uploadid = '' } = original.record ?? {};
  const forged = made(hoursAgo(1), { metadata: { uploadid } });
  for (const blobs of [
    [original, forged],
    [forged, original],
  ]) {
    const [problem] = takeInventory('', blobs).flatMap(({ problem }) => problem ?? []);
    t.equal(problem, `it is a copy of ${original.name}`);
    t.strictSame(counted('', ...blobs), [original.name]);
    const fresh = { name: forged.name, etag: `"${forged.etag}"` };
    t.strictSame(
      takeInventory('', blobs, fresh)
        .filter(isRecorded)
        .map(({ name }) => name),
      [forged.name],
    );
  }
  t.end();
});

t.test('the newest: of one cluster, not dated in the future', (t) => {
  const none = { previousClusterIds: [] };
  const of = (clusterid: string, hours: number, more: Made = {}): CataloguedBlob =>
    made(hoursAgo(hours), { metadata: { clusterid }, ...more });
  const [own, older, other, before] = [of('c1', 5), of('c1', 11), of('c2', 2), of('c0', 30)];
  const ahead = of('c1', -1000, { storedAt: hoursAgo(1) });
  const pick = (
    blobs: CataloguedBlob[],
    ids: Parameters<typeof newestSnapshot>[1] = none,
  ): CataloguedBlob | undefined => newestSnapshot(takeInventory('', blobs), ids, NOW);

  t.equal(pick([]), undefined);
  t.equal(pick([ahead]), undefined);
  t.equal(pick([older, ahead, own]), own);
  t.throws(() => pick([own, older, other]), {
    exitCode: 2,
    message: 'There are snapshots of 2 clusters, and none was chosen: c2 (newest 2h old), c1 (newest 5h old).',
    hint: /--cluster-id/,
  });
  t.equal(pick([own, older, other], { clusterId: 'c1', previousClusterIds: [] }), own);
  t.equal(pick([own, other], { clusterId: 'c3', previousClusterIds: [] }), undefined);

  const second = { previousClusterIds: ['c0'] };
  t.equal(pick([own, before], second), own, 'the cluster has a new life');
  t.equal(pick([before], second), before, 'and no snapshot of it yet');
  t.equal(pick([before], { clusterId: 'c1', ...second }), before, 'as a running etcd says');
  t.throws(() => pick([own, other, before], second), { exitCode: 2, message: /of 3 clusters.*c0 \(newest 30h old\)/ });
  t.throws(() => pick([own, of('c0', 1)], second), { exitCode: 2, message: /of 2 clusters/ });
  t.equal(pick([of('c1', 1), of('c0', 5)], { previousClusterIds: ['c0', 'c1'] })?.record?.clusterId, 'c1');
  t.end();
});

t.test('two hosts whose clocks are minutes apart: the clock of the service decides', (t) => {
  const fast = made(new Date(NOW.getTime() + 4 * 60_000), { storedAt: NOW });
  const later = made(new Date(NOW.getTime() + 10_000), { storedAt: new Date(NOW.getTime() + 11_000) });
  const now = new Date(NOW.getTime() + 60_000);
  for (const blobs of [
    [fast, later],
    [later, fast],
  ]) {
    t.equal(newestSnapshot(takeInventory('', blobs), { previousClusterIds: [] }, now), later);
  }
  t.end();
});

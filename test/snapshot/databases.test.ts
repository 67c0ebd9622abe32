import t from 'tap';
import type { VerdictWithoutHash } from '../../src/snapshot/verify/verdict.ts';
import { SnapshotVerifier } from '../../src/snapshot/verify/verifier.ts';
import { bucket, database, LEAF, META, PAGE, revision, rootEntries, run, sealMeta, setMeta } from '../support/bbolt.ts';
import { databaseOf, databaseVectors, metasOf } from '../support/databases.ts';
import { Random } from '../support/random.ts';
import { seal, sha256, snapshotOf } from '../support/vectors.ts';
import { verify } from '../support/verify.ts';

function judge(bytes: Buffer, pieceSize = 32_768): VerdictWithoutHash {
  const verifier = new SnapshotVerifier();
  for (let at = 0; at < bytes.length; at += pieceSize) verifier.push(bytes.subarray(at, at + pieceSize));
  return verifier.finishWithoutHash();
}

/** The numbers of `snapshot status`, or the kinds of the faults. */
function numbers(verdict: VerdictWithoutHash): string {
  if (!verdict.ok) return [...new Set(verdict.problems.map(({ kind }) => kind))].join(' ');
  const { hash, revision: last, totalKeys, totalKeys36, totalSize } = verdict.snapshot.facts;
  return `${hash} ${last} ${totalKeys}/${totalKeys36} ${totalSize}`;
}

const VECTORS = databaseVectors().map((vector) => Object.assign(vector, { bytes: databaseOf(vector) }));
const WHOLE = VECTORS.filter(({ verdict }) => verdict === 'accept');

t.test('copies of databases of running members: the verdict and the numbers of the real tools', async (t) => {
  for (const vector of VECTORS) {
    const { name, bytes } = vector;
    t.equal(sha256(bytes).toString('hex'), vector.sha256);
    t.match(metasOf(bytes), { newerMeta: vector.newerMeta, highWaterMarks: vector.highWaterMarks });
    const verdict = judge(bytes);
    t.equal(verdict.ok ? 'accept' : 'reject', vector.verdict, `${name}: ${numbers(verdict)}`);
    t.match(verdict.report, { ok: verdict.ok, hashChecked: false, trailer: '', size: vector.fileSize });
    if (verdict.ok) {
      const { hash, revision: last, totalKeys, totalKeys36, totalSize, members } = verdict.snapshot.facts;
      for (const [tool, status] of Object.entries(vector.status)) {
        const totalKey = tool.startsWith('etcd 3.6') ? totalKeys36 : totalKeys;
        t.match(status, { hash: Number.parseInt(hash, 16), revision: last, totalKey, totalSize }, `${name}: ${tool}`);
      }
      t.strictSame(new Set(Object.values(vector.restores)), new Set([true]), `${name}: every tool restores it`);
      t.match(members, [{ name: 'm1', isLearner: false }]);
    }
    const asSnapshot = verify(bytes);
    t.notOk(asSnapshot.ok, `${name} is no snapshot`);
    if (asSnapshot.ok) continue;
    t.match(asSnapshot.problems[0], { kind: 'trailer', message: /seems to be a copy of a member's database$/ });
    t.equal(asSnapshot.kind?.lacksChecksum, true);
    t.equal(asSnapshot.problems.length === 1, verdict.ok, `${name}: that is all, unless the copy is torn`);
  }
});

t.test('the copies have what copies of databases have', async (t) => {
  t.ok(WHOLE.some(({ newerMeta, bytes }) => newerMeta === 1 && new Set(metasOf(bytes).roots).size === 2));
  t.ok(WHOLE.some(({ newerMeta }) => newerMeta === 0));
  t.ok(WHOLE.some(({ fileSize, highWaterMarks: [newer] }) => fileSize > newer * PAGE));
  t.ok(WHOLE.some(({ highWaterMarks: [newer, older] }) => newer !== older));
  for (const minor of ['3.3', '3.4', '3.5', '3.6']) {
    const scenarios = VECTORS.filter(({ serverVersion }) => serverVersion.startsWith(minor)).map((v) => v.scenario);
    t.strictSame(scenarios.toSorted(), ['idle', 'load', 'torn'], minor);
  }
});

t.test('the same result in pieces of any size', async (t) => {
  for (const { name, bytes, highWaterMarks } of VECTORS) {
    const short = bytes.subarray(0, (highWaterMarks[0] + 1) * PAGE);
    const expected = numbers(judge(short));
    for (const size of [77, 512, 4095, 4097, 10_000, short.length]) {
      t.equal(numbers(judge(short, size)), expected, `${name} in ${size}`);
    }
  }
});

t.test('the newer meta page counts if it is intact, and else the other one', async (t) => {
  for (const { name, bytes, newerMeta } of WHOLE) {
    const whole = numbers(judge(bytes));
    const damaged = (page: number, from: number, to: number, value: number): string =>
      numbers(judge(Buffer.from(bytes).fill(value, page * PAGE + from, page * PAGE + to)));
    for (const [from, to] of [
      [0, PAGE],
      [16, 80],
      [79, 80],
      [0, 16],
    ] as const) {
      t.equal(damaged(1 - newerMeta, from, to, 0xee), whole, `${name}: the older one is damaged at ${from}`);
    }
    const byOlder = damaged(newerMeta, 79, 80, 0xee);
    t.not(byOlder, whole, `${name}: the older one leads to other numbers`);
    t.equal(damaged(newerMeta, 0, PAGE, 0), byOlder, `${name}: the newer page is lost`);
    t.match(damaged(newerMeta, 0, 2, 9), /^meta/, `${name}: the newer one is intact, and in a page of another number`);
    t.match(
      damaged(newerMeta, 72, 80, 0),
      /^meta/,
      `${name}: old tools use a meta without a checksum, new ones do not`,
    );
    const none = Buffer.from(bytes)
      .fill(0, 0, 100)
      .fill(0, PAGE, PAGE + 100);
    t.equal(numbers(judge(none)), 'format', `${name}: without either`);
  }
});

t.test('a corrupt meta page 0 does not hide the page size, and a valid one decides it', async (t) => {
  for (const pageSize of [1024, 16_384, 65_536]) {
    const bytes = database(2, [run(2, LEAF, rootEntries(), pageSize)], pageSize);
    t.ok(judge(bytes).ok, `${pageSize}`);
    t.equal(numbers(judge(Buffer.from(bytes).fill(0, 0, 100))), numbers(judge(bytes)), `${pageSize}, by page 1`);
  }
  for (const pageSize of [0, 512, 1000, 8192, 2 ** 25, 2 ** 31]) {
    const bytes = database(2, [run(2, LEAF, rootEntries())]);
    bytes.writeUInt32LE(pageSize, META.pageSize);
    sealMeta(bytes, 0);
    t.notOk(judge(bytes).ok, `${pageSize}`);
  }
});

t.test('unreachable pages can contain anything', async (t) => {
  const random = new Random(11);
  for (const { name, bytes, highWaterMarks } of WHOLE) {
    const whole = numbers(judge(bytes));
    const end = highWaterMarks[0] * PAGE;
    t.equal(numbers(judge(bytes.subarray(0, end))), whole, `${name}: nothing behind the last page`);
    t.equal(numbers(judge(Buffer.concat([bytes, random.bytes(5 * PAGE + 77)]))), whole, `${name}: garbage behind it`);
    t.equal(numbers(judge(bytes.subarray(0, end + 100))), whole, `${name}: cut behind it`);
    for (const cut of [1, 512, PAGE, 2 * PAGE + 1]) {
      t.match(numbers(judge(bytes.subarray(0, end - cut))), /^length/, `${name}: ${cut} bytes are missing`);
    }
    let free = 0;
    for (let page = 2; page < Math.min(40, highWaterMarks[0]); page++) {
      const changed = Buffer.from(bytes.subarray(0, end));
      random.bytes(PAGE).copy(changed, page * PAGE);
      const verdict = judge(changed);
      if (verdict.ok) free++;
      if (verdict.ok) t.equal(numbers(verdict), whole, `${name}: page ${page} is free`);
    }
    t.ok(free > 0, `${name}: ${free} free pages`);
  }
});

t.test('a stored list of free pages must be exact, as for the real tools', async (t) => {
  const root = run(2, LEAF, rootEntries({ key: bucket(3) }));
  const keys = run(3, LEAF, [revision(2, 0, '/registry/pods/a', Buffer.alloc(50))]);
  const withFreelist = (...ids: number[]): Buffer => {
    const list = Buffer.alloc(PAGE);
    list.writeBigUInt64LE(4n, 0);
    list.writeUInt16LE(0x10, 8);
    list.writeUInt16LE(ids.length, 10);
    ids.forEach((id, i) => list.writeBigUInt64LE(BigInt(id), 16 + 8 * i));
    const bytes = database(2, [root, keys, list, Buffer.alloc(2 * PAGE, 0xab)]);
    setMeta(bytes, 'freelist', 4n);
    return Buffer.concat([bytes, Buffer.alloc(3 * PAGE, 0xcd)]);
  };
  t.ok(judge(withFreelist(5, 6)).ok);
  for (const ids of [[5], [5, 6, 7], [3, 5, 6], [4, 5, 6], [5, 5], []]) {
    t.equal(numbers(judge(withFreelist(...ids))), 'freelist', `${ids}`);
  }
});

t.test('snapshots: the option leaves out the sha256, and nothing else', async (t) => {
  const snapshot = snapshotOf('etcd-3.5.30-k8s');
  const database = snapshot.subarray(0, -32);
  const whole = numbers(judge(snapshot));
  t.equal(judge(snapshot).report.trailer, snapshot.subarray(-32).toString('hex'));
  t.equal(numbers(judge(database)), whole, 'without its sha256');
  t.equal(numbers(judge(Buffer.concat([database, Buffer.alloc(32)]))), whole, 'with a wrong one');
  for (const [name, bytes] of Object.entries({
    truncated: snapshot.subarray(0, -4096),
    'truncated to whole pages': snapshot.subarray(0, -32 - 4096),
    'without some pages, and with a trailer': seal(database.subarray(0, -8192)),
  })) {
    t.match(numbers(judge(bytes)), /^length/, name);
  }
  const damaged = Buffer.from(snapshot).fill(0xff, 10 * PAGE, 10 * PAGE + 64);
  t.notOk(judge(damaged).ok, 'a damaged page');
});

t.test('files that look like a copy of a database, without the option', async (t) => {
  const snapshot = snapshotOf('etcd-3.5.30-k8s');
  const flipped = Buffer.from(snapshot);
  flipped[100_000] = (flipped[100_000] ?? 0) ^ 1;
  const cases: Record<string, [Buffer, boolean]> = {
    'its sha256 is cut off': [snapshot.subarray(0, -32), true],
    'cut off at a sector': [snapshot.subarray(0, 200 * 512), false],
    'cut off at a page': [snapshot.subarray(0, 20 * PAGE), false],
    'a sector and a trailer less': [snapshot.subarray(0, -32 - 512), false],
    'cut off anywhere': [snapshot.subarray(0, -100), false],
    'a part of the sha256 is missing': [snapshot.subarray(0, -1), false],
    'the sha256 is wrong': [Buffer.concat([snapshot.subarray(0, -32), Buffer.alloc(32)]), false],
    'a byte is changed': [flipped, false],
    'there is too much': [Buffer.concat([snapshot, Buffer.alloc(512)]), false],
  };
  for (const [name, [bytes, isCopy]] of Object.entries(cases)) {
    const verdict = verify(bytes);
    t.notOk(verdict.ok, name);
    if (!verdict.ok) t.equal(verdict.kind?.lacksChecksum === true, isCopy, name);
  }
  const cut = verify(snapshot.subarray(0, 200 * 512));
  t.match(cut.report.faults[0]?.message, 'it ends after 102400 of 278560 bytes, like an unfinished download or save');
  const bare = verify(snapshot.subarray(0, -32));
  t.match(bare.report.faults, [{ kind: 'trailer', message: /seems to be a snapshot without its sha256/ }]);
});

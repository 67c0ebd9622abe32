import { createHash, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Verdict } from '../../src/snapshot/verify/verdict.ts';
import { SnapshotVerifier } from '../../src/snapshot/verify/verifier.ts';

const GOOD = readFileSync(join(import.meta.dirname, '..', 'fixtures', 'etcd-snapshots', 'etcd-3.5.30-k8s.snap'));
const PAGE = 4096;

function judge(file: Buffer, piece = 32_768): Verdict {
  const verifier = new SnapshotVerifier();
  for (let at = 0; at < file.length; at += piece) verifier.push(file.subarray(at, at + piece));
  return verifier.finish();
}

function kinds(file: Buffer): string[] {
  const verdict = judge(file);
  return verdict.ok ? [] : verdict.problems.map(({ kind }) => kind);
}

/** The database with a change and a trailer that fits it, so that only the structure is wrong. */
function resealed(change: (database: Buffer) => Buffer | undefined): Buffer {
  const copy = Buffer.from(GOOD.subarray(0, -32));
  const database = change(copy) ?? copy;
  return Buffer.concat([database, createHash('sha256').update(database).digest()]);
}

t.test('a real snapshot is valid in pieces of any size, and its bytes are not changed', (t) => {
  const before = createHash('sha256').update(GOOD).digest('hex');
  for (const piece of [1, 7, 31, 32, 33, 4096, 32_768, GOOD.length]) {
    const verdict = judge(GOOD, piece);
    t.ok(verdict.ok, `pieces of ${piece}`);
    if (!verdict.ok) continue;
    t.match(verdict.snapshot.facts, { size: GOOD.length, sha256: before, totalSize: GOOD.length - 32 });
  }
  t.equal(createHash('sha256').update(GOOD).digest('hex'), before);
  t.end();
});

t.test('a changed byte is detected anywhere', (t) => {
  for (let round = 0; round < 200; round++) {
    const changed = Buffer.from(GOOD);
    const at = randomBytes(4).readUInt32LE() % changed.length;
    changed[at] = (changed[at] ?? 0) ^ (1 << (round % 8));
    t.notSame(kinds(changed), [], `byte ${at}`);
  }
  t.end();
});

t.test('every length but the right one is refused', (t) => {
  t.notSame(kinds(Buffer.alloc(0)), []);
  t.notSame(kinds(GOOD.subarray(0, 31)), []);
  t.notSame(kinds(GOOD.subarray(0, -32)), [], 'no trailer');
  t.notSame(kinds(GOOD.subarray(0, -1)), []);
  t.notSame(kinds(Buffer.concat([GOOD, Buffer.alloc(512)])), []);
  t.same(kinds(resealed((database) => database.subarray(0, -PAGE))), ['length'], 'a page less');
  t.same(kinds(resealed((database) => Buffer.concat([database, Buffer.alloc(PAGE)]))), ['length'], 'a page more');
  t.end();
});

t.test('both meta pages must be right and of one transaction', (t) => {
  for (const page of [0, 1]) {
    for (const [what, at] of Object.entries({
      id: 0,
      flags: 8,
      count: 10,
      magic: 16,
      root: 32,
      hwm: 56,
      sum: 72,
      rest: 100,
    })) {
      const faults = kinds(
        resealed((database) => void database.writeUInt8((database[page * PAGE + at] ?? 0) ^ 0x41, page * PAGE + at)),
      );
      t.ok(faults.includes('meta'), `${what} of page ${page}`);
    }
  }
  const twice = kinds(resealed((database) => void database.copy(database, PAGE, 0, PAGE)));
  t.ok(twice.includes('meta'), 'page 0 in place of page 1');
  t.notSame(kinds(resealed((database) => database.fill(0))), []);
  t.end();
});

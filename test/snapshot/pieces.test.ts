import t from 'tap';
import type { Verdict } from '../../src/snapshot/verify/verdict.ts';
import { SnapshotVerifier } from '../../src/snapshot/verify/verifier.ts';
import { Random } from '../support/random.ts';
import { mutate, mutations, snapshot, snapshotOf, vectors } from '../support/vectors.ts';
import { verify } from '../support/verify.ts';

/** Everything that a verdict says, as plain values. */
const told = (verdict: Verdict) => ({ ...verdict.report, facts: verdict.ok ? verdict.snapshot.facts : undefined });

/** Pushes through one buffer that is overwritten after each call, as a caller may. */
function verifyRandomly(bytes: Buffer, random: Random): Verdict {
  const verifier = new SnapshotVerifier();
  const scratch = Buffer.alloc(70_000);
  for (let at = 0; at < bytes.length;) {
    const length = Math.min(
      bytes.length - at,
      random.of([0, 1, 31, 32, 33, 80, 4095, 4096, 4097, random.below(70_000)]),
    );
    const offset = random.below(scratch.length - length);
    const piece = scratch.subarray(offset, offset + length);
    bytes.copy(piece, 0, at, at + length);
    verifier.push(piece);
    if (!piece.equals(bytes.subarray(at, at + length))) throw new Error('a piece was changed');
    scratch.fill(0xa5);
    at += length;
  }
  return verifier.finish();
}

t.test('real snapshots: the same result in pieces of any size, and no piece is changed or kept', async (t) => {
  const random = new Random(1);
  for (const vector of vectors()) {
    const bytes = snapshot(vector);
    const whole = told(verify(bytes, bytes.length));
    t.strictSame(told(verify(bytes)), whole, `${vector.name} in etcd's pieces`);
    for (let i = 0; i < 3; i++) t.strictSame(told(verifyRandomly(bytes, random)), whole, `${vector.name} at random`);
  }
});

t.test('corrupt snapshots: the same problems in pieces of any size', async (t) => {
  const random = new Random(2);
  for (const mutation of mutations()) {
    const bytes = mutate(snapshotOf(mutation.base), mutation);
    t.strictSame(told(verifyRandomly(bytes, random)), told(verify(bytes, bytes.length + 1)), mutation.id);
  }
});

t.test('single bytes', async (t) => {
  for (const name of ['etcd-3.5.16-empty', 'etcd-3.4.23-rootsplit', 'etcd-3.5.16-pageimages']) {
    const bytes = snapshotOf(name);
    t.strictSame(told(verify(bytes, 1)), told(verify(bytes)), name);
  }
});

t.test('after finish the verifier accepts nothing more', async (t) => {
  const verifier = new SnapshotVerifier();
  verifier.push(snapshotOf('etcd-3.5.16-empty'));
  const verdict = verifier.finish();
  verifier.push(Buffer.from('more'));
  t.equal(verifier.finish(), verdict);
  if (verdict.ok) t.throws(() => Object.assign(verdict.snapshot.facts, { revision: 1 }), 'facts are frozen');
});

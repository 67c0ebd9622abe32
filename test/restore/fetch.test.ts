import { appendFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { Interrupted } from '../../src/errors.ts';
import { FileVerification, type Judgement } from '../../src/restore/fetch.ts';
import { KeyScanner } from '../../src/snapshot/keys.ts';
import type { SnapshotFacts } from '../../src/snapshot/verify/verified.ts';
import { SNAPSHOT } from '../support/fixtures.ts';
import { temporaryFolder } from '../support/process.ts';
import { snapshot, vectors } from '../support/vectors.ts';
import { factsOf, verify } from '../support/verify.ts';

const dir = temporaryFolder('verification');
const BUDGET = 64 * 1024 * 1024;
const { signal } = new AbortController();

function begin(path: string, onRead: (bytes: number) => void = () => {}, until = signal): FileVerification {
  return new FileVerification(path, BUDGET, onRead, until);
}

function found(judgement: Judgement): SnapshotFacts {
  if ('facts' in judgement) return judgement.facts;
  throw new Error(judgement.fault);
}

t.test('what the thread finds is what the verifier finds', async (t) => {
  for (const vector of vectors().filter(({ serverVersion }) => serverVersion.startsWith('3.6.'))) {
    const bytes = snapshot(vector);
    const file = join(dir, vector.name);
    await writeFile(file, bytes);
    const verification = begin(file);
    const judgement = await verification.finish(bytes.length).finally(async () => verification.end());
    const { keyPages: theirs, ...others } = found(judgement);
    const { keyPages: own, ...wanted } = factsOf(verify(bytes));
    t.strictSame(others, wanted, vector.name);
    t.strictSame(theirs.runs, own.runs);
    const keys = { theirs: 0, own: 0 };
    new KeyScanner(theirs, () => keys.theirs++).push(bytes);
    new KeyScanner(own, () => keys.own++).push(bytes);
    t.equal(keys.theirs, keys.own);
  }
});

t.test('a file that grows', async (t) => {
  const file = join(dir, 'growing.db');
  await writeFile(file, SNAPSHOT.subarray(0, 5000));
  let read = 0;
  const verification = begin(file, (bytes) => (read += bytes));
  t.teardown(async () => verification.end());
  verification.grewTo(5000);
  for (let at = 5000; at < SNAPSHOT.length; at += 7777) {
    await appendFile(file, SNAPSHOT.subarray(at, at + 7777));
    verification.grewTo(Math.min(at + 7777, SNAPSHOT.length));
  }
  const judgement = await verification.finish(SNAPSHOT.length);
  t.equal(found(judgement).sha256, factsOf(verify(SNAPSHOT)).sha256);
  t.equal(read, SNAPSHOT.length, 'all was read, once');
});

t.test('what cannot be verified', async (t) => {
  const short = join(dir, 'short.db');
  await writeFile(short, SNAPSHOT.subarray(0, -100));
  const shorter = begin(short);
  t.match(await shorter.finish(SNAPSHOT.length), { fault: /bytes/ }, 'the disk has less than was written');
  await shorter.end();

  const missing = begin(join(dir, 'missing.db'));
  await t.rejects(missing.finish(1), { name: 'UsageError', message: /missing\.db failed: it does not exist/ });
  await missing.end();

  const controller = new AbortController();
  const interrupted = begin(short, () => {}, controller.signal);
  interrupted.grewTo(1000);
  controller.abort(new Interrupted('SIGTERM'));
  await t.rejects(interrupted.finish(1000), controller.signal.reason as Error);
  await interrupted.end();
});

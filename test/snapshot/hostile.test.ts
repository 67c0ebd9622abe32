import { readFileSync } from 'node:fs';
import t from 'tap';
import type { Verdict } from '../../src/snapshot/verify/verdict.ts';
import { SnapshotVerifier } from '../../src/snapshot/verify/verifier.ts';
import { BRANCH, bucket, database, type Entry, LEAF, PAGE, revision, rootEntries, run } from '../support/bbolt.ts';
import { PROMOTED } from '../support/fixtures.ts';
import { seal, snapshotOf } from '../support/vectors.ts';
import { factsOf, verify } from '../support/verify.ts';

const KIB = 1024;
const kinds = (verdict: Verdict): string[] =>
  verdict.ok ? [] : [...new Set(verdict.problems.map(({ kind }) => kind))];

/** A snapshot whose `key` bucket is the tree that begins with the first run after the root leaf, on page 3. */
const withKeys = (...runs: readonly Buffer[]): Buffer =>
  seal(database(2, [run(2, LEAF, rootEntries({ key: bucket(3) })), ...runs]));

const entries = (first: number, count: number, size = 100): Entry[] =>
  Array.from({ length: count }, (_, i) =>
    revision(first + i, 0, `/registry/pods/p-${first + i}`, Buffer.alloc(size, 'v')),
  );

/** The key by which a branch knows a child. */
const childKey = (main: number, child: number): Entry => ({ key: revision(main, 0, '', Buffer.alloc(0)).key, child });

t.test('a database built by hand is valid', async (t) => {
  const facts = factsOf(verify(withKeys(run(3, LEAF, entries(2, 10)))));
  t.equal(facts.liveKeys, 10);
  t.equal(facts.revision, 11);
  t.equal(facts.totalKeys, 10);
});

t.test('every page size of bbolt, and pieces smaller than a page', async (t) => {
  for (const pageSize of [1024, 16_384, 65_536]) {
    const leaf = run(4, LEAF, entries(2, 8, 60), pageSize);
    const big = run(4 + leaf.length / pageSize, LEAF, entries(10, 4, 2 * pageSize), pageSize);
    const branch = run(3, BRANCH, [childKey(2, 4), childKey(10, 4 + leaf.length / pageSize)], pageSize);
    const root = run(2, LEAF, rootEntries({ key: bucket(3) }), pageSize);
    const bytes = seal(database(2, [root, branch, leaf, big], pageSize));
    for (const pieceSize of [1000, 32_768, bytes.length]) {
      const facts = factsOf(verify(bytes, pieceSize));
      t.equal(facts.liveKeys, 12, `${pageSize} in ${pieceSize}`);
      t.equal(facts.totalSize, bytes.length - 32);
    }
  }
});

t.test('memory: HashKV and live keys are dropped first, the structure never', async (t) => {
  const bytes = snapshotOf('etcd-3.4.23-deep');
  const whole = factsOf(verify(bytes));
  const seen: string[] = [];
  for (let budget = 16 * KIB * KIB; budget >= 16 * KIB; budget = Math.floor(budget * 0.8)) {
    const verifier = new SnapshotVerifier({ memoryBudget: budget });
    for (let at = 0; at < bytes.length; at += 32_768) verifier.push(bytes.subarray(at, at + 32_768));
    const verdict = verifier.finish();
    t.ok(verifier.peakMemory <= budget, `${budget} bytes: ${verifier.peakMemory} used`);
    if (verdict.ok) {
      const { facts } = verdict.snapshot;
      const { hash, revision, totalKeys, sha256 } = facts;
      t.strictSame([hash, revision, totalKeys, sha256], [whole.hash, whole.revision, whole.totalKeys, whole.sha256]);
      for (const fact of ['hashKV', 'liveKeys'] as const) {
        if (facts[fact] !== undefined) t.strictSame(facts[fact], whole[fact], fact);
      }
      const left = [facts.liveKeys, facts.hashKV].filter((fact) => fact !== undefined).length;
      const state = ['structure', 'live keys', 'everything'][left] ?? '';
      if (seen.at(-1) !== state) seen.push(state);
    } else {
      t.ok(verdict.undecided, 'not found broken');
      t.strictSame(kinds(verdict), ['budget']);
      t.equal(verdict.report.sha256, whole.sha256);
      if (seen.at(-1) !== 'nothing') seen.push('nothing');
    }
  }
  t.strictSame(seen, ['everything', 'live keys', 'structure', 'nothing']);
});

/** The first page of a run that fits from page `id` up to page `end`. */
const image = (id: number, end: number): Buffer =>
  run(id, LEAF, [{ key: Buffer.from('x'), value: Buffer.alloc((end - id) * PAGE - 33, 1) }]).subarray(0, PAGE);

t.test('values that look like pages are valid', async (t) => {
  t.ok(verify(snapshotOf('etcd-3.5.16-pageimages')).ok);
  // Thirty runs begin in the value and reach to the end of the database; a sound run of three pages is among their pages.
  const images = 30;
  const end = 4 + images + 3 + 3;
  const value = Buffer.alloc((images + 2) * PAGE);
  const key = '/registry/configmaps/images';
  const start = 16 + 16 * 2 + 17 + (revision(2, 0, key, value).value?.length ?? 0) - value.length;
  for (let i = 1; i <= images; i++) image(4 + i, end).copy(value, i * PAGE - start);
  const outer = run(4, LEAF, [
    revision(2, 0, key, value),
    revision(3, 0, '/registry/secrets/small', Buffer.alloc(100)),
  ]);
  const big = run(4 + images + 3, LEAF, [revision(4, 0, '/registry/secrets/big', Buffer.alloc(2 * PAGE))]);
  const facts = factsOf(verify(withKeys(run(3, BRANCH, [childKey(2, 4), childKey(4, 4 + images + 3)]), outer, big)));
  t.equal(facts.liveKeys, 3);
});

t.test('free pages full of runs: valid, unless too many are open at once', async (t) => {
  const withOpen = (count: number): Buffer => {
    const end = 4 + count + 3;
    const stale = Array.from({ length: count }, (_, i) => image(4 + i, end));
    return withKeys(
      run(3, BRANCH, [childKey(4, 4 + count)]),
      ...stale,
      run(4 + count, LEAF, [revision(4, 0, '/registry/secrets/big', Buffer.alloc(2 * PAGE))]),
    );
  };
  t.equal(factsOf(verify(withOpen(15))).liveKeys, 1);
  const verdict = verify(withOpen(16));
  t.strictSame(kinds(verdict), ['overlap']);
  if (!verdict.ok) t.ok(verdict.undecided, 'it may be sound');
});

t.test('trees that are none', async (t) => {
  const leaf = (id: number, first: number): Buffer => run(id, LEAF, entries(first, 5));
  const cases: Record<string, [Buffer, string]> = {
    'a branch that is its own child': [withKeys(run(3, BRANCH, [childKey(2, 3), childKey(5, 3)])), 'tree'],
    'two branches that are each other’s children': [
      withKeys(run(3, BRANCH, [childKey(2, 4)]), run(4, BRANCH, [childKey(2, 3)])),
      'tree',
    ],
    'a child that is used twice': [withKeys(run(3, BRANCH, [childKey(2, 4), childKey(9, 4)]), leaf(4, 2)), 'tree'],
    'a child that is the root leaf': [withKeys(run(3, BRANCH, [childKey(2, 2)])), 'tree'],
    'a child past the end': [withKeys(run(3, BRANCH, [childKey(2, 99)])), 'tree'],
    'leaves in the wrong order': [
      withKeys(run(3, BRANCH, [childKey(2, 5), childKey(12, 4)]), leaf(4, 2), leaf(5, 12)),
      'order',
    ],
    'a branch whose key is not that of its child': [
      withKeys(run(3, BRANCH, [childKey(2, 4), childKey(11, 5)]), leaf(4, 2), leaf(5, 12)),
      'order',
    ],
    'leaves that overlap': [
      withKeys(run(3, BRANCH, [childKey(2, 4), childKey(5, 5)]), leaf(4, 2), leaf(5, 5)),
      'order',
    ],
    'a run that reaches over its neighbour': [
      withKeys(
        run(3, BRANCH, [childKey(2, 4), childKey(12, 5)]),
        run(4, LEAF, [revision(2, 0, 'k', Buffer.alloc(5000))]).subarray(0, PAGE),
        leaf(5, 12),
      ),
      'tree',
    ],
  };
  for (const [name, [bytes, kind]] of Object.entries(cases)) {
    const verdict = verify(bytes);
    t.ok(kinds(verdict).includes(kind), `${name}: ${verdict.ok ? 'accepted' : verdict.problems[0].message}`);
    if (!verdict.ok) t.notOk(verdict.undecided);
  }
  const chain = Array.from({ length: 40 }, (_, i) => run(3 + i, BRANCH, [childKey(2, 4 + i)]));
  const deep = verify(withKeys(...chain, leaf(43, 2)));
  t.match(deep.report.faults[0]?.message, /more than 16 levels/);
});

t.test('buckets that are none', async (t) => {
  const root = (values: Partial<Record<string, Buffer>>, change?: (entries: Entry[]) => Entry[]): Buffer => {
    const all = rootEntries(values);
    return seal(database(2, [run(2, LEAF, change?.(all) ?? all)]));
  };
  t.ok(verify(root({})).ok, 'all empty');
  t.ok(verify(root({ test: bucket(0, []) })).ok, 'the bucket of test builds');
  const inline = (entry: Entry): Buffer => bucket(0, [entry]);
  const word = (text: string, value: string | number[]): Entry => ({
    key: Buffer.from(text),
    value: typeof value === 'string' ? Buffer.from(value) : Buffer.from(value),
  });
  const cases: Record<string, Buffer> = {
    'a bucket too many': root({ zoo: bucket(0, []) }),
    'a bucket too few': root({}, (all) => all.slice(1)),
    'no flag': root({}, (all) => all.map((entry, i) => (i === 3 ? { ...entry, flags: 0 } : entry))),
    'a bucket inside a bucket': root({ meta: bucket(0, [{ key: Buffer.from('a'), value: bucket(0, []), flags: 1 }]) }),
    'bytes behind the header of a bucket with pages': root({ auth: Buffer.concat([bucket(9), Buffer.alloc(3)]) }),
    'a key that is no revision': root({ key: inline(word('12345678_12345678', 'x')) }),
    'a name among revisions': root({ key: bucket(0, [revision(2, 0, 'k', Buffer.from('v')), word('a', 'b')]) }),
    'a record that does not parse': root({
      key: inline({ ...revision(2, 0, 'k'), key: revision(2, 0, 'k', Buffer.alloc(1)).key }),
    }),
    'another mod_revision': root({
      key: inline({ ...revision(2, 0, 'k', Buffer.alloc(1)), key: revision(3, 0, 'k', Buffer.alloc(1)).key }),
    }),
    'a tombstone with a value': root({
      key: inline({ ...revision(2, 0, 'k', Buffer.alloc(1)), key: revision(2, 0, 'k').key }),
    }),
    'a lease that is none': root({ lease: inline(word('12345678', [0x0a, 1, 65])) }),
    'a member that is no JSON': root({ members: inline(word('8e9e05c52164694d', '{"id":')) }),
    'a member that is no id': root({ members: inline(word('M1', '{}')) }),
    'an alarm that is none': root({ alarm: inline(word('\u000a', '')) }),
    'an impossible authEnabled': root({ auth: inline(word('authEnabled', [2])) }),
    'an impossible version': root({ cluster: inline(word('clusterVersion', 'new')) }),
    'a confState that is no JSON': root({ meta: inline(word('confState', '{"voters":[1,')) }),
    'a voter that is no id': root({ meta: inline(word('confState', '{"voters":["m"]}')) }),
    'an impossible compaction': root({ meta: inline(word('finishedCompactRev', 'short')) }),
  };
  for (const [name, bytes] of Object.entries(cases)) {
    const verdict = verify(bytes);
    const isFound = kinds(verdict).some((kind) => kind === 'bucket' || kind === 'content');
    t.ok(isFound, `${name}: ${verdict.ok ? 'accepted' : verdict.problems[0].message}`);
  }
});

t.test('content is read from buckets with pages of their own, too', async (t) => {
  const urls = Array.from({ length: 5 }, (_, i) => `http://10.0.0.${i}:2380/${'x'.repeat(200)}`);
  const members = urls.map((url, i) => ({
    key: Buffer.from(`${i}e9e05c52164694d`),
    value: Buffer.from(
      JSON.stringify({ id: i, peerURLs: [url], clientURLs: [url], name: `m${i}`, isLearner: i === 4 }),
    ),
  }));
  const bytes = seal(database(2, [run(2, LEAF, rootEntries({ members: bucket(3) })), run(3, LEAF, members)]));
  const facts = factsOf(verify(bytes));
  t.equal(facts.members.length, 5);
  t.strictSame(facts.members[4], {
    id: '4e9e05c52164694d',
    name: 'm4',
    peerURLs: [urls[4]],
    clientURLs: [urls[4]],
    isLearner: true,
  });
});

t.test('raft makes voting members of learners, never the reverse', async (t) => {
  const member = (id: string, isLearner: boolean): Buffer => Buffer.from(JSON.stringify({ id, name: id, isLearner }));
  // Beyond 2^53: as numbers of JavaScript all of them would be the same.
  const ids = ['8000000000000001', '8000000000000002', '8000000000000003'];
  const members = ids.map((id, i) => ({ key: Buffer.from(id), value: member(id, i > 0) }));
  const learnersWith = (confState?: string): [string[], readonly string[]] => {
    const entry = { key: Buffer.from('confState'), value: Buffer.from(confState ?? '') };
    const meta = confState === undefined ? {} : { meta: bucket(0, [entry]) };
    const bytes = seal(
      database(2, [run(2, LEAF, rootEntries({ ...meta, members: bucket(3) })), run(3, LEAF, members)]),
    );
    const facts = factsOf(verify(bytes));
    const learners = facts.members.filter(({ isLearner }) => isLearner).map(({ id }) => id.slice(-1));
    return [learners, facts.unwrittenPromotions.map((id) => id.slice(-1))];
  };
  const [a, b, c] = ids.map((id) => BigInt(`0x${id}`));
  t.strictSame(learnersWith(), [['2', '3'], []], 'before 3.5');
  t.strictSame(learnersWith(`{"voters":[${a}],"learners":[${b},${c}],"auto_leave":false}`), [['2', '3'], []]);
  t.strictSame(learnersWith(`{"voters":[${a},${c}],"learners":[${b}],"auto_leave":false}`), [['2'], ['3']]);
  t.strictSame(learnersWith(`{"voters":[${b},${c}],"auto_leave":false}`), [[], ['2', '3']]);
  for (const list of ['voters', 'learners', 'voters_outgoing', 'learners_next']) {
    const state = { voters: [], ...{ [list]: ['OLD'] } };
    const text = JSON.stringify(state)
      .replace('[]', `[${b},${c}]`)
      .replace('"OLD"', String(c! + 1n));
    t.strictSame(learnersWith(text), [['2', '3'], []], `one of ${list} is of another cluster`);
  }
  t.strictSame(learnersWith('{"voters":null,"auto_leave":false}'), [['2', '3'], []], 'not written yet');

  const { members: real, unwrittenPromotions } = factsOf(verify(readFileSync(PROMOTED)));
  t.strictSame(
    real.map(({ name, isLearner }) => ({ name, isLearner })),
    ['', 'm1', ''].map((name) => ({ name, isLearner: false })),
    'of a real server',
  );
  t.strictSame(unwrittenPromotions, [real[0]?.id, real[2]?.id]);
});

t.test('sizes are checked, not trusted', async (t) => {
  const base = database(2, [run(2, LEAF, rootEntries({ key: bucket(3) })), run(3, LEAF, entries(2, 5))]);
  const fields: Record<string, [number, number]> = {
    'overflow of the largest size': [12, 4],
    'the most elements': [10, 2],
    'a position far away': [16 + 4, 4],
    'a key of 4 GiB': [16 + 8, 4],
    'a value of 4 GiB': [16 + 12, 4],
  };
  for (const [name, [at, width]] of Object.entries(fields)) {
    const bytes = Buffer.from(base);
    bytes.fill(0xff, 3 * PAGE + at, 3 * PAGE + at + width);
    const verifier = new SnapshotVerifier();
    verifier.push(seal(bytes));
    const verdict = verifier.finish();
    t.notOk(verdict.ok, name);
    t.ok(verifier.peakMemory < 1024 * KIB, `${verifier.peakMemory} bytes`);
  }
  const meta = Buffer.alloc(100);
  database(2, [run(2, LEAF, rootEntries())]).copy(meta);
  meta.writeUInt32LE(2 ** 24, 24);
  t.notOk(verify(meta).ok, 'a page size of 16 MiB');
});

t.test('many problems are counted, a hundred listed', async (t) => {
  const children = Array.from({ length: 150 }, (_, i) => childKey(2 + i, 4 + i));
  const lost = Array.from({ length: 150 }, () => Buffer.alloc(PAGE));
  const { report } = verify(withKeys(run(3, BRANCH, children.slice(0, 120)), ...lost));
  t.equal(report.faults.length, 100);
  t.equal(report.faultCount, 120);
});

t.test('a user key that is cut by a page border is the same key', async (t) => {
  // The record of the second key begins near the end of the first page of its run.
  for (let size = 3900; size < 4100; size += 7) {
    const first = revision(2, 0, '/registry/pods/a', Buffer.alloc(size));
    const second = revision(3, 0, '/registry/configmaps/kube-system/the-second-one', Buffer.alloc(3000));
    const third = revision(4, 0, '/registry/configmaps/kube-system/the-second-one');
    const { liveKeys } = factsOf(verify(withKeys(run(3, LEAF, [first, second])), PAGE));
    t.equal(liveKeys, 2);
    const after = factsOf(verify(withKeys(run(3, LEAF, [first, second, third])), PAGE));
    t.equal(after.liveKeys, 1, `${size}: the tombstone meets its key`);
  }
});

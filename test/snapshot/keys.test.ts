import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { countResources, KeyScanner, type LiveKey, sampler } from '../../src/snapshot/keys.ts';
import { openFile } from '../../src/snapshot/source.ts';
import type { KeyPages } from '../../src/snapshot/verify/verdict.ts';
import { crc32c } from '../../src/snapshot/verify/checksums.ts';
import { compareKeys, isZero } from '../../src/snapshot/verify/page.ts';
import { clusterSnapshot } from '../support/object-fixtures.ts';
import { snapshot, vectors } from '../support/vectors.ts';
import { factsOf, verify } from '../support/verify.ts';

t.test('resources', async (t) => {
  const liveKey = (key: string, recordSize = 1): LiveKey => ({
    ...{ key, recordSize, modRevision: 1, version: 1, size: 0, crc: 0 },
  });
  const nameOf = (key: string): string | undefined => countResources([liveKey(key)])[0]?.name;
  const names: Record<string, string> = {
    '/registry/pods/default/web-1': 'pods',
    '/registry/pods/default/web-2': 'pods',
    '/registry/services/specs/default/web': 'services/specs',
    '/registry/services/endpoints/default/web': 'services/endpoints',
    '/registry/servicesx/specs/a': 'servicesx',
    '/registry/apiregistration.k8s.io/apiservices/v1.apps': 'apiregistration.k8s.io/apiservices',
    '/registry/example.com/lonely': 'example.com',
    '/registry/masterleases/10.0.0.1': 'masterleases',
    '/registry/minions/node-1': 'minions',
    '/registry/health': '(other)',
    '/registry/': '(other)',
    '/registry//x': '(other)',
    '/registrx/pods/a': '(other)',
    compact_rev_key: '(other)',
    '': '(other)',
  };
  for (const [key, name] of Object.entries(names)) t.equal(nameOf(key), name, key);
  t.strictSame(
    countResources([liveKey('/registry/pods/a', 5), liveKey('/registry/secrets/a', 9), liveKey('/registry/pods/b', 6)]),
    [
      { name: 'pods', keys: 2, bytes: 11 },
      { name: 'secrets', keys: 1, bytes: 9 },
    ],
  );
  const many = Array.from({ length: 10_000 }, (_, i) => liveKey(`/registry/kind-${i}/object`));
  const counts = countResources(many);
  t.equal(counts.length, 4097, 'resources that no cluster has do not fill the table');
  t.match(counts[0], { name: '(other)', keys: 10_000 - 4096 });
});

t.test('bytes of pages', async (t) => {
  const compare = (a: string, b: string): number =>
    Math.sign(compareKeys(Buffer.from(`-${a}`), 1, a.length, Buffer.from(`--${b}`), 2, b.length));
  t.strictSame([compare('a', 'b'), compare('b', 'a'), compare('a', 'a')], [-1, 1, 0]);
  t.strictSame([compare('a', 'aa'), compare('aa', 'a'), compare('', 'a')], [-1, 1, -1]);
  const bytes = Buffer.alloc(200_000);
  t.ok(isZero(bytes, 0, bytes.length));
  t.ok(isZero(bytes, 7, 7));
  bytes[150_000] = 1;
  t.notOk(isZero(bytes, 100, bytes.length));
  t.ok(isZero(bytes, 100, 150_000));
  t.ok(isZero(bytes, 150_001, bytes.length));
});

t.test('a sample has keys of everywhere, and all revisions of each', (t) => {
  const keys = Array.from({ length: 20_000 }, (_, i) => Buffer.from(`/registry/pods/default/pod-${i}`));
  const chosen = keys.map((key, i) => ({ i, is: sampler(100, keys.length)(key) })).filter(({ is }) => is);
  t.ok(chosen.length > 50 && chosen.length < 200, `${chosen.length} chosen`);
  for (let part = 0; part < 4; part++)
    t.ok(
      chosen.some(({ i }) => Math.floor(i / 5000) === part),
      `quarter ${part}`,
    );
  t.ok(keys.slice(0, 100).every(sampler(100, 100)), 'few keys are all chosen');
  t.end();
});

t.test('leaves alone have the same entries as the whole file, in pieces of any size', async (t) => {
  const { signal } = new AbortController();
  const dir = t.testdir();
  for (const bytes of [clusterSnapshot(), ...vectors().map(snapshot)]) {
    const { keyPages } = factsOf(verify(bytes));
    const file = join(dir, 'snapshot.db');
    writeFileSync(file, bytes);
    const whole = entriesOf(keyPages, (scanner) => scanner.push(bytes));
    const cut = entriesOf(keyPages, (scanner) => {
      for (let at = 0; at < bytes.length; at += 5000) scanner.push(bytes.subarray(at, at + 5000));
    });
    t.strictSame(cut, whole);
    const { readPlaces } = await openFile(file, signal);
    const leaves: Buffer[] = [];
    for await (const leaf of readPlaces!(new KeyScanner(keyPages, () => {}).places())) leaves.push(Buffer.from(leaf));
    t.strictSame(
      entriesOf(keyPages, (scanner) => leaves.forEach((leaf) => scanner.pushLeaf(leaf))),
      whole,
    );
  }
  const { readPlaces } = await openFile(join(dir, 'snapshot.db'), signal);
  const beyond = readPlaces!([{ at: 2 ** 40, size: 1 }])[Symbol.asyncIterator]();
  await t.rejects(beyond.next(), { message: /cannot be read/ }, 'a file that became shorter');
});

function entriesOf(pages: KeyPages, read: (scanner: KeyScanner) => void): string[] {
  const found: string[] = [];
  const scanner = new KeyScanner(pages, ({ keyText, main, sub, value, valueSize, version }, run) => {
    found.push([keyText, main, sub, version, valueSize, run, crc32c(value)].join(' '));
  });
  read(scanner);
  return found;
}

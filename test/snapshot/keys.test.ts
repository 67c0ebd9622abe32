import t from 'tap';
import { countResources, type LiveKey, sampler } from '../../src/snapshot/keys.ts';
import { compareKeys, isZero } from '../../src/snapshot/verify/page.ts';

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

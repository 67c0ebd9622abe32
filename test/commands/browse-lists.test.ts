import { truncate } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { startBrowse } from '../support/browse-server.ts';
import { EtcdCluster, findEtcd } from '../support/etcd.ts';
import { findJudge, without } from '../support/judges.ts';
import { mustRun, temporaryFolder } from '../support/process.ts';
import { until } from '../support/until.ts';

const dir = temporaryFolder('browse-lists');
const tools = findEtcd().at(-1);
if (tools === undefined) throw new Error('no etcd');
const etcd = await EtcdCluster.start({ tools, dir: join(dir, 'etcd') });
t.teardown(async () => etcd.stop());
const base64 = (text: string): string => Buffer.from(text).toString('base64');
const put = async (namespace: string, name: string, size: number): Promise<void> => {
  const object = {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name, namespace },
    data: { text: 'x'.repeat(size) },
  };
  await etcd.gateway('/v3/kv/put', {
    key: base64(`/registry/configmaps/${namespace}/${name}`),
    value: base64(JSON.stringify(object)),
  });
};
const names = (prefix: string, count: number): string[] =>
  Array.from({ length: count }, (_, number) => `${prefix}-${String(number).padStart(2, '0')}`);
// More than the 24 MB that are read at once: in one namespace, and in all of them.
for (const name of names('large', 30)) await put('large', name, 1_000_000);
for (const namespace of names('small', 8)) for (const name of names('map', 4)) await put(namespace, name, 500_000);
await etcd.etcdctl('del', '/registry/configmaps/large/large-07');
for (const [name, version] of [
  ['new', 'v1'],
  ['old', 'v1alpha1'],
]) {
  const object = { apiVersion: `example.com/${version}`, kind: 'Gadget', metadata: { name, namespace: 'shop' } };
  await etcd.etcdctl('put', `/registry/example.com/gadgets/shop/${name}`, JSON.stringify(object));
}
// Neither can be read: the one is encrypted, the other corrupt.
await etcd.etcdctl('put', '/registry/secrets/shop/closed', 'k8s:enc:aesgcm:v1:key1:x');
await etcd.etcdctl('put', '/registry/configmaps/small-00/zero', 'corrupt');
await etcd.etcdctl('snapshot', 'save', join(dir, 'snapshot.db'));
const { worker, url, logged } = await startBrowse(join(dir, 'snapshot.db'));
t.teardown(() => worker.kill());

interface List {
  readonly metadata: { readonly continue?: string };
  readonly items: { readonly metadata: { readonly name: string; readonly namespace: string } }[];
}

async function list(path: string): Promise<string[]> {
  const found: string[] = [];
  for (let token = ''; ;) {
    const answer = await fetch(`${url}${path}${token}`);
    const { metadata, items } = (await answer.json()) as List;
    found.push(...items.map(({ metadata: { namespace, name } }) => `${namespace}/${name}`));
    if (metadata.continue === undefined) return found;
    token = `&continue=${metadata.continue}`;
  }
}

const LARGE = names('large/large', 30).filter((name) => !name.endsWith('07'));
const SMALL = names('small', 8).flatMap((namespace) => names(`${namespace}/map`, 4));

t.test('lists that are larger than what is kept in memory', async (t) => {
  const path = '/api/v1/namespaces/large/configmaps?limit=';
  t.strictSame(await list(`${path}0`), LARGE);
  t.strictSame(await list(`${path}7`), LARGE);
  t.strictSame(await list('/api/v1/configmaps?limit=0'), [...LARGE, ...SMALL]);
  t.strictSame(await list('/api/v1/configmaps?limit=10'), [...LARGE, ...SMALL]);
});

t.test('single objects, and several requests at the same time', async (t) => {
  const get = async (path: string): Promise<number> => (await fetch(`${url}/api/v1/namespaces/${path}`)).status;
  t.equal(await get('large/configmaps/large-29'), 200);
  t.equal(await get('large/configmaps/large-07'), 404);
  const paths = SMALL.map((name) => name.replace('/', '/configmaps/'));
  t.strictSame(new Set(await Promise.all(paths.map(get))), new Set([200]));
});

t.test('a type whose objects are stored in two versions has all of them in each', async (t) => {
  for (const version of ['v1', 'v1alpha1']) {
    const path = `/apis/example.com/${version}`;
    t.strictSame(await list(`${path}/gadgets?limit=0`), ['shop/new', 'shop/old'], version);
    const answer = await fetch(`${url}${path}/namespaces/shop/gadgets/old`);
    t.match(await answer.json(), { apiVersion: 'example.com/v1alpha1', metadata: { name: 'old' } }, version);
  }
});

t.test('built-in types without objects exist', async (t) => {
  for (const path of ['api/v1/events', 'api/v1/namespaces/shop/secrets', 'apis/apps/v1/replicasets'])
    t.strictSame(await list(`/${path}?limit=0`), [], path);
  if (without('kubectl') !== false) return;
  const words = ['--server', url, 'get', 'events,rs,secrets,pods,ingress,nodes', '-A', '-o', 'name'];
  t.equal(await mustRun(findJudge('kubectl') ?? '', words, { HOME: dir, KUBECONFIG: '/dev/null' }), '');
});

t.test('a value that cannot be read has an answer that says so', async (t) => {
  for (const [path, key, problem] of [
    ['shop/secrets/closed', '/registry/secrets/shop/closed', 'is encrypted with key key1 of aesgcm'],
    ['small-00/configmaps/zero', '/registry/configmaps/small-00/zero', 'is not an object of Kubernetes'],
  ] as const) {
    const count = (start: string): number =>
      logged().filter((line) => line.startsWith(`${start} the value of ${key}: it`)).length;
    for (let times = 1; times < 3; times++) {
      const answer = await fetch(`${url}/api/v1/namespaces/${path}`);
      t.equal(answer.status, 500);
      t.match(((await answer.json()) as { message: string }).message, `cannot be read: its value ${problem}`, path);
      await until(() => count('cannot read') === times);
    }
    const listed = `/api/v1/namespaces/${path.slice(0, path.lastIndexOf('/'))}?limit=0`;
    await list(listed);
    await list(listed);
    await until(() => count('skipped') > 0);
    t.equal(count('skipped'), 1, path);
  }
});

/** The beginning of a list that needs a second read, after more than the buffers of a connection can hold. */
async function begin(): Promise<{ rest: () => Promise<void>; leave: () => Promise<void> }> {
  const answer = await fetch(`${url}/api/v1/configmaps`);
  const reader = answer.body!.getReader();
  await reader.read();
  const rest = async (): Promise<void> => {
    while (!(await reader.read()).done);
  };
  return { rest, leave: async () => reader.cancel() };
}

t.test('a client that leaves is no failure; a file that changes meanwhile is one', async (t) => {
  const { leave } = await begin();
  await leave();
  const { rest } = await begin();
  t.notMatch(logged().join(), 'a request failed');
  await truncate(join(dir, 'snapshot.db'), 1_000_000);
  await t.rejects(rest(), 'the list does not look complete');
  await until(() =>
    logged().some((line) => /^a request failed .*snapshot\.db was changed while it was read/.test(line)),
  );
});

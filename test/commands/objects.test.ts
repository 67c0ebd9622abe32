import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { parse, parseAllDocuments } from 'yaml';
import { jsonOf, runCommand } from '../support/command.ts';
import { EtcdCluster, findEtcd } from '../support/etcd.ts';
import { clusterSnapshot } from '../support/object-fixtures.ts';
import { run, temporaryFolder } from '../support/process.ts';
import { OBJECTS } from '../support/stored-objects.ts';
import { errorOf, MAIN } from '../support/worker.ts';

const dir = temporaryFolder('objects');
const snapshot = join(dir, 'cluster.db');
writeFileSync(snapshot, clusterSnapshot());
const config = join(OBJECTS, 'encryption.json');

interface Named {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
}

/* oxlint-disable typescript/no-unsafe-member-access, typescript/no-unsafe-call -- objects of any kind */

t.test('--get -o json and -o yaml show the object as the API server does', async (t) => {
  const get = async (key: string, format: string, ...more: string[]) =>
    runCommand(['inspect', snapshot, '--get', key, '-o', format, ...more], {});
  const json = await get('/registry/deployments/shop/web', 'json');
  t.equal(json.code, 0, json.stderr);
  const yaml = await get('/registry/deployments/shop/web', 'yaml');
  t.strictSame(parse(yaml.stdout), JSON.parse(json.stdout));
  t.match(JSON.parse(json.stdout), { apiVersion: 'apps/v1', kind: 'Deployment', spec: { replicas: 2 } });
  t.match(yaml.stdout, /^apiVersion: apps\/v1\nkind: Deployment\nmetadata:\n {2}annotations:/);
  t.match((await get('/registry/deployments/shop/idle', 'yaml')).stdout, /^ {2}replicas: 0$/m, 'an explicit zero');
  t.match((await get('/registry/example.com/widgets/shop/big', 'yaml')).stdout, /^ {4}big: 9007199254740993$/m);
  const definition = await get('/registry/apiextensions.k8s.io/customresourcedefinitions/widgets.example.com', 'json');
  t.match(JSON.parse(definition.stdout), { apiVersion: 'apiextensions.k8s.io/v1' });

  const raw = await runCommand(['inspect', snapshot, '--get', '/registry/secrets/default/aesgcm', '-o', 'raw'], {});
  t.match(raw.stdout, /^k8s:enc:aesgcm:v1:key1:/);
  for (const provider of ['aescbc', 'aesgcm', 'secretbox']) {
    const key = `/registry/secrets/default/${provider}`;
    const closed = await get(key, 'yaml');
    t.equal(closed.code, 3);
    t.match(errorOf(closed), {
      message: new RegExp(`${key} is encrypted with key key1 of ${provider}\\.$`),
      hint: /--encryption-config FILE/,
    });
    const open = await get(key, 'yaml', '--encryption-config', config);
    t.match(open.stdout, `password: ${Buffer.from(provider).toString('base64')}`, open.stderr);
  }
});

t.test('options that do not go together are refused', async (t) => {
  for (const [words, message] of [
    [['--get', '/x', '-o', 'xml'], /is not a format/],
    [['-o', 'yaml'], /format of one value/],
    [['--get', '/x', '-o', 'yaml', '--json'], /cannot be combined/],
    [['--objects', '--get', '/x'], /cannot be combined/],
    [['--namespace', 'x'], /needs --objects/],
    [['--objects', '-o', 'yaml'], /needs a key or two snapshots/],
    [['--objects', '--kind', 'a,,b'], /empty name/],
  ] as const) {
    const refused = await runCommand(['inspect', snapshot, ...words], {});
    t.equal(refused.code, 2, words.join(' '));
    t.match(errorOf(refused).message, message);
  }
  t.match(errorOf(await runCommand(['extract', snapshot], {})).message, /No output is given/);
  t.match(errorOf(await runCommand(['extract', snapshot, '-o', '-', '-l', 'a b'], {})).message, /not a selector/);
});

t.test('--objects lists the objects of a namespace', async (t) => {
  const listed = await runCommand(
    ['inspect', snapshot, '--objects', '-n', 'shop', '--kind', 'deployments,Service'],
    {},
  );
  t.equal(listed.code, 0, listed.stderr);
  const lines = listed.stdout
    .trim()
    .split('\n')
    .map((line) => line.split(/ +/).slice(0, 2).join(' '));
  t.strictSame(lines, [
    ...['NAMESPACE NAME', 'shop deployment.apps/idle', 'shop deployment.apps/web', ''],
    ...['NAMESPACE NAME', 'shop service/db', 'shop service/web'],
  ]);
  t.match(listed.stdout, /NAME +READY +UP-TO-DATE +AVAILABLE +AGE\n\S+ +\S+idle +0\/0 /);
  t.match(listed.stdout, /NAME +TYPE +CLUSTER-IP +EXTERNAL-IP +PORT\(S\) +AGE\n\S+ +\S+db +ClusterIP +None +<none> /);
  const wide = await runCommand(['inspect', snapshot, '--objects', '--kind', 'StatefulSet', '-o', 'wide'], {});
  t.match(wide.stdout, /NAME +READY +AGE +CONTAINERS +IMAGES\n\S+ +statefulset\.apps\/db +0\/1 +\S+ +db +\S+\n/);
  const all = await runCommand(['inspect', snapshot, '--objects', '--json'], {});
  t.equal(all.code, 3, 'Secrets cannot be read without their keys');
  const { objects, unreadable, error } = JSON.parse(all.stdout) as {
    objects: Named[];
    unreadable: { key: string }[];
    error: { message: string; hint: string };
  };
  t.ok(objects.length > 200);
  t.strictSame(
    unreadable.map(({ key }) => key),
    ['aescbc', 'aesgcm', 'secretbox'].map((name) => `/registry/secrets/default/${name}`),
  );
  t.match(error, { message: /^3 values could not be read: /, hint: /--encryption-config FILE/ });
  const readable = await runCommand(['inspect', snapshot, '--objects', '--encryption-config', config], {});
  t.equal(readable.code, 0, readable.stderr);
});

t.test('extract writes a namespace as files that kubectl can apply', async (t) => {
  const target = join(dir, 'shop');
  const finished = await runCommand(['extract', snapshot, '--namespace', 'shop', '-o', target], {});
  t.equal(finished.code, 0, finished.stderr);
  t.match(finished.stdout, /\d+ objects extracted to /);
  t.match(finished.stdout, /data of volumes are not in etcd/);
  const files = readdirSync(target, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.yaml'));
  t.ok(files.includes('_cluster/namespace/shop.yaml'));
  t.ok(files.includes('shop/deployment.apps/web.yaml'));
  t.notOk(
    files.some((name) =>
      /\/(?:pod|replicaset\.apps|endpoints|endpointslice\.discovery\.k8s\.io|event|lease)[./]/.test(name),
    ),
    files.join(),
  );
  for (const name of [...files, '.', 'shop', 'shop/deployment.apps']) {
    const { mode } = statSync(join(target, name));
    t.equal(mode & 0o777, name.endsWith('.yaml') ? 0o600 : 0o700, name);
  }
  const read = (name: string) => parse(readFileSync(join(target, name), 'utf8'));
  const { resources } = read('kustomization.yaml') as { resources: string[] };
  t.strictSame(resources.toSorted(), files.filter((name) => name !== 'kustomization.yaml').toSorted());
  t.equal(resources[0], '_cluster/namespace/shop.yaml');
  const service = read('shop/service/web.yaml');
  t.strictSame(Object.keys(service.spec).includes('clusterIP'), false);
  t.equal(read('shop/service/db.yaml').spec.clusterIP, 'None');
  t.notMatch(read('shop/job.batch/once.yaml'), { spec: { selector: {} } });
  const texts = read('shop/configmap/texts.yaml');
  t.strictSame(texts.data, {
    ...{ true: 'no', number: '0123', empty: '', trailing: 'two lines\nand spaces  \n\n' },
    'script.sh': "#!/bin/sh\n\techo 'a tab'\n\n  indented\n",
    control: 'DEL \u007f NEL \u0085 C1 \u009b BOM \ufeff LS \u2028 ☃ 😀',
  });
  for (const name of files.filter((file) => file !== 'kustomization.yaml')) {
    t.notMatch(
      Object.keys(read(name).metadata).join(),
      /uid|resourceVersion|creationTimestamp|managedFields|ownerReferences/,
    );
    t.equal(read(name).status, undefined);
  }
  const again = await runCommand(['extract', snapshot, '--namespace', 'shop', '-o', target], {});
  t.equal(again.code, 20, 'not into a directory with files');
});

t.test('extract -o - writes a stream, in order; only what is asked for', async (t) => {
  const stream = async (...words: string[]) => {
    const { code, stdout, stderr } = await runCommand(
      ['extract', snapshot, '-o', '-', '--encryption-config', config, ...words],
      {},
    );
    t.equal(code, 0, stderr);
    return parseAllDocuments(stdout)
      .map((document) => document.toJS() as { kind: string; metadata: { name: string } })
      .filter((object) => object !== null);
  };
  const shop = await stream('-n', 'shop');
  t.equal(shop[0]?.kind, 'Namespace');
  t.ok(shop.findIndex(({ kind }) => kind === 'Secret') < shop.findIndex(({ kind }) => kind === 'Deployment'));
  t.strictSame(
    (await stream('-n', 'shop', '-l', 'app=web,tier=front')).map(({ metadata }) => metadata.name),
    ['web'],
  );
  t.strictSame(
    (await stream('--kind', 'Deployment', '--name', 'i*e')).map(({ metadata }) => metadata.name),
    ['idle'],
  );
  t.ok((await stream('-n', 'shop', '--kind', 'Pod')).length >= 4, 'a type that is asked for');
  const [stored] = await stream('-n', 'shop', '--kind', 'Service', '--name', 'web', '--as-stored');
  t.match(stored, { metadata: { uid: /-/ }, spec: { clusterIP: /^10\./ }, status: {} });
  t.strictSame(await stream('--etcd-prefix', '/other'), []);
});

t.test('a terminal sees no values of Secrets, unless they are asked for', async (t) => {
  const onTerminal = async (...words: string[]) => {
    const command = [
      process.execPath,
      '--',
      MAIN,
      'extract',
      snapshot,
      '-n',
      'shop',
      '--kind',
      'Secret',
      '-o',
      '-',
      ...words,
    ];
    return (await run('script', ['-qec', command.map((word) => `'${word}'`).join(' '), '/dev/null'], { TERM: 'xterm' }))
      .stdout;
  };
  const secret = Buffer.from('correct horse').toString('base64');
  const hidden = await onTerminal();
  t.match(hidden, /password: "?\(hidden [0-9a-f]{12}\)/);
  t.notMatch(hidden, secret);
  t.match(await onTerminal('--show-secrets'), secret);
});

t.test('values that cannot be read, other prefixes, and differences', async (t) => {
  const tools = findEtcd().at(-1);
  if (tools === undefined) return;
  const etcd = await EtcdCluster.start({ tools, dir: join(dir, 'etcd') });
  t.teardown(async () => etcd.stop());
  const base64 = (text: string | Buffer): string => Buffer.from(text).toString('base64');
  const put = async (key: string, value: string | Buffer): Promise<void> =>
    etcd.gateway('/v3/kv/put', { key: base64(key), value: base64(value) });
  const save = async (name: string): Promise<string> => {
    await etcd.etcdctl('snapshot', 'save', join(dir, name));
    return join(dir, name);
  };
  const map = (namespace: string, name: string, text: string): string =>
    JSON.stringify({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace }, data: { text } });
  const secret = (text: string): string =>
    JSON.stringify({
      ...{ apiVersion: 'v1', kind: 'Secret', data: { password: base64(text) } },
      metadata: {
        name: 's',
        namespace: 'a',
        annotations: { 'kubectl.kubernetes.io/last-applied-configuration': text },
      },
    });
  await put('/registry/configmaps/a/kept', map('a', 'kept', 'x'));
  await put('/registry/configmaps/a/changed', map('a', 'changed', 'one'));
  await put('/registry/configmaps/a/removed', map('a', 'removed', 'x'));
  await put('/registry/secrets/a/s', secret('before'));
  await put('/registry/configmaps/b/hostile', map('../../..', '../../../../tmp/x', 'x'));
  await put('/registry/configmaps/a/garbage', Buffer.from([1, 2, 3]));
  await put('/registry/pods/a/cut', Buffer.from('k8s\0\n\u0007\n\u0002v1\u0012', 'latin1'));
  await put('/registry/widgets/b/garbage', 'x');
  await put('/calico/x/y', 'not of Kubernetes');
  await put('/kubernetes.io/configmaps/a/kept', map('a', 'kept', 'of another cluster'));
  const job = (name: string, more: object, status: object): string =>
    JSON.stringify({ apiVersion: 'batch/v1', kind: 'Job', metadata: { name, namespace: 'c', ...more }, status });
  const complete = { conditions: [{ type: 'Complete', status: 'True' }] };
  await put('/registry/jobs/c/open', job('open', {}, {}));
  await put('/registry/jobs/c/done', job('done', {}, complete));
  await put(
    '/registry/jobs/c/owned',
    job('owned', { ownerReferences: [{ kind: 'CronJob', name: 'x', uid: 'u' }] }, {}),
  );
  await put(
    '/registry/leases/c/l',
    JSON.stringify({ apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: { name: 'l', namespace: 'c' } }),
  );
  await put('/registry/configmaps/c/nameless', JSON.stringify({ apiVersion: 'v1', kind: 'ConfigMap', metadata: {} }));
  await put('/registry/secrets/c/s', 'k8s:enc:aescbc:v1:key1:x');
  await put(
    '/registry/example.com/gadgets/c/g',
    JSON.stringify({ apiVersion: 'example.com/v1', kind: 'Widget', metadata: { name: 'g', namespace: 'c' } }),
  );
  await put('/registry/configmaps/kustomization.yaml/x', map('kustomization.yaml', 'x', 'x'));
  const before = await save('before.db');
  await put('/registry/configmaps/a/changed', map('a', 'changed', 'two'));
  await put('/registry/configmaps/a/kept', map('a', 'kept', 'x'));
  await put('/registry/configmaps/a/added', map('a', 'added', 'x'));
  await put('/registry/secrets/a/s', secret('after'));
  await etcd.etcdctl('del', '/registry/configmaps/a/removed');
  const after = await save('after.db');

  const other = await runCommand(['inspect', before, '--get', '/calico/x/y', '-o', 'yaml'], {});
  t.equal(other.code, 2);
  t.match(errorOf(other).message, /is not an object of Kubernetes/);
  const one = ['--etcd-prefix', '/registry', '-n', 'a'];
  const broken = await runCommand(['extract', before, ...one, '-o', join(dir, 'broken'), '--json'], {});
  t.equal(broken.code, 3, broken.stderr);
  const { unreadable, objects } = JSON.parse(broken.stdout) as {
    unreadable: { key: string; problem: string }[];
    objects: Named[];
  };
  t.strictSame(
    unreadable.map(({ key }) => key).toSorted(),
    ['/registry/configmaps/a/garbage', '/registry/pods/a/cut'],
    'not that of the other namespace',
  );
  t.equal(objects.length, 4);
  const double = await runCommand(['inspect', before, '--objects', '--kind', 'ConfigMap'], {});
  t.equal(double.code, 3);
  t.match(errorOf(double).message, 'has the same object as');

  const ofC = async (code: number, ...words: string[]) =>
    jsonOf<{ objects: Named[]; unreadable: { key: string }[]; notes: string[] }>(
      ['extract', before, '-n', 'c', '-o', '-', ...words],
      {},
      code,
    );
  const all = await ofC(3);
  t.strictSame(all.objects.map(({ name }) => name).toSorted(), ['g', 'open'], 'no Job runs again');
  t.match(all.notes.at(-1), /1 job\.batch \(finished, and would run again\)/);
  t.match(all.notes.at(-1), /1 job\.batch \(made again by a controller\)/);
  t.match(all.notes.at(-1), /1 lease\.coordination\.k8s\.io \(made again by the cluster\)/);
  t.strictSame(all.unreadable.map(({ key }) => key).toSorted(), [
    '/registry/configmaps/c/nameless',
    '/registry/secrets/c/s',
  ]);
  t.strictSame((await ofC(0, '--kind', 'jobs')).objects.length, 3, 'unless they are asked for');
  const widgets = [{ kind: 'Widget', name: 'g' }];
  for (const kind of ['gadgets', 'gadgets.example.com', 'widget'])
    t.match(
      await ofC(0, '--kind', kind),
      { objects: widgets, unreadable: [] },
      'what is not asked for need not be readable',
    );
  t.match(await ofC(3, '--kind', 'secrets'), { objects: [], unreadable: [{ key: '/registry/secrets/c/s' }] });
  const hostile = await runCommand(['extract', before, '--etcd-prefix', '/registry', '-o', join(dir, 'hostile')], {});
  t.equal(hostile.code, 3);
  const written = readdirSync(join(dir, 'hostile'), { recursive: true, encoding: 'utf8' });
  t.ok(
    written.some((name) => /^%2E%2E%2F%2E%2E%2F%2E%2E\/configmap\/[^/]*tmp%2Fx\.yaml$/.test(name)),
    written.join(),
  );
  t.ok(written.includes('kustomization%2Eyaml/configmap/x.yaml'));

  const compare = async (...words: string[]) =>
    runCommand(['inspect', before, after, '--objects', ...one, ...words], {});
  const counted = await compare();
  t.match(
    counted.stdout,
    /^\+ a\/configmap\/added\n- a\/configmap\/removed\n~ a\/configmap\/changed\n~ a\/secret\/s\n1 added, 1 removed, 2 changed\n$/,
  );
  const json = JSON.parse((await compare('--json')).stdout) as Record<'added' | 'removed' | 'changed', Named[]>;
  t.strictSame(
    [json.added, json.removed, json.changed].map((list) => list.map(({ name }) => name)),
    [['added'], ['removed'], ['changed', 's']],
  );
  const diff = (await compare('-o', 'diff')).stdout;
  t.match(diff, /=== a\/configmap\/changed\n[^=]*\n- {2}text: one\n\+ {2}text: two\n/);
  t.match(diff, /=== a\/secret\/s\n[^=]*- {2}password: "\(hidden [^\n]*\n\+ {2}password: "\(hidden /);
  t.notMatch(diff, /before|after|YmVmb3Jl/);
  t.match((await compare('-o', 'diff', '--show-secrets')).stdout, `password: ${base64('after')}`);

  // More than can be sorted in memory.
  for (let number = 0; number < 17; number++) {
    await put(`/registry/configmaps/d/m${number}`, map('d', `m${number}`, 'x'.repeat(1_000_000)));
  }
  const large = await save('large.db');
  for (const words of [
    ['extract', large, '-n', 'd', '-o', '-'],
    ['inspect', before, large, '--objects', '-n', 'd', '-o', 'diff'],
  ]) {
    const refused = await runCommand(words, {});
    t.equal(refused.code, 2);
    t.match(errorOf(refused).message, /more than 16 MB of YAML/);
    t.equal(refused.stdout, '');
  }
  t.match(await jsonOf(['extract', large, '-n', 'd', '-o', join(dir, 'large')], {}), { objects: { length: 17 } });
});

t.test('short names of types, a selection of nothing, and what the API server makes itself', async (t) => {
  const named = async (...words: string[]): Promise<string[]> => {
    const { stdout } = await runCommand(['extract', snapshot, '-o', '-', '--json', ...words], {});
    const { objects } = JSON.parse(stdout) as { objects: { kind: string; name: string }[] };
    return objects.map(({ kind, name }) => `${kind} ${name}`).toSorted();
  };
  t.strictSame(
    await named('-n', 'shop', '--kind', 'deploy,svc'),
    await named('-n', 'shop', '--kind', 'Deployment,Service'),
  );
  t.ok((await named('-n', 'shop', '--kind', 'svc')).length > 1);
  const ofDefault = await named('-n', 'default');
  for (const name of [
    'Service kubernetes',
    'Endpoints kubernetes',
    'EndpointSlice kubernetes',
    'ServiceAccount default',
  ]) {
    t.notOk(ofDefault.includes(name), name);
  }
  t.ok((await named('-n', 'default', '--kind', 'Service')).includes('Service kubernetes'), 'unless they are asked for');
  const nothing = await runCommand(['extract', snapshot, '-n', 'shpo', '-o', '-'], {});
  t.equal(nothing.code, 0, nothing.stderr);
  t.match(nothing.stderr, 'no object of the snapshot is selected');
});

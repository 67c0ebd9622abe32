import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import t from 'tap';
import { findJudge, without } from '../support/judges.ts';
import { clusterSnapshot } from '../support/object-fixtures.ts';
import { mustRun, run, temporaryFolder } from '../support/process.ts';
import { OBJECTS } from '../support/stored-objects.ts';
import { until } from '../support/until.ts';
import { MAIN } from '../support/worker.ts';

const dir = temporaryFolder('browse');
const snapshot = join(dir, 'cluster.db');
writeFileSync(snapshot, clusterSnapshot());

const args = ['--', MAIN, 'browse', snapshot, '--port', '0', '--encryption-config', join(OBJECTS, 'encryption.json')];
const child = spawn(process.execPath, args, {
  env: { SNAPSHOT_LOG_FORMAT: 'json' },
  stdio: ['ignore', 'pipe', 'pipe'],
});
let stderr = '';
child.stderr.setEncoding('utf8').on('data', (piece: string) => (stderr += piece));
await until(() => /http:\/\/127\.0\.0\.1:\d+/.test(stderr) || child.exitCode !== null);
const [url = ''] = /http:\/\/127\.0\.0\.1:\d+/.exec(stderr) ?? [];

interface List {
  readonly kind: string;
  readonly metadata: { readonly continue?: string };
  readonly items: { readonly metadata: { readonly name: string; readonly namespace: string } }[];
}

async function send(path: string, method = 'GET', headers: Record<string, string> = {}) {
  const call = request(`${url}${path}`, { method, headers }).end();
  const [answer] = (await once(call, 'response')) as [IncomingMessage];
  return { status: answer.statusCode, body: JSON.parse((await text(answer)) || '{}') as List };
}

const kubectl = async (...words: string[]) =>
  mustRun(findJudge('kubectl') ?? '', ['--server', url, ...words], { HOME: dir, KUBECONFIG: '/dev/null' });

/** Of the types that are used most. */
const DESCRIBED = [
  ...['deployment/web', 'statefulset/db', 'job/once', 'cronjob/nightly', 'service/db', 'ingress/web'],
  ...['configmap/texts', 'secret/plain', 'persistentvolumeclaim/data', 'serviceaccount/web', 'widget/big'],
];

t.test('a real kubectl reads the snapshot', { skip: without('kubectl') }, async (t) => {
  const lines = async (...words: string[]) =>
    (await kubectl(...words))
      .trim()
      .split('\n')
      .map((line) => line.split(/ +/));
  t.strictSame(
    (await lines('get', 'deploy', '-A')).map((cells) => cells.slice(0, 2)),
    [
      ['NAMESPACE', 'NAME'],
      ['shop', 'idle'],
      ['shop', 'web'],
    ],
  );
  t.strictSame(await lines('get', 'widgets.example.com', '-n', 'shop', '-o', 'name'), [['widget.example.com/big']]);
  t.strictSame(await lines('get', 'wd', '-n', 'shop', '-o', 'name'), [['widget.example.com/big']]);
  t.match(await kubectl('get', 'deploy', '-n', 'shop'), /^NAME +READY +UP-TO-DATE +AVAILABLE +AGE\nidle +0\/0 +0 +0 /);
  t.match(
    await kubectl('get', 'sts', '-n', 'shop', '-o', 'wide'),
    /^NAME +READY +AGE +CONTAINERS +IMAGES\ndb +0\/1 +\S+ +db /,
  );
  t.match(await kubectl('get', 'widgets', '-n', 'shop'), /^NAME +SIZE\nbig +1\n/);
  t.match(await kubectl('get', 'crd'), /^NAME +CREATED AT\nwidgets\.example\.com +2026-/);
  t.match(await kubectl('get', 'pods', '-n', 'shop', '--sort-by=.spec.containers[0].image'), /web-/);
  t.match(await kubectl('get', 'secret', 'secretbox', '-o', 'yaml'), Buffer.from('secretbox').toString('base64'));
  t.match(await kubectl('get', 'crd,clusterrole'), 'widgets.example.com');
  const all = (await kubectl('get', 'all', '-n', 'shop', '-o', 'name')).trim().split('\n');
  const kinds = new Set(all.map((name) => name.split('/')[0]));
  const inAll = ['cronjob.batch', 'deployment.apps', 'horizontalpodautoscaler.autoscaling', 'job.batch', 'pod'];
  t.same(kinds, new Set(inAll.concat('replicaset.apps', 'service', 'statefulset.apps')));
  t.match(await kubectl('get', 'pods', '-A', '-l', 'app=web', '--chunk-size=1'), /web-[^\n]*\n[^\n]*web-/);
  t.match(await kubectl('get', 'svc', 'db', '-n', 'shop', '-o', 'jsonpath={.spec.clusterIP}'), 'None');
  t.match(await kubectl('describe', 'deploy', 'idle', '-n', 'shop'), /Replicas: +0 desired/);
  const described = await kubectl('describe', ...DESCRIBED, '-n', 'shop');
  t.strictSame(
    [...described.matchAll(/^Name: +(\S+)$/gm)].map(([, name]) => name),
    DESCRIBED.map((each) => each.split('/')[1]),
  );
  const resources = await kubectl('api-resources', '--no-headers', '-o', 'wide');
  t.match(resources, /^deployments +deploy +apps\/v1 +true +Deployment +get,list/m);
  t.match(resources, /^widgets +wd +example\.com\/v1 +true +Widget /m);
  t.match(resources, /^namespaces +ns +v1 +false +Namespace /m);
  for (const [selector, names] of [
    ['app in (web, x),tier!=back', 'web'],
    ['app notin (web),!none', 'idle'],
  ] as const) {
    t.equal(
      await kubectl('get', 'deploy', '-n', 'shop', '-l', selector, '-o', 'jsonpath={.items[*].metadata.name}'),
      names,
    );
  }
  const refused = await run(
    findJudge('kubectl') ?? '',
    ['--server', url, 'delete', 'deploy', 'web', '-n', 'shop', '--wait=false'],
    { HOME: dir, KUBECONFIG: '/dev/null' },
  );
  t.not(refused.code, 0);
});

t.test('lists: selectors, fields, pages', async (t) => {
  const names = async (path: string) => (await send(path)).body.items.map(({ metadata }) => metadata.name);
  t.strictSame(await names('/apis/apps/v1/deployments'), ['idle', 'web']);
  t.strictSame(await names('/apis/apps/v1/namespaces/shop/deployments?labelSelector=app%3Dweb'), ['web']);
  t.strictSame(await names('/apis/apps/v1/deployments?fieldSelector=metadata.name%3Didle,metadata.namespace!%3Dx'), [
    'idle',
  ]);
  const first = (await send('/apis/apps/v1/deployments?limit=1')).body;
  t.equal(first.kind, 'DeploymentList');
  t.equal(first.items.length, 1);
  t.strictSame(await names(`/apis/apps/v1/deployments?limit=1&continue=${first.metadata.continue}`), ['web']);
  t.equal((await send('/apis/apps/v1/deployments?continue=x')).status, 410);
  const web = await names(
    '/api/v1/pods?fieldSelector=status.phase%3DPending,spec.nodeName!%3Dx&labelSelector=app%3Dweb',
  );
  t.equal(web.length, 2);
  t.strictSame(await names('/api/v1/pods?fieldSelector=spec.nodeName%3Dx'), []);
  const about = await names('/api/v1/events?fieldSelector=involvedObject.kind%3DStatefulSet,involvedObject.name%3Ddb');
  t.match(about, [/^db\./, /^db\./]);
  t.equal(about.length, 2);
  t.equal((await send('/apis/apps/v1/deployments?fieldSelector=spec.replicas%3D1')).status, 400);
  t.equal((await send('/api/v1/pods?fieldSelector=metadata.name')).status, 400);
  t.equal((await send('/apis/apps/v1/deployments?labelSelector=a%20b')).status, 400);
  t.equal((await send('/api/v1/namespaces/shop')).status, 200);
  t.equal((await send('/api/v1/namespaces/none')).status, 404);
  for (const path of [
    '/',
    '/api/v2',
    '/apis/apps/v9/deployments',
    '/api/v1/x/%2e%2e/y',
    '/api/v1/namespaces/shop/pods/a/log',
  ])
    t.equal((await send(path)).status, 404, path);
  t.equal((await send('/api/v1/%')).status, 400);
});

t.test('nothing but reading, and only under its own name', async (t) => {
  for (const method of ['POST', 'PUT', 'PATCH', 'DELETE', 'HEAD', 'OPTIONS'])
    t.equal((await send('/api/v1/pods', method)).status, 405, method);
  t.equal((await send('/api/v1/pods?watch=true')).status, 405);
  for (const host of ['evil.example.com', `evil.example.com:${new URL(url).port}`, '127.0.0.1'])
    t.equal((await send('/api/v1/secrets', 'GET', { host })).status, 403, host);
  t.equal((await send('/api/v1/secrets', 'GET', { host: `localhost:${new URL(url).port}` })).status, 200);
});

t.test('Ctrl-C ends it', async (t) => {
  child.kill('SIGINT');
  const [code] = (await once(child, 'exit')) as [number];
  t.equal(code, 0, stderr);
});

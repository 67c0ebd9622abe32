import { createHash } from 'node:crypto';
import { chmod, mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { Azurite } from '../support/azurite.ts';
import { nameOf, putSnapshot } from '../support/catalogue.ts';
import { jsonOf, runCommand } from '../support/command.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { findJudge, without } from '../support/judges.ts';
import { run, temporaryFolder, type Variables } from '../support/process.ts';
import { openStore } from '../support/store.ts';
import { errorOf, MAIN, runWorker } from '../support/worker.ts';

interface Reported {
  readonly name: string;
  readonly account: string;
  readonly container: string;
  readonly prefix: string;
  readonly state: string;
  readonly problems: { state: string; message: string }[];
  readonly exceptions: string[];
  readonly snapshots?: number;
  readonly lastDrill?: { snapshot: string; recoverySeconds: number };
}

interface Result {
  readonly generatedAt: string;
  readonly clusters: Reported[];
  readonly otherContainers: string[] | null;
}

const HOUR = 3_600_000;

/** A second ago, so that all that happens is in the past. */
const START = Date.now() - 1000;

const dir = temporaryFolder('report');
const azurite = await Azurite.start(join(dir, 'azurite'));
t.teardown(async () => azurite.stop());

/** A container with snapshots every six hours, the newest of them so many hours old, and a drill a day ago. */
async function fill(container: string, newest: number, prefix = '', isDrilled = true): Promise<Variables> {
  const client = azurite.container(container);
  await client.createIfNotExists();
  for (let index = 0; index < 4; index++) {
    await putSnapshot(client, new Date(START - (newest + 6 * index) * HOUR), { prefix });
  }
  const variables = { ...azurite.variables(container), ...(prefix && { SNAPSHOT_BLOB_PREFIX: prefix }) };
  if (isDrilled) {
    const store = await openStore(variables);
    await store.noteDrill({
      at: new Date(Date.now() - 24 * HOUR),
      snapshot: `${prefix}${nameOf(new Date(START - newest * HOUR))}`,
      recoveryMs: 12_345,
    });
  }
  return variables;
}

async function listOf(name: string, ...lines: readonly string[]): Promise<string> {
  const file = join(dir, name);
  await writeFile(file, `${lines.join('\n')}\n`);
  return file;
}

const [good] = await Promise.all([
  fill('good', 1),
  fill('late', 30),
  fill('undrilled', 1, '', false),
  fill('shared', 1, 'eu/'),
  fill('shared', 1, 'us/'),
  azurite.container('logs').create(),
]);
await azurite.container('logs').getBlockBlobClient('app.log').upload('x', 1);
await azurite.container('shared').getBlockBlobClient('readme.txt').upload('x', 1);

t.test('the configured container', async (t) => {
  const { code, stdout } = await runCommand(['report'], good);
  t.equal(code, 0);
  t.match(
    stdout,
    /^CLUSTER +STATE +NEWEST +EVERY +GAPS +OBJECTIVE +SIZE +KEYS +DRILLED +RECOVERY\ngood +ok +1h +6h +0 +held +4\.1 kB +800 +24h +12\.3 s\n/,
  );
  t.match(stdout, /\n1 cluster: 1 ok\.\n$/);
  const result = await jsonOf<Result>(['report'], good);
  t.match(result, { generatedAt: /^20/, otherContainers: null, clusters: [{ name: 'good', account: 'testaccount' }] });
  t.match(result.clusters[0], { state: 'ok', snapshots: 4, lastDrill: { recoverySeconds: 12.345 } });
  const prefixed = { ...azurite.variables('shared'), SNAPSHOT_BLOB_PREFIX: 'us/' };
  t.match((await jsonOf<Result>(['report'], prefixed)).clusters, [{ name: 'shared/us', prefix: 'us/', state: 'ok' }]);
});

t.test('a kept snapshot is in the report', async (t) => {
  const name = (await azurite.names('good')).find((each) => each.startsWith('kubernetes')) ?? '';
  t.equal((await runCommand(['keep', name, '--until', '90d', '--note', 'before <1.36>'], good)).code, 0);
  t.match(await jsonOf(['report'], good), { clusters: [{ kept: [{ name, until: /^20/, note: 'before <1.36>' }] }] });
});

t.test('late, not drilled, and what the options expect', async (t) => {
  const late = await runCommand(['report'], azurite.variables('late'));
  t.equal(late.code, 20);
  t.match(late.stdout, /^late +late +30h/m);
  t.match(errorOf(late).message, '1 of 1 cluster needs attention, the first: late: the newest snapshot is 1d 6h old');
  await jsonOf(['report', '--rpo', '16h'], azurite.variables('late'));
  await jsonOf(['report', '--rpo', '30m'], good, 20);
  const undrilled = await jsonOf<Result>(['report'], azurite.variables('undrilled'), 20);
  t.match(undrilled.clusters[0], { state: 'not-drilled', problems: [{ message: 'No drill has succeeded yet.' }] });
  await jsonOf(['report', '--drill-within', '23h'], good, 20);
});

t.test('a list of containers: one that cannot be read stops no other, and decides the exit code', async (t) => {
  const file = await listOf(
    'list.txt',
    'testaccount/good Good one',
    'testaccount/late',
    'testaccount/absent',
    `${azurite.url}/shared/eu/`,
  );
  const finished = await runCommand(['report', '--json', '--containers', file], azurite.variables('ignored'));
  t.equal(finished.code, 12);
  const { clusters } = JSON.parse(finished.stdout) as Result;
  t.strictSame(
    clusters.map(({ name, state }) => [name, state]),
    [
      ['absent', 'unreachable'],
      ['late', 'late'],
      ['Good one', 'ok'],
      ['shared/eu', 'ok'],
    ],
  );
  t.match(
    errorOf(finished).message,
    /^1 container of 4 cannot be read, the first: absent: container absent does not exist/,
  );
  const withoutContainer: Record<string, string> = { ...good };
  delete withoutContainer['SNAPSHOT_AZURE_CONTAINER_NAME'];
  const late = await listOf('late.txt', 'testaccount/late', 'testaccount/good');
  t.equal((await runCommand(['report', '--containers', late], withoutContainer)).code, 20);
  const bad = await runCommand(['report', '--containers', await listOf('bad.txt', 'x')], good);
  t.equal(bad.code, 2);
  t.equal((await runCommand(['report', '--containers', join(dir, 'none.txt')], good)).code, 2);
});

t.test('a whole account: prefixes are clusters of their own, and other containers are named', async (t) => {
  const { clusters, otherContainers } = await jsonOf<Result>(['report', '--account'], good, 20);
  t.strictSame(clusters.map(({ name }) => name).toSorted(), ['good', 'late', 'shared/eu', 'shared/us', 'undrilled']);
  t.strictSame(otherContainers, ['logs']);
  t.ok(clusters.every(({ snapshots }) => snapshots === 4));
});

t.test('each container is listed once; throttling is waited for, and a redirect is an error', async (t) => {
  const seen: string[] = [];
  const proxy = await FaultProxy.start(azurite.url, ({ method, url }) => {
    seen.push(`${method} ${url.href}`);
    if (seen.length === 1) return { status: 503, code: 'ServerBusy' };
    return url.pathname.endsWith('/late') ? { status: 307, code: 'Moved' } : 'pass';
  });
  t.teardown(async () => proxy.stop());
  const variables = { ...good, SNAPSHOT_AZURE_BLOB_ENDPOINT: proxy.url };
  const file = await listOf('three.txt', 'testaccount/good', 'testaccount/undrilled', 'testaccount/late');
  const { clusters } = await jsonOf<Result>(['report', '--containers', file], variables, 12);
  t.match(clusters, [{ name: 'late', state: 'unreachable' }, { state: 'not-drilled' }, { state: 'ok' }]);
  t.equal(seen.filter((request) => request.includes('comp=list')).length, 4, 'one more after the busy answer');
  t.equal(seen.filter((request) => !request.includes('comp=list')).length, 2, 'and the properties');
});

t.test('containers that the identity cannot list are named where it was asked for all that it can', async (t) => {
  const proxy = await FaultProxy.start(azurite.url, ({ url }) =>
    url.pathname.endsWith('/late') ? { status: 403, code: 'AuthorizationPermissionMismatch' } : 'pass',
  );
  t.teardown(async () => proxy.stop());
  const variables = { ...good, SNAPSHOT_AZURE_BLOB_ENDPOINT: proxy.url };
  t.match(await jsonOf<Result>(['report', '--account'], variables, 20), { otherContainers: ['late', 'logs'] });
  const file = await listOf('forbidden.txt', 'testaccount/late');
  t.match((await jsonOf<Result>(['report', '--containers', file], variables, 12)).clusters, [{ state: 'unreachable' }]);
});

t.test('metrics for the textfile collector', async (t) => {
  const { code, stdout } = await runCommand(['report', '--account', '--metrics'], good);
  t.equal(code, 20);
  t.match(stdout, /^etcd_snapshot_report_late\{etcd_cluster="late"\} 1$/m);
  t.match(stdout, /^etcd_snapshot_report_drilled\{etcd_cluster="undrilled"\} 0$/m);
  t.match(stdout, /^etcd_snapshot_report_drill_recovery_seconds\{etcd_cluster="shared\/eu"\} 12\.345$/m);
  const promtool = findJudge('promtool');
  if (promtool === undefined) return t.comment('there is no promtool here');
  const file = join(dir, 'metrics.prom');
  await writeFile(file, stdout);
  const checked = await run('sh', ['-c', '"$0" check metrics <"$1"', promtool, file]);
  t.equal(checked.code, 0, checked.stdout + checked.stderr);
});

t.test('hostile names and records are data', async (t) => {
  const client = azurite.container('evil');
  await client.create();
  await putSnapshot(client, new Date(Date.now() - HOUR));
  await putSnapshot(client, new Date(Date.now() - HOUR / 2), { metadata: { sha256: '<script>' } });
  await putSnapshot(client, new Date(Date.now() - HOUR), { prefix: '\u202e<b>"/' });
  for (const name of ['<script>alert(1)</script>', '"onload=alert(1)', 'etcd-snapshot-drills/<b>.json']) {
    const metadata = { at: 'x', snapshot: '%zz', recoveryms: '1e9' };
    await client.getBlockBlobClient(name).upload('x', 1, { metadata });
  }
  const { clusters } = await jsonOf<Result>(['report', '--account'], good, 20);
  const evil = clusters.filter(({ container }) => container === 'evil');
  t.match(evil, [{ state: 'invalid', name: 'evil' }, { name: 'evil/\\u{202e}<b>"' }]);
  const page = join(dir, 'evil.html');
  const finished = await runCommand(['report', '--account', '--html', page], good);
  t.equal(finished.code, 20);
  t.notOk(finished.stdout.includes('\u202e') || finished.stdout.includes('\u001b'));
  const html = await readFile(page, 'utf8');
  t.equal(html.match(/<script>/g)?.length, 1);
  t.notMatch(html, /\u202e|<b>"|"onload=/);
  await azurite.container('evil').delete();
});

t.test('the page is written in one step, and follows no link', async (t) => {
  const folder = join(dir, 'pages');
  await mkdir(folder);
  const file = join(folder, 'report.html');
  await writeFile(file, 'old');
  t.equal((await runCommand(['report', '--html', file], good)).code, 0);
  t.match(await readFile(file, 'utf8'), /^<!doctype html>[^]*<\/html>\n$/);
  t.strictSame(await readdir(folder), ['report.html']);
  const target = join(folder, 'precious');
  await writeFile(target, 'kept');
  await symlink(target, join(folder, 'link.html'));
  const refused = await runCommand(['report', '--html', join(folder, 'link.html')], good);
  t.equal(refused.code, 2);
  t.match(errorOf(refused).message, 'is a symbolic link');
  t.equal(await readFile(target, 'utf8'), 'kept');
  for (const path of ['/dev/null', folder, join(folder, 'none', 'report.html')]) {
    t.equal((await runCommand(['report', '--html', path], good)).code, 2, path);
  }
});

t.test('the report is stored in a container, under a new name each time', async (t) => {
  const reports = azurite.container('good-reports');
  const missing = await runCommand(['report', '--upload-to', 'good-reports'], good);
  t.equal(missing.code, 12);
  t.match(missing.stdout, /^good +ok/m, 'the report is printed all the same');
  t.match(errorOf(missing).hint, 'Create the container good-reports');
  await reports.create();
  t.equal((await runCommand(['report', '--upload-to', 'good-reports'], good)).code, 0);
  const names = await azurite.names('good-reports');
  t.match(names, [
    /^etcd-snapshot-report_\d{8}_\d{6}_[0-9a-f]{4}\.html$/,
    /^etcd-snapshot-report_\d{8}_\d{6}_[0-9a-f]{4}\.json$/,
  ]);
  const { contentType } = await reports.getBlobClient(names[0] ?? '').getProperties();
  t.equal(contentType, 'text/html; charset=utf-8');
  const stored = JSON.parse((await reports.getBlobClient(names[1] ?? '').downloadToBuffer()).toString()) as Result;
  t.strictSame({ ...stored, generatedAt: '' }, { ...(await jsonOf<Result>(['report'], good)), generatedAt: '' });
  t.equal((await runCommand(['report', '--upload-to', 'Bad--name'], good)).code, 2);
  const together = await Promise.all(
    Array.from({ length: 5 }, async () => runCommand(['report', '--upload-to', 'good-reports'], good)),
  );
  for (const { code, stderr } of together) t.equal(code, 0, stderr);
  t.equal((await azurite.names('good-reports')).length, 12, 'each of its own, in the same second as well');
});

t.test('options that contradict each other, and values that mean nothing', async (t) => {
  for (const args of [
    ['--account', '--containers', 'x'],
    ['--metrics', '--json'],
    ['--rpo', '6'],
    ['--rpo', '0h'],
    ['--rpo', '30s'],
    ['--drill-within', 'soon'],
    ['extra'],
  ]) {
    t.equal((await runCommand(['report', ...args], good)).code, 2, args.join(' '));
  }
  t.equal((await runCommand(['report'], azurite.variables('logs'))).code, 20, 'a container without a snapshot is late');
});

t.test('an account out of reach is not tried for every container', async (t) => {
  const lines = Array.from({ length: 400 }, (_, index) => `testaccount/c${String(index).padStart(3, '0')}`);
  const file = await listOf('many.txt', ...lines);
  const variables = { ...good, SNAPSHOT_AZURE_BLOB_ENDPOINT: 'http://127.0.0.1:1/testaccount' };
  const finished = await runWorker(['report', '--json', '--containers', file], variables);
  t.equal(finished.code, 12);
  const { clusters } = JSON.parse(finished.stdout) as Result;
  t.equal(clusters.filter(({ state }) => state === 'unreachable').length, 400);
});

/** Every command of docs/fleet.md, as it is written there. */
t.test('the commands of the page', { skip: without('jq') }, async (t) => {
  const page = await readFile(join(import.meta.dirname, '..', '..', 'docs', 'fleet.md'), 'utf8');
  const blocks = [...page.matchAll(/^```sh\n([^]*?)^```$/gm)].map(([, commands = '']) => commands);
  const [, list = ''] = /^```text\n([^]*?)^```$/m.exec(page) ?? [];
  const [bin, cwd] = [join(dir, 'bin'), join(dir, 'cwd')];
  await mkdir(bin);
  await mkdir(cwd);
  await writeFile(join(bin, 'etcd-snapshot'), `#!/bin/sh\nexec '${process.execPath}' -- '${MAIN}' "$@"\n`);
  await chmod(join(bin, 'etcd-snapshot'), 0o755);
  await writeFile(join(cwd, 'containers.txt'), list.replaceAll('aksenginebackups', 'testaccount'));
  await fill('prod-eu', 1);
  await fill('prod-us', 1);
  await fill('shared', 1, 'staging/');
  await azurite.container('my-cluster-reports').create();
  const jq = findJudge('jq') ?? '';
  // Those for a cluster need one.
  for (const block of blocks.filter((text) => !text.startsWith('kubectl '))) {
    const variables = { ...good, PATH: `${bin}:${join(jq, '..')}:${process.env['PATH']}` };
    const { code, stderr } = await run('sh', ['-ec', block], variables, cwd);
    const isWhole = block.includes('--account');
    t.equal(code, isWhole ? 20 : 0, `${block}${stderr}`);
  }
  t.match((await readdir(cwd)).toSorted(), ['containers.txt', 'etcd-snapshot.prom', 'report.html']);
  t.match(await azurite.names('my-cluster-reports'), [/html$/, /json$/]);
  t.ok(blocks.length >= 6);
});

t.test('what the second place lacks of the configured container', async (t) => {
  const client = azurite.container('with-copy');
  await client.create();
  const size = 4096 + 32;
  const sha256 = createHash('sha256').update(Buffer.alloc(size)).digest('hex');
  for (const hours of [1, 7]) await putSnapshot(client, new Date(START - hours * HOUR), { size, metadata: { sha256 } });
  const variables = { ...azurite.variables('with-copy'), ...azurite.copyVariables('copy') };
  const copiesOf = async () => (await jsonOf<Result>(['report'], variables, 20)).clusters[0];
  t.match(await copiesOf(), {
    copies: { missing: 2 },
    exceptions: [/^The second place lacks 2 snapshots, or they were not read back there, and is 7h behind\.$/],
  });
  t.equal((await runCommand(['copy', '--allow-same-account'], variables)).code, 0);
  t.match(await copiesOf(), { copies: { missing: 0, lagSeconds: 0 }, exceptions: [] });
  const metrics = await runCommand(['report', '--metrics'], variables);
  t.match(metrics.stdout, /^etcd_snapshot_report_copies_missing\{etcd_cluster="with-copy"\} 0$/m);
  t.match(metrics.stdout, /^etcd_snapshot_report_copy_lag_seconds\{etcd_cluster="with-copy"\} 0$/m);
  const list = await listOf('first.txt', 'testaccount/with-copy');
  t.match((await jsonOf<Result>(['report', '--containers', list], variables, 20)).clusters, [{ copies: null }]);

  const away = { ...variables, SNAPSHOT_COPY_AZURE_ACCOUNT_KEY: `${'k'.repeat(86)}==` };
  const unread = await jsonOf<Result & { error: { message: string } }>(['report'], away, 12);
  t.match(unread.clusters, [
    { state: 'not-drilled', copies: null, exceptions: [/^The second place cannot be read: /] },
  ]);
  t.match(unread.error.message, /^The second place of with-copy cannot be read: /);
});

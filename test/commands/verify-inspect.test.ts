import { createHash } from 'node:crypto';
import { readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { Azurite } from '../support/azurite.ts';
import { EtcdCluster, findEtcd } from '../support/etcd.ts';
import { SNAPSHOT } from '../support/fixtures.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { launch, mustRun, openFiles, run, temporaryFolder } from '../support/process.ts';
import { until } from '../support/until.ts';
import { jsonOf as json, runCommand } from '../support/command.ts';
import { errorOf, MAIN, runWorker } from '../support/worker.ts';

interface Report {
  readonly ok: boolean;
  readonly sha256: string;
  readonly hash: string | null;
  readonly revision: number;
  readonly totalKeys: number;
  readonly liveKeys: number;
  readonly totalSize: number;
  readonly faults: { kind: string; page?: number; message: string }[];
}

const dir = temporaryFolder('read');
const azurite = await Azurite.start(join(dir, 'azurite'));
t.teardown(async () => azurite.stop());
const sound = join(dir, 'sound.db');
await writeFile(sound, SNAPSHOT);
const broken = join(dir, 'broken.db');
const damaged = Buffer.from(SNAPSHOT);
damaged.fill(0xff, 10 * 4096, 10 * 4096 + 64);
await writeFile(broken, damaged);

const records = azurite.container('record');
await records.createIfNotExists();
const sha256 = createHash('sha256').update(SNAPSHOT).digest('hex');
const metadata = {
  ...{ tool: 'etcd-snapshot/0', sha256, hash: 'a8e91a41', revision: '52', totalkeys: '358', totalsize: '278528' },
  ...{ etcdversion: '3.5.30', clusterid: 'c1', memberid: 'a1', members: '[]' },
  ...{ takenat: '2026-01-01T00:00:00.000Z', uploadid: '0123456789abcdef0123456789abcdef' },
};
const upload = async (name: string, sha: string): Promise<void> =>
  void (await records
    .getBlockBlobClient(name)
    .upload(SNAPSHOT, SNAPSHOT.length, { metadata: { ...metadata, sha256: sha } }));
await upload('good.db', sha256);
await upload('bad.db', 'ab'.repeat(32));
t.jobs = 2;

t.test('verify FILE needs no configuration and changes nothing', async (t) => {
  const { code, stdout, stderr } = await runWorker(['verify', sound], {});
  t.equal(code, 0, stderr);
  t.equal(stdout.split('\n')[3], '| a8e91a41 |       52 |        358 |     279 kB |', 'as etcdctl prints it');
  t.match(stdout, /\n\S+sound\.db is valid\.\n$/, 'and no colour in a pipe');
  t.match(await json(['verify', sound], {}), { ok: true, liveKeys: 352, totalSize: 278_528, faults: [] });
  t.ok((await readFile(sound)).equals(SNAPSHOT));
});

t.test('the verdict is coloured on a terminal, unless NO_COLOR is set', async (t) => {
  const command = `'${process.execPath}' -- '${MAIN}' verify '${sound}'`;
  const onTerminal = async (variables: Record<string, string>) => {
    return (await run('script', ['-qec', command, '/dev/null'], { TERM: 'xterm', ...variables })).stdout;
  };
  t.match(await onTerminal({}), `\u001b[32m${sound} is valid.\u001b[0m`);
  const plain = await onTerminal({ NO_COLOR: '1' });
  t.match(plain, /\n\S+sound\.db is valid\.\r\n/);
  t.notMatch(plain, '\u001b[32m');
});

t.test('verify lists all problems, then their count', async (t) => {
  const finished = await runCommand(['verify', broken], {});
  t.equal(finished.code, 11);
  const lines = finished.stdout.trim().split('\n');
  t.match(lines.at(-1), /broken\.db is not valid: \d+ problems\.$/);
  t.ok(lines.length > 2, finished.stdout);
  t.match(finished.stdout, /^trailer: /m);
  t.match(finished.stdout, /\(page 10\)/);
  t.match(errorOf(finished).message, 'broken.db is not a valid snapshot');
  const report = await json<Report>(['verify', broken], {}, 11);
  t.equal(report.ok, false);
  t.ok(report.faults.some(({ kind, page }) => kind === 'tree' && page === 10));
  t.ok((await readFile(broken)).equals(damaged));
});

t.test('options of inspect that would be ignored are refused', async (t) => {
  for (const words of [
    ['./a.db', './b.db', '--keys', '/x'],
    ['./a.db', './b.db', '--get', '/x'],
    ['./a.db', '--keys', '/x', '--get', '/y'],
  ]) {
    const refused = await runCommand(['inspect', ...words], {});
    t.equal(refused.code, 2, words.join(' '));
    t.match(errorOf(refused).message, /cannot be combined/);
  }
  t.match(errorOf(await runCommand(['inspect', './a.db', '--get', ''], {})).message, /--get is empty/);
});

t.test('what is not there', async (t) => {
  const folder = await runCommand(['verify', dir], {});
  t.equal(folder.code, 13, 'a folder is no snapshot');
  t.match(errorOf(folder).message, /cannot be read/);
  t.equal((await runCommand(['verify', join(dir, 'nothing')], {})).code, 13);
  t.equal((await runCommand(['verify'], {})).code, 2);
  await azurite.container('read').createIfNotExists();
  const absent = await runCommand(['verify', 'kubernetes-etcd-snapshot_20200101_000000.db'], azurite.variables('read'));
  t.equal(absent.code, 13);
  t.match(
    errorOf(absent).message,
    /There is no snapshot kubernetes-etcd-snapshot_20200101_000000.db in container read/,
  );
  t.equal((await runCommand(['verify', 'some-name'], {})).code, 2, 'a name needs storage');
});

for (const tools of findEtcd()) {
  t.test(`etcd ${tools.version}: backup, verify and etcd's own tool agree`, async (t) => {
    const cluster = await EtcdCluster.start({ tools, dir: join(dir, tools.version) });
    t.teardown(async () => cluster.stop());
    await cluster.fill(300, 2000);
    await cluster.fill(100, 2000);
    await cluster.etcdctl('del', '/registry/pods/default/pod-7');
    await cluster.etcdctl('compact', '3');
    await cluster.etcdctl('put', '/registry/apps.example.com/widgets/a', 'value of a');
    const container = `read-${tools.version.replaceAll('.', '-')}`;
    const variables = { ...cluster.variables, ...azurite.variables(container), SNAPSHOT_BLOB_PREFIX: 'eu/' };
    const backup = await json<Report & { name: string }>([], variables);
    t.equal(backup.liveKeys, 300);

    const file = join(dir, `${container}.db`);
    const blob = azurite.container(container).getBlobClient(backup.name);
    await blob.downloadToFile(file);
    const status = JSON.parse(
      await mustRun(tools.snapshotTool, ['snapshot', 'status', file, '-w', 'json'], { ETCDCTL_API: '3' }),
    ) as { hash: number; revision: number; totalKey: number; totalSize: number };
    t.equal(backup.hash, status.hash.toString(16));
    t.equal(backup.revision, status.revision);
    t.equal(backup.totalSize, status.totalSize);
    // etcdutl 3.6 counts the keys that a client can get, its forerunners all entries.
    t.equal(tools.version.startsWith('3.6.') ? backup.liveKeys : backup.totalKeys, status.totalKey);
    const { metadata } = await blob.getProperties();
    t.match(metadata, {
      hash: backup.hash,
      revision: String(backup.revision),
      totalkeys: String(backup.totalKeys),
      livekeys: String(backup.liveKeys),
    });

    const { hash, revision, totalKeys, liveKeys, totalSize, sha256 } = backup;
    const same = { ok: true, hash, revision, totalKeys, liveKeys, totalSize, sha256, faults: [] };
    t.match(await json(['verify', file], {}), same);
    t.match(await json(['verify', backup.name], variables), same, 'streamed from the container');
    const short = backup.name.replace('eu/', '');
    t.match(await json(['verify', short], variables), same, 'the prefix may be left out');

    const first = await mustRun(process.execPath, [
      MAIN,
      'inspect',
      file,
      '--get',
      '/registry/apps.example.com/widgets/a',
    ]);
    t.equal(first, 'value of a', 'as it is, without a line feed');
    const keys = await json<{ key: string }[]>(
      ['inspect', backup.name, '--keys', '/registry/pods/default/pod-1'],
      variables,
    );
    const names = (await cluster.etcdctl('get', '/registry/pods/default/pod-1', '--prefix', '--keys-only')).trim();
    t.strictSame(keys.map(({ key }) => key).toSorted(), names.split(/\n+/).toSorted());

    await cluster.etcdctl('put', '/registry/apps.example.com/widgets/a', 'changed');
    await cluster.etcdctl('put', '/registry/apps.example.com/widgets/b', 'added');
    await cluster.etcdctl('del', '/registry/pods/default/pod-8');
    const later = join(dir, `${container}-later.db`);
    await cluster.etcdctl('snapshot', 'save', later);
    const difference = await runCommand(['inspect', file, later], {});
    t.equal(
      difference.stdout,
      [
        '+ /registry/apps.example.com/widgets/b',
        '- /registry/pods/default/pod-8',
        '~ /registry/apps.example.com/widgets/a',
        '1 added, 1 removed, 1 changed\n',
      ].join('\n'),
    );
    const about = await runCommand(['inspect', backup.name], variables);
    t.match(about.stdout, /taken .* of cluster [0-9a-f]+, etcd 3\./);
    t.match(about.stdout, /^pods +299 +\d/m);
    t.match(about.stdout, /is valid\.\n$/);
    t.notMatch(about.stdout, 'value of a');
  });
}

t.test('inspect shows no value but that of a key asked for by its name', async (t) => {
  const secret = '/registry/secrets/default/s58d4j0bpxd3gh10giabcs';
  const value = await mustRun(process.execPath, [MAIN, 'inspect', sound, '--get', secret]);
  t.ok(value.length > 100);
  for (const args of [[], ['--json'], ['--keys', '/registry/secrets'], ['--keys', '', '--json']]) {
    const { code, stdout } = await runCommand(['inspect', sound, ...args], {});
    t.equal(code, 0);
    t.ok(stdout.includes(secret));
    t.notOk(stdout.includes(value.slice(0, 60)));
  }
  const absent = await runCommand(['inspect', sound, '--get', '/registry/secrets'], {});
  t.equal(absent.code, 13);
  t.equal((await runCommand(['inspect', broken], {})).code, 11);
  t.equal((await runCommand(['inspect', sound, sound, sound], {})).code, 2);
});

t.test('a stored blob that is not what its record says', async (t) => {
  t.match(await json(['verify', 'good.db'], azurite.variables('record')), { ok: true });
  const report = await json<Report>(['verify', 'bad.db'], azurite.variables('record'), 11);
  t.match(report.faults, [{ kind: 'record' }]);
});

t.test('a download is resumed after a broken connection; changed bytes are detected', async (t) => {
  const verdict = async (t: Test, fault: 'cut' | 'flip'): Promise<number | null> => {
    const proxy = await FaultProxy.start(azurite.url, ({ method, index }) =>
      method === 'GET' && (fault === 'flip' || index < 3) ? fault : 'pass',
    );
    t.teardown(async () => proxy.stop());
    const variables = { ...azurite.variables('record'), SNAPSHOT_AZURE_BLOB_ENDPOINT: proxy.url };
    return (await runCommand(['verify', 'good.db'], variables)).code;
  };
  t.equal(await verdict(t, 'cut'), 0);
  t.equal(await verdict(t, 'flip'), 11);
});

t.test('SIGINT ends a verification', async (t) => {
  const proxy = await FaultProxy.start(azurite.url, ({ method }) => (method === 'GET' ? 'hang' : 'pass'));
  t.teardown(async () => proxy.stop());
  const worker = launch(process.execPath, [MAIN, 'verify', 'good.db'], {
    ...azurite.variables('record'),
    SNAPSHOT_AZURE_BLOB_ENDPOINT: proxy.url,
  });
  const ended = new Promise((resolve) => worker.on('close', resolve));
  await until(() => proxy.seen.some((operation) => operation.startsWith('GET')));
  worker.kill('SIGINT');
  t.equal(await ended, 130);
});

t.test('SIGINT ends the verification of a file', async (t) => {
  // Holes take no room on the disk, and a long time to read.
  const holes = join(dir, 'holes.db');
  await writeFile(holes, '');
  await truncate(holes, 100 * 2 ** 30);
  const worker = launch(process.execPath, [MAIN, 'verify', holes], {});
  const ended = new Promise((resolve) => worker.on('close', resolve));
  await until(() => openFiles(worker.pid).some(({ target }) => target === holes));
  worker.kill('SIGINT');
  t.equal(await ended, 130);
});

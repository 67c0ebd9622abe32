import { cp, mkdir, readFile, symlink, utimes, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import t from 'tap';
import { startBackupSite, writeIdentity } from '../support/backup-site.ts';
import { jsonOf, runCommand } from '../support/command.ts';
import { findJudge, without } from '../support/judges.ts';
import { run, type Variables } from '../support/process.ts';
import { PROMOTED, SNAPSHOT } from '../support/fixtures.ts';
import { parseMetrics, Pushgateway } from '../support/prometheus.ts';
import { nextSecond } from '../support/until.ts';
import { sha256, snapshotOf } from '../support/vectors.ts';
import { errorOf, runWorker } from '../support/worker.ts';
import { zipOf } from '../support/zip.ts';

interface Result {
  readonly imported: readonly {
    readonly file: string;
    readonly name: string;
    readonly sha256: string;
    readonly takenAt: string;
    readonly takenAtFrom: string;
    readonly clusterId: string;
  }[];
  readonly skipped: readonly { readonly file: string; readonly name: string }[];
  readonly invalid: readonly { readonly file: string; readonly message: string }[];
  readonly leftOut: readonly { readonly file: string; readonly why: string }[];
  readonly findings: readonly string[];
}

interface Listed {
  readonly name: string;
  readonly record: boolean;
  readonly imported?: string;
  readonly clusterId: string;
  readonly memberId?: string;
  readonly etcdVersion?: string;
  readonly sha256: string;
  readonly takenAt: string;
  readonly members: readonly { readonly name: string }[];
  readonly signature: { readonly state: string };
  readonly retention: { readonly keep: boolean; readonly reasons: readonly string[] } | null;
}

const { dir, azurite, cluster, tools, variablesOf } = await startBackupSite(t, 'import');
const save = async (path: string): Promise<void> => void (await cluster.etcdctl('snapshot', 'save', path));
const UNIX = 1_767_323_045;
const PUSHGATEWAY = 'prometheus-pushgateway';
const OF_FIXTURE = ['--cluster-id', 'c1'];

/** A directory with these files. */
async function folder(name: string, files: Readonly<Record<string, Buffer | string>>): Promise<string> {
  const path = join(dir, name);
  await mkdir(path);
  for (const [file, content] of Object.entries(files)) await writeFile(join(path, file), content);
  return path;
}

/** Without etcd. */
function apart(container: string): Variables {
  const { SNAPSHOT_ETCD_ENDPOINTS: _, ...variables } = variablesOf(container);
  return variables;
}

t.test('snapshots of the running cluster, among those of backups', async (t) => {
  const variables = { ...variablesOf('running'), SNAPSHOT_KEEP_LAST: '2' };
  const snapshots = await folder('running', { 'SHA256SUMS.txt': 'not a snapshot', '.hidden': 'neither' });
  await cluster.fill(20, 500);
  await save(join(snapshots, `etcd-snapshot-server1-${UNIX}`));
  const plain = await readFile(join(snapshots, `etcd-snapshot-server1-${UNIX}`));
  await cluster.fill(20, 500, '/registry/secrets/default/');
  await save(join(dir, 'later'));
  const later = await readFile(join(dir, 'later'));
  await writeFile(join(snapshots, 'etcd-backup-20260102-090000.db.gz'), gzipSync(later));
  await cluster.fill(20, 500, '/registry/services/default/');
  const first = await jsonOf<{ name: string; clusterId: string }>(['backup'], variables);

  const result = await jsonOf<Result>(['import', snapshots], variables);
  const [one, two] = result.imported;
  t.match(result, { skipped: [], invalid: [], findings: [] });
  t.match(result.imported, [
    { name: 'kubernetes-etcd-snapshot_20260102_030405.db', takenAt: '2026-01-02T03:04:05.000Z', takenAtFrom: 'name' },
    { name: 'kubernetes-etcd-snapshot_20260102_090000.db', sha256: sha256(later).toString('hex') },
  ]);
  t.equal(one?.clusterId, first.clusterId, 'the id comes from etcd');
  t.same(
    await azurite
      .container('running')
      .getBlobClient(one?.name ?? '')
      .downloadToBuffer(),
    plain,
  );

  const again = await jsonOf<Result>(['import', join(snapshots, `etcd-snapshot-server1-${UNIX}`)], variables);
  t.match(again, { imported: [], skipped: [{ name: one?.name }] }, 'the container has it');

  await nextSecond();
  const second = await runCommand(['backup', '--json'], variables);
  t.equal(second.code, 0, second.stderr);
  t.match(JSON.parse(second.stdout), { anomalies: [], findings: [], retention: { removed: [two?.name, one?.name] } });
});

t.test('its result and the time of the newest file are pushed', { skip: without(PUSHGATEWAY) }, async (t) => {
  const pushgateway = await Pushgateway.start(findJudge(PUSHGATEWAY) ?? '');
  t.teardown(async () => pushgateway.stop());
  const variables = { ...variablesOf('pushed'), SNAPSHOT_PUSHGATEWAY_URL: pushgateway.url };
  const snapshots = await folder('pushed', {});
  await save(join(snapshots, `etcd-snapshot-server1-${UNIX}`));
  const importAll = async (code: number, own: Variables = {}): Promise<Record<string, number>> => {
    const { code: ended, stderr } = await runWorker(['import', snapshots], { ...variables, ...own });
    t.equal(ended, code, stderr);
    const metrics = [...parseMetrics(await pushgateway.scrape())].map(([key, value]) => [key.split('{')[0], value]);
    return Object.fromEntries(metrics.filter(([name]) => /^etcd_snapshot_(?!build)/.test(String(name))));
  };
  const first = await importAll(0);
  const success = first['etcd_snapshot_import_last_success_timestamp_seconds'] ?? NaN;
  const last = 'etcd_snapshot_import_last_run_timestamp_seconds';
  const measured = { etcd_snapshot_import_stored: 1, etcd_snapshot_import_newest_timestamp_seconds: UNIX };
  const kept = { ...measured, etcd_snapshot_import_last_success_timestamp_seconds: success };
  t.strictSame(first, { ...kept, etcd_snapshot_import_last_run_exit_code: 0, [last]: success }, 'and no other');
  t.ok(Math.abs(success - Date.now() / 1000) < 300, 'in seconds');

  const wrongKey = { SNAPSHOT_AZURE_ACCOUNT_KEY: Buffer.alloc(64).toString('base64') };
  t.match(await importAll(12, wrongKey), { ...kept, etcd_snapshot_import_last_run_exit_code: 12 }, 'the success stays');

  await writeFile(join(snapshots, `etcd-snapshot-server1-${UNIX + 60}`), 'damaged');
  const damaged = { ...kept, etcd_snapshot_import_stored: 0, etcd_snapshot_import_last_run_exit_code: 11 };
  t.match(await importAll(11), damaged, 'a damaged file is not the newest');
  await cp(join(snapshots, `etcd-snapshot-server1-${UNIX}`), join(snapshots, `etcd-snapshot-server1-${UNIX + 120}`));
  const newer = { etcd_snapshot_import_newest_timestamp_seconds: UNIX + 120 };
  t.match(await importAll(11), { ...damaged, ...newer }, 'what has the same content as another file is known');
});

t.test('an old snapshot is neither the newest nor an anomaly, and is verified, drilled and restored', async (t) => {
  const variables = variablesOf('old');
  const { name } = await jsonOf<{ name: string }>(['backup'], variables);
  const path = join(dir, `on-demand-server1-${UNIX}.zip`);
  await save(join(dir, 'on-demand'));
  await writeFile(
    path,
    zipOf([{ name: `on-demand-server1-${UNIX}`, content: await readFile(join(dir, 'on-demand')) }]),
  );
  const { imported } = await jsonOf<Result>(['import', path], variables);
  const stored = imported[0]?.name ?? '';
  const listed = await jsonOf<Listed[]>(['list'], { ...variables, SNAPSHOT_KEEP_LAST: '5' });
  t.strictSame(
    listed.map((blob) => blob.name),
    [name, stored],
  );
  const [backup, old] = listed;
  t.match(old, { record: true, imported: `on-demand-server1-${UNIX}.zip`, members: [{ name: 'm1' }] });
  t.equal(old?.memberId, backup?.memberId, 'the only member');
  t.match(old?.etcdVersion, tools.version.replace(/\d+$/, ''));
  t.match(old?.retention, { keep: true, reasons: ['last 5'] });
  t.match(await jsonOf(['verify', stored], variables), { ok: true });
  t.match(await jsonOf(['drill', stored], variables), { ok: true, name: stored });
  t.match(await jsonOf(['drill'], variables), { name }, 'the backup is the newest');
  const restored = join(dir, 'restored');
  t.equal(
    (await runCommand(['restore', stored, '--name', 'm1', '--data-dir', restored, '--force'], variables)).code,
    0,
  );
  t.match((await runCommand(['list'], variables)).stdout, 'imported from files: 1 snapshot');
  t.match((await runCommand(['restore', stored, '--plan', '--layout', 'kubeadm', '--force'], variables)).stdout, 'm1');
  const shown = await runCommand(['inspect', stored], variables);
  t.match(shown.stdout, `imported from on-demand-server1-${UNIX}.zip`);
});

t.test('signed, compressed and encrypted like backups', async (t) => {
  const key = join(dir, 'identity.txt');
  const { recipient } = await writeIdentity(key);
  await jsonOf(['keygen', join(dir, 'keys')], {});
  const variables = {
    ...apart('sealed'),
    SNAPSHOT_COMPRESSION: 'zstd',
    SNAPSHOT_ENCRYPTION_RECIPIENTS: recipient,
    SNAPSHOT_SIGNING_KEY_FILE: join(dir, 'keys', 'signing.pem'),
    SNAPSHOT_VERIFICATION_KEYS_FILE: join(dir, 'keys', 'verification.pem'),
  };
  const files = await folder('sealed', { 'etcd-20260102030405.db': SNAPSHOT });
  const { imported } = await jsonOf<Result>(['import', files, ...OF_FIXTURE], variables);
  t.equal(imported[0]?.name, 'kubernetes-etcd-snapshot_20260102_030405.db.zst.age');
  const [listed] = await jsonOf<Listed[]>(['list'], variables);
  t.match(listed, { record: true, signature: { state: 'valid' }, imported: 'etcd-20260102030405.db' });
  t.match(await jsonOf(['verify', imported[0]?.name ?? '', '--identity', key], variables), {
    checked: 'content',
    sha256: sha256(SNAPSHOT).toString('hex'),
  });
  const stored = join(dir, 'etcd-snapshot-copy-1767323099.db.zst.age');
  await azurite
    .container('sealed')
    .getBlobClient(imported[0]?.name ?? '')
    .downloadToFile(stored);
  const again = await jsonOf<Result>(['import', stored, ...OF_FIXTURE, '--identity', key], variables);
  t.match(again.skipped, [{ name: imported[0]?.name }], 'an encrypted file is opened');
  const rewrap = [
    'rewrap',
    imported[0]?.name ?? '',
    '--recipients',
    (await writeIdentity(join(dir, 'new.txt'))).recipient,
  ];
  await jsonOf([...rewrap, '--identity', key], variables);
  t.match(await jsonOf<Listed[]>(['list'], variables), [
    { record: true, imported: 'etcd-20260102030405.db' },
    { record: true, imported: 'etcd-20260102030405.db' },
  ]);
  const compressed = { ...apart('compressed'), SNAPSHOT_COMPRESSION: 'zstd' };
  await jsonOf<Result>(['import', files, ...OF_FIXTURE], compressed);
  t.match(await jsonOf<Listed[]>(['list'], compressed), [{ record: true }]);
});

t.test('damaged files are reported, and the others imported', async (t) => {
  const other = snapshotOf('etcd-3.5.30-revisions');
  const files = await folder('damaged', {
    'etcd-snapshot-m1-1767323045': SNAPSHOT,
    'etcd-snapshot-m1-1767323046': SNAPSHOT.subarray(0, -4096),
    'etcd-snapshot-m1-1767323047.zip': zipOf([{ name: 'x', content: SNAPSHOT }]).subarray(0, -200),
    'etcd-snapshot-m1-1767323048.zst': zstdCompressSync(other),
    'etcd-snapshot-m1-1767323049': '',
    'etcd-snapshot-m1-1767323050.zip': zipOf([]),
    'etcd-snapshot-m1-1767323051.part': 'unfinished',
  });
  const finished = await runCommand(['import', files, ...OF_FIXTURE, '--json'], apart('damaged'));
  t.equal(finished.code, 11);
  t.match(errorOf(finished).message, /^4 files of 6 could not be imported: /);
  const result = JSON.parse(finished.stdout) as Result;
  t.match(result.imported, [{ file: /1767323045$/ }, { file: /1767323048.zst$/ }]);
  t.equal(result.imported.length, 2);
  const messages = result.invalid.map(({ message }) => message.replace(/^.*snapshot: /, ''));
  t.match(messages, [/it ends after \d+ of/, /it has no end/, /it is empty/, /an empty zip archive/]);
  t.equal((await azurite.names('damaged')).length, 2, 'nothing of the others is stored');
  const single = await runCommand(['import', join(files, 'etcd-snapshot-m1-1767323046'), ...OF_FIXTURE], apart('none'));
  t.equal(single.code, 11);
});

t.test('members that take snapshots in the same second, and the same file twice', async (t) => {
  const [one, two] = [snapshotOf('etcd-3.5.30-revisions'), snapshotOf('etcd-3.5.30-leases')];
  const files = await folder('twice', {
    'etcd-snapshot-server1-1767323045': one,
    'etcd-snapshot-server2-1767323045': two,
    'etcd-snapshot-server3-1767323046': one,
  });
  const { imported, skipped, findings } = await jsonOf<Result>(['import', files, ...OF_FIXTURE], apart('twice'));
  t.strictSame(
    imported.map(({ takenAt }) => takenAt),
    ['2026-01-02T03:04:05.000Z', '2026-01-02T03:04:06.000Z'],
  );
  t.match(skipped, [{ file: /server3/, name: /server1/ }]);
  t.match(findings, [/server2.* is recorded as 2026-01-02T03:04:06.000Z: another snapshot has its second/]);
  t.equal((await jsonOf<Listed[]>(['list'], apart('twice'))).filter(({ record }) => record).length, 2);
});

t.test('the time of a file without one in its name', async (t) => {
  const files = await folder('times', { 'db.snapshot': SNAPSHOT });
  const path = join(files, 'db.snapshot');
  await utimes(path, UNIX, UNIX);
  const taken = ['--taken-at', '2026-01-02T04:04:05+01:00'];
  const given = await jsonOf<Result>(['import', path, ...OF_FIXTURE, ...taken], apart('given'));
  t.match(given, { imported: [{ takenAt: '2026-01-02T03:04:05.000Z', takenAtFrom: 'option' }], findings: [] });
  const found = await jsonOf<Result>(['import', path, ...OF_FIXTURE], apart('found'));
  t.match(found, { imported: [{ takenAt: '2026-01-02T03:04:05.000Z', takenAtFrom: 'modification time' }] });
  t.match(found.findings, [/has no time in its name: it is recorded as taken when it was last modified/]);

  // A copy that is newer than its content must not become the newest snapshot.
  const newer = await folder('newer', { 'etcd-20260101000000.db': snapshotOf('etcd-3.5.30-churn') });
  await jsonOf<Result>(['import', newer, ...OF_FIXTURE], apart('copied'));
  const older = await folder('older', { snapshot: snapshotOf('etcd-3.5.30-empty') });
  const copied = await runCommand(['import', older, ...OF_FIXTURE], apart('copied'));
  t.equal(copied.code, 2);
  t.match(
    errorOf(copied).message,
    /was modified at .*, but kubernetes-etcd-snapshot_20260101_000000.db, which was taken before/,
  );
  const dated = [join(older, 'snapshot'), '--taken-at', '2025-12-31T00:00:00Z'];
  t.equal((await runCommand(['import', ...dated, ...OF_FIXTURE], apart('copied'))).code, 0);
});

t.test('what a directory has besides regular files is named and counted', async (t) => {
  const files = await folder('left-out', { 'etcd-20260102030405.db': SNAPSHOT, '.hidden': 'no', 'notes.txt': 'no' });
  const good = join(files, 'etcd-20260102030405.db');
  await symlink(good, join(files, 'latest\u001b'));
  await mkdir(join(files, 'below'));
  await mkdir(join(files, 'lost+found'));
  await writeFile(
    Buffer.concat([Buffer.from(`${files}/etcd-`), Buffer.from([0xff]), Buffer.from('-1767323045')]),
    SNAPSHOT,
  );
  const fifo = await run('mkfifo', [join(files, 'pipe')]);
  t.equal(fifo.code, 0);
  const { code, stdout, stderr } = await runCommand(['import', files, ...OF_FIXTURE, '--json'], apart('left-out'));
  t.equal(code, 0, stderr);
  const result = JSON.parse(stdout) as Result;
  t.match(result.imported, [{ file: good }]);
  t.strictSame(Object.fromEntries(result.leftOut.map(({ file, why }) => [basename(file), why])), {
    below: 'a directory',
    'etcd-\ufffd-1767323045': 'its name is not UTF-8',
    'latest\u001b': 'a symbolic link',
    pipe: 'a FIFO',
  });
  t.match(result.findings, [/^Left out, because .*below \(a directory\)/]);
  t.notMatch(result.findings[0], '\u001b');
  const again = await runCommand(['import', files, ...OF_FIXTURE], apart('left-out'));
  t.match(again.stdout, /Imported 0 snapshots; skipped 1; left out 4\./);
  const linked = await jsonOf<Result>(['import', join(files, 'latest\u001b'), ...OF_FIXTURE], apart('left-out'));
  t.match(linked, { skipped: [{ name: /./ }], leftOut: [], findings: [] }, 'a link that is named is followed');
});

t.test('what is refused before anything is stored', async (t) => {
  const files = await folder('refused', { 'etcd-20260102030405.db': SNAPSHOT });
  const [good, future] = ['etcd-20260102030405.db', 'etcd-20990102030405.db'].map((name) => join(files, name));
  await writeFile(future ?? '', SNAPSHOT);
  const cases: [args: readonly string[], code: number, message: RegExp, variables?: Variables][] = [
    [[good ?? ''], 2, /does not say which cluster it belongs to/],
    [[good ?? ''], 2, /The members in .* are not those of cluster/, variablesOf('refused')],
    [[good ?? '', '--cluster-id', 'XYZ'], 2, /is not a cluster id/],
    [[good ?? '', '--cluster-id', '0'], 2, /--cluster-id 0 is not a cluster id/],
    [[good ?? '', '--cluster-id', '0000000000000000'], 2, /is not a cluster id/],
    [[future ?? '', ...OF_FIXTURE], 2, /is dated in the future: 2099-01-02\S+ \(from its name\)/],
    [[good ?? '', ...OF_FIXTURE, '--taken-at', 'yesterday'], 2, /--taken-at yesterday is not a time/],
    [
      [good ?? '', ...OF_FIXTURE, '--taken-at', '2099-01-02'],
      2,
      /is dated in the future: \S+ \(given with --taken-at\)/,
    ],
    [[files, ...OF_FIXTURE, '--taken-at', '2026-01-02'], 2, /--taken-at was given for 2 files/],
    [[join(dir, 'missing'), ...OF_FIXTURE], 13, /There is no file/],
  ];
  for (const [args, code, message, variables = apart('refused')] of cases) {
    const finished = await runCommand(['import', ...args], variables);
    t.equal(finished.code, code, args.join(' '));
    t.match(errorOf(finished).message, message);
  }
  t.strictSame(await azurite.names('refused'), []);
});

t.test('a file that does not say for certain who its members are, from a hostile name', async (t) => {
  const name = 'étcd \u001b[2J$(reboot)-1767323045';
  const files = await folder('hostile', { [name]: await readFile(PROMOTED) });
  const finished = await runCommand(['import', files, ...OF_FIXTURE], apart('hostile'));
  t.equal(finished.code, 0, finished.stderr);
  t.notOk((finished.stdout + finished.stderr).includes('\u001b'));
  const [listed] = await jsonOf<Listed[]>(['list'], apart('hostile'));
  t.match(listed, { record: true, members: [], imported: '?tcd??[2J$(reboot)-1767323045' });
  t.equal(listed?.memberId, undefined, 'nothing is guessed');
  const plan = await runCommand(['restore', listed?.name ?? '', '--plan', '--layout', 'kubeadm'], apart('hostile'));
  t.equal(plan.stdout.match(/left out/g)?.length, 2, 'as for the file itself');
});

import { mkdir, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { Azurite } from '../support/azurite.ts';
import { makeAuthority } from '../support/certificates.ts';
import { EtcdCluster, etcdFor, findEtcd } from '../support/etcd.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { FIXTURES, SNAPSHOT, unfitFor } from '../support/fixtures.ts';
import { collect, mustRun, run, temporaryFolder, type Variables } from '../support/process.ts';
import {
  BUMP,
  contentOf,
  metadataOf,
  type Plan,
  RECORDED_NAME as STORED,
  restoreAll,
  type Restored,
} from '../support/restored.ts';
import { jsonOf, runCommand } from '../support/command.ts';
import { errorOf, runWorker, startWorker, withTools } from '../support/worker.ts';

const dir = temporaryFolder('restore');
const authority = await makeAuthority(join(dir, 'certs'));
const azurite = await Azurite.start(join(dir, 'azurite'));
t.teardown(async () => azurite.stop());
t.jobs = 2;
const [oldest] = findEtcd();
const newest = findEtcd().at(-1);
if (oldest === undefined || newest === undefined) throw new Error('no etcd');

/** Other users and namespaces are for root only. */
const skip = process.getuid?.() === 0 ? false : 'needs root';
const unfit = unfitFor(newest);

/** A snapshot of etcd 3.5.30, as a file. */
const file = join(dir, 'fixture.db');
await writeFile(file, SNAPSHOT);
/** Another one, of three members. */
const OTHER = join(FIXTURES, 'etcd-3.5.16-cluster3.snap');

/** Stores bytes with a record, and returns the variables that reach them. */
const stored = async (container: string, bytes: Buffer, metadata: Record<string, string>): Promise<Variables> => {
  const client = azurite.container(container);
  await client.createIfNotExists();
  await client.getBlockBlobClient(STORED).upload(bytes, bytes.length, { metadata });
  return { ...azurite.variables(container), ...withTools(newest) };
};

/** Nothing may be there when a restore was refused or failed. */
async function leavesNothing(t: Test, dataDir: string): Promise<void> {
  await t.rejects(stat(dataDir), { code: 'ENOENT' }, 'nothing is at the target');
  await t.rejects(stat(`${dataDir}.restoring`), { code: 'ENOENT' }, 'nothing is beside it');
}

for (const tools of etcdFor('the oldest and the newest')) {
  t.test(`etcd ${tools.version}: a cluster that lost all its data comes back`, async (t) => {
    const folder = join(dir, tools.version);
    const cluster = await EtcdCluster.start({ tools, dir: folder, size: 3, tls: authority });
    t.teardown(async () => cluster.stop());
    await cluster.fill(300, 2000);
    await cluster.fill(50, 1000);
    await cluster.etcdctl('del', '/registry/pods/default/pod-7');
    await cluster.etcdctl('compact', '3');
    const container = `restore-${tools.version.replaceAll('.', '-')}`;
    const variables = { ...cluster.variables, ...azurite.variables(container), ...withTools(tools) };
    const { name } = await jsonOf<{ name: string }>([], variables);
    const before = await contentOf(cluster);
    await cluster.etcdctl('put', 'late', 'written after the backup');

    const target = join(folder, 'x');
    const refused = await runWorker(['restore', name, '--data-dir', target, '--name', 'm1'], variables);
    t.equal(refused.code, 20, 'not while the cluster works');
    t.match(errorOf(refused), { message: /has quorum/, hint: /replace-member/ });
    await leavesNothing(t, target);

    const planFile = join(folder, 'plan.json');
    const plan = ['restore', '--plan', '--layout', 'kubeadm', '--output', planFile];
    const early = await runCommand(plan, variables);
    t.equal(early.code, 20, 'a plan whose steps would be refused');
    t.match(errorOf(early), { message: /has quorum/, hint: /--force/ });
    t.match(await jsonOf<Plan>([...plan, '--force'], variables), { snapshot: { name }, force: true });

    await Promise.all(cluster.members.map(async (member) => cluster.stopMember(member.name)));
    for (const member of cluster.members) await rm(join(folder, member.name), { recursive: true });
    await restoreAll(cluster, folder, planFile, variables);
    await Promise.all(cluster.members.map(async (member) => cluster.startMember(member.name)));

    const after = await contentOf(cluster);
    t.strictSame(after.keys, before.keys, 'every key and value');
    const bumps = !tools.version.startsWith('3.4.');
    t.equal(after.revision, before.revision + (bumps ? BUMP : 0));
    if (bumps) {
      const watch = ['watch', 'late', '--rev', String(before.revision + 1)];
      await t.rejects(cluster.etcdctl(...watch), /compacted/, 'a watcher from before learns of it');
    }
    await cluster.etcdctl('put', 'new', 'written after the restore');
    for (const { endpoint } of cluster.members) {
      t.match(await cluster.etcdctlAt(endpoint, 'get', 'new', '--print-value-only'), 'written after');
    }
    t.strictSame((await readdir(folder)).toSorted(), ['m1', 'm2', 'm3', 'plan.json'], 'nothing else is left');
  });
}

t.test('a plan is for one snapshot and its members', { skip: unfit }, async (t) => {
  const members = ['a', 'b'].map((name, i) => ({
    id: `${i}1`,
    name,
    peerURLs: [`https://10.0.0.${i}:2380`],
    isLearner: false,
  }));
  const metadata = metadataOf({ members: JSON.stringify(members) });
  const variables = await stored('plan', SNAPSHOT, metadata);
  const made = ['restore', '--plan', STORED, '--layout', 'kubeadm'];
  const strange = await runCommand(made, variables);
  t.equal(strange.code, 2, strange.stderr);
  t.match(errorOf(strange), { message: /do not list the same members/, hint: /--initial-cluster/ });
  const own = await runCommand(['restore', STORED, '--name', 'a', '--data-dir', join(dir, 'strange')], variables);
  t.equal(own.code, 2, own.stderr);
  t.match(errorOf(own).message, /do not list the same members/);
  await leavesNothing(t, join(dir, 'strange'));
  const set = 'a=https://10.0.0.0:2380,b=https://10.0.0.1:2380';
  const plan = await jsonOf<Plan>([...made, '--initial-cluster', set], variables);
  t.equal(plan.initialCluster, set);
  const planFile = join(dir, 'made.json');
  await writeFile(planFile, JSON.stringify(plan));
  t.match((await runCommand(['restore', '--plan', '--from-plan', planFile], {})).stdout, plan.initialClusterToken);
  const target = join(dir, 'planned');
  const args = ['restore', '--from-plan', planFile, '--data-dir', target, '--member'];
  const other = await runCommand([...args, 'a', OTHER], variables);
  t.equal(other.code, 11, 'another snapshot');
  t.match(errorOf(other).message, /is not the snapshot of the plan/);
  const replaced = await runCommand([...args, 'a'], await stored('plan', await readFile(OTHER), metadata));
  t.equal(replaced.code, 11, 'other bytes under its name');
  await leavesNothing(t, target);
});

t.test('one member alone needs a directory and a name', { skip: unfit }, async (t) => {
  const folder = join(dir, 'one');
  await mkdir(folder);
  const target = join(folder, 'alone');
  const bare = withTools(newest);
  const restored = await jsonOf<Restored>(['restore', file, '--data-dir', target, '--name', 'm1'], bare);
  t.match(restored, { snapshotRevision: 52, revision: 52 + BUMP, dataDir: target });
  const laterTool = newest.version.startsWith('3.5.') ? [] : [/start the members with etcd 3\.\d+/];
  t.match(restored.findings, [/SNAPSHOT_ETCD_ENDPOINTS is not set/, ...laterTool]);
  t.strictSame(await readdir(join(target, 'member')), ['etcd-snapshot-restore.json', 'snap', 'wal']);

  const again = await runCommand(['restore', file, '--data-dir', target, '--name', 'm1'], bare);
  t.equal(again.code, 2);
  t.match(errorOf(again).message, /is not empty/);

  const [plain, wal] = [join(folder, 'plain'), join(folder, 'plain-wal')];
  const args = ['restore', file, '--data-dir', plain, '--wal-dir', wal, '--name', 'm1', '--no-bump'];
  t.match(await jsonOf<Restored>(args, bare), { revision: 52 });
  t.match(await readdir(wal), [/\.wal$/]);
  t.strictSame(
    (await readdir(folder)).filter((name) => name.includes('restoring')),
    [],
  );
});

t.test('what is refused, before anything is done', { skip: unfit }, async (t) => {
  const target = join(dir, 'refused');
  const variables = await stored('refused', SNAPSHOT, metadataOf({ sha256: 'ab'.repeat(32) }));
  const own = ['--name', 'm1', '--data-dir', target];
  const several = ['--initial-cluster', 'm1=http://a:1,m2=http://b:1'];
  const cases: [code: number, message: RegExp, args: string[], more?: Variables][] = [
    [2, /does not exist/, [file, '--name', 'm1', '--data-dir', join(dir, 'no/where')]],
    [2, /No snapshot given/, [...own, ...several]],
    [2, /--output is used only with --plan/, [STORED, ...own, '--output', join(dir, 'plan.json')]],
    [2, /--layout is used only with --plan/, [STORED, ...own, '--layout', 'kubeadm']],
    [2, /--restored is used only with --swap/, [STORED, ...own, '--restored', target]],
    [2, /--plan cannot be combined with --swap/, ['--plan', '--swap', '--data-dir', target]],
    [2, /cannot be combined with --swap/, ['--swap', '--download', target]],
    [2, /neither etcdutl, nor/, [STORED, ...own], { PATH: join(dir, 'empty-bin') }],
    [13, /There is no snapshot nothing\.db/, ['nothing.db', ...own]],
    [11, /its sha256 does not match its record/, [STORED, ...own]],
  ];
  if (oldest.version.startsWith('3.4.')) {
    const tooOld = /etcdctl 3\.4\.\d+ is too old for a snapshot of etcd 3\.5/;
    cases.push([20, tooOld, [STORED, ...own], withTools(oldest)]);
  }
  await mkdir(join(dir, 'empty-bin'));
  await symlink('/usr/bin/env', join(dir, 'empty-bin', 'env'));
  for (const [code, message, args, more] of cases) {
    const finished = await runCommand(['restore', ...args], { ...variables, ...more });
    t.equal(finished.code, code, finished.stderr);
    t.match(errorOf(finished).message, message);
    await leavesNothing(t, target);
  }
});

t.test('a member is restored next to its old data, swapped in, and swapped back', { skip }, async (t) => {
  const folder = join(dir, 'swap');
  const cluster = await EtcdCluster.start({ tools: newest, dir: folder });
  t.teardown(async () => cluster.stop());
  await cluster.fill(20, 1000);
  const saved = join(dir, 'saved.db');
  await cluster.etcdctl('snapshot', 'save', saved);
  await cluster.etcdctl('put', 'late', 'written after the snapshot');
  const dataDir = join(folder, 'm1');
  const bare = withTools(newest);

  const restore = ['restore', saved, '--name', 'm1', '--data-dir', join(dataDir, 'restored')];
  const { next } = await jsonOf<Restored>(restore, bare);
  t.equal(next, `etcd-snapshot restore --swap --data-dir ${dataDir}`);
  const [, ...swap] = next.split(' ');
  const busy = await runCommand(swap, bare);
  t.equal(busy.code, 20, 'etcd still runs');
  t.match(errorOf(busy).message, /in use by process \d+ \(etcd\)/);
  const inContainer = await run(
    'unshare',
    ['--pid', '--fork', '--mount-proc', process.execPath, 'dist/main.js', ...swap],
    bare,
    process.cwd(),
  );
  t.equal(inContainer.code, 20, 'also where its process cannot be seen');
  t.match(errorOf(inContainer).message, /holds the lock on its database/);

  await cluster.stopMember('m1');
  const { old, undo } = await jsonOf<{ old: string; undo: string }>(swap, bare);
  t.match(old, new RegExp(`^${dataDir}/old-\\d{8}-\\d{6}$`));
  await cluster.startMember('m1');
  t.equal(await cluster.etcdctl('get', 'late'), '', 'the restored data');
  t.equal((await contentOf(cluster)).keys.size, 20);

  await cluster.stopMember('m1');
  const [, ...back] = undo.split(' ');
  await jsonOf(back, bare);
  await cluster.startMember('m1');
  t.match(await cluster.etcdctl('get', 'late'), 'written after', 'the old data');
  t.equal((await runCommand(swap, bare)).code, 20);

  await rm(join(dataDir, 'member'), { recursive: true });
  const wiped = await runWorker(['restore', saved, '--name', 'm1', '--data-dir', dataDir], bare);
  t.equal(wiped.code, 20, 'a directory that was wiped under a running etcd');
  await cluster.stopMember('m1');
  t.equal((await runCommand(['restore', '--swap', '--data-dir', dataDir], bare)).code, 2, 'nothing to swap in');
});

t.test("a member's own configuration, and the owner of its old data", { skip: skip || unfit }, async (t) => {
  const place = join(dir, 'etcddisk');
  await mkdir(join(place, 'member'), { recursive: true });
  await mustRun('chown', ['123:124', join(place, 'member')]);
  await mustRun('chmod', ['0750', join(place, 'member')]);
  const { members } = await jsonOf<{ members: { name: string; peerURLs: string[] }[] }>(['inspect', OTHER], {});
  const [own] = members;
  if (own === undefined) throw new Error('no member');
  const config = join(dir, 'etcd.default');
  await writeFile(
    config,
    `DAEMON_ARGS=--name ${own.name} --peer-client-cert-auth --initial-advertise-peer-urls ${own.peerURLs[0]} ` +
      `--initial-cluster ${own.name}=${own.peerURLs[0]} --data-dir=${place} --initial-cluster-state existing\n`,
  );
  const bare = withTools(newest);
  const latest = await runCommand(['restore', '--from', config], { ...bare, ...azurite.variables('refused') });
  t.equal(latest.code, 2, 'the newest snapshot may be another one on the next member');
  const restored = await jsonOf<Restored>(['restore', OTHER, '--from', config], bare);
  t.equal(restored.dataDir, join(place, 'restored'));
  for (const { name, peerURLs } of members) t.match(restored.member.initialCluster, `${name}=${peerURLs[0]}`);
  t.match(restored.member.initialClusterToken, /^restored-[0-9a-f]{16}$/);
  t.match(restored.findings.join(' '), /a different initial cluster/);
  t.match(await stat(restored.dataDir), { uid: 123, gid: 124, mode: 0o40750 });
  t.match(await stat(join(restored.dataDir, 'member/snap/db')), { uid: 123, gid: 124 });
});

t.test('the snapshot itself, as a file', async (t) => {
  const folder = join(dir, 'download');
  await mkdir(folder);
  const { members } = await jsonOf<{ members: object[] }>(['inspect', file], {});
  const metadata = metadataOf({ members: JSON.stringify(members) });
  const variables = await stored('download', SNAPSHOT, metadata);
  const place = join(folder, 'snapshot.db');
  const args = ['restore', '--download', place];

  const made = await runWorker(args, { ...variables, PATH: '/usr/bin:/bin' });
  t.equal(made.code, 0, 'the newest, without a tool of etcd');
  t.match(made.stdout, /\| +a8e91a41 \| +52 \|/);
  t.match(made.stdout, `${STORED} was downloaded to ${place}. It is valid.`);
  t.strictSame(await readFile(place), SNAPSHOT);
  t.equal((await stat(place)).mode & 0o777, 0o600, 'it holds Secrets');
  t.strictSame(await readdir(folder), ['snapshot.db'], 'nothing is beside it');

  const planFile = join(dir, 'download.json');
  const plan = await jsonOf<Plan>(['restore', '--plan', STORED, '--layout', 'rke2'], variables);
  await writeFile(planFile, JSON.stringify(plan));
  const planned = join(folder, 'planned.db');
  const fromPlan = ['restore', '--from-plan', planFile, '--download', planned];
  t.match(await jsonOf(fromPlan, variables), { file: planned, sha256: plan.snapshot.sha256, revision: 52 });
  await rm(planned);

  const again = await runCommand(args, variables);
  t.equal(again.code, 0, 'the same once more');
  t.match(again.stdout, `Already done: ${STORED} is in ${place}.`);

  await azurite.container('download').getBlockBlobClient('other.db').uploadFile(OTHER);
  const unsound = await stored('unsound', SNAPSHOT, { ...metadata, sha256: 'ab'.repeat(32) });
  const replaced = await stored('replaced', await readFile(OTHER), metadata);
  const refused: [code: number, message: RegExp, args: string[], more?: Variables][] = [
    [2, /snapshot\.db already exists, and does not contain other\.db/, [...args, 'other.db']],
    [2, /is a directory/, ['restore', '--download', folder]],
    [2, /does not exist/, ['restore', '--download', join(dir, 'no/where.db')]],
    [2, /is a local file already/, ['restore', file, '--download', planned]],
    [2, /cannot be combined with --plan, --name/, ['restore', '--download', planned, '--plan', '--name', 'm1']],
    [2, /cannot be combined with --force/, ['restore', '--download', planned, '--force']],
    [13, /There is no snapshot nothing\.db/, ['restore', 'nothing.db', '--download', planned]],
    [11, /its sha256 does not match its record/, ['restore', '--download', planned], unsound],
    [11, /is not the snapshot of the plan/, [...fromPlan, 'other.db']],
    [11, /is not a valid snapshot/, fromPlan, replaced],
    [2, /restores the snapshot itself/, ['restore', '--from-plan', planFile, '--member', 'a']],
  ];
  for (const [code, message, words, more] of refused) {
    const finished = await runCommand(words, { ...variables, ...more });
    t.equal(finished.code, code, finished.stderr);
    t.match(errorOf(finished).message, message);
    t.strictSame(await readdir(folder), ['snapshot.db'], 'nothing is left');
  }
  t.strictSame(await readFile(place), SNAPSHOT, 'nothing was overwritten');
});

async function hasDownloaded(work: string): Promise<boolean> {
  const part = (await readdir(work).catch(() => [])).find((name) => name.startsWith('snapshot-'));
  return part !== undefined && (await stat(join(work, part))).size > 0;
}

t.test('a download is resumed after a broken connection and after a kill', async (t) => {
  const folder = join(dir, 'cut');
  await mkdir(folder);
  const big = await EtcdCluster.start({ tools: newest, dir: join(dir, 'big') });
  t.teardown(async () => big.stop());
  await big.fill(400, 50_000);
  const own = { ...big.variables, ...azurite.variables('big') };
  const { name, sha256 } = await jsonOf<{ name: string; sha256: string }>([], own);
  let gets = 0;
  let rule: 'cut' | 'hang' = 'cut';
  const proxy = await FaultProxy.start(azurite.url, ({ method }) => {
    if (method === 'GET') gets++;
    return method === 'GET' && (rule === 'hang' ? gets > 2 : gets % 3 === 0) ? rule : 'pass';
  });
  t.teardown(async () => proxy.stop());
  const variables = { ...azurite.variables('big'), ...withTools(newest), SNAPSHOT_AZURE_BLOB_ENDPOINT: proxy.url };
  const target = join(folder, 'resumed');
  const args = ['restore', name, '--name', 'm1', '--data-dir', target];
  await jsonOf<Restored>(args, variables);
  await rm(target, { recursive: true });

  [rule, gets] = ['hang', 0];
  const worker = startWorker(args, variables);
  const ended = collect(worker);
  while (!(await hasDownloaded(`${target}.restoring`))) await sleep(20);
  worker.kill('SIGTERM');
  const { code, stderr } = await ended;
  t.equal(code, 143);
  t.match(stderr, `kept the incomplete download: the same command resumes it","dir":"${target}.restoring"`);
  await t.rejects(stat(target), { code: 'ENOENT' });
  const part = (await readdir(`${target}.restoring`)).find((name) => name.startsWith('snapshot-')) ?? '';
  t.not(part, '', 'the download is kept');
  const partFile = join(`${target}.restoring`, part);
  t.equal((await stat(partFile)).mode & 0o777, 0o600);

  gets = 3;
  const early = startWorker([...args.slice(0, 2), '--download', `${target}.db`], variables);
  const earlyEnd = collect(early);
  while ((await stat(`${target}.db.restoring`).catch(() => undefined)) === undefined) await sleep(20);
  early.kill('SIGINT');
  t.equal((await earlyEnd).code, 130);
  await t.rejects(stat(`${target}.db.restoring`), { code: 'ENOENT' }, 'nothing was downloaded, and nothing is left');

  rule = 'cut';
  const resumed = await runCommand(args, variables);
  t.equal(resumed.code, 0, resumed.stderr);
  t.match(resumed.stderr, /resuming an interrupted download/);
  await rm(target, { recursive: true });

  const file = join(folder, 'resumed.db');
  await mkdir(`${file}.restoring`, { mode: 0o700 });
  const half = (await azurite.container('big').getBlobClient(name).downloadToBuffer()).subarray(0, 9_000_000);
  await writeFile(join(`${file}.restoring`, part), half);
  const downloaded = await runCommand(['restore', name, '--download', file], variables);
  t.equal(downloaded.code, 0, downloaded.stderr);
  t.match(downloaded.stderr, /resuming an interrupted download","from":9000000/);
  t.equal(await mustRun('sha256sum', [file]), `${sha256}  ${file}\n`);

  await mkdir(`${target}.restoring`, { mode: 0o700 });
  await writeFile(partFile, Buffer.alloc(100_000, 1));
  const anew = await runCommand(args, variables);
  t.equal(anew.code, 0, anew.stderr);
  t.match(anew.stderr, /is not valid: downloading it again/);
  t.strictSame(
    (await readdir(folder)).filter((entry) => entry.includes('restoring')),
    [],
  );
});

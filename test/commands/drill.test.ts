import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { Azurite } from '../support/azurite.ts';
import { EtcdCluster, findEtcd } from '../support/etcd.ts';
import { collect, type Finished, temporaryFolder } from '../support/process.ts';
import { metadataOf, RECORDED_NAME } from '../support/restored.ts';
import { FIXTURES, SNAPSHOT, unfitFor } from '../support/fixtures.ts';
import { jsonOf, runCommand } from '../support/command.ts';
import { errorOf, runWorker, startWorker, withTools } from '../support/worker.ts';

interface Drill {
  readonly ok: boolean;
  readonly etcd: string;
  readonly checks: readonly { readonly what: string; readonly ok: boolean }[];
  readonly recoveryMs: number;
  readonly durationsMs: Readonly<Record<string, number>>;
}

const dir = temporaryFolder('drill');
const tools = findEtcd().at(-1);
if (tools === undefined) throw new Error('no etcd');
const skip = unfitFor(tools);
const azurite = await Azurite.start(join(dir, 'azurite'));
t.teardown(async () => azurite.stop());
t.jobs = 4;

/** A directory for the drills of one test, in which nothing may be left. */
async function makeRoom(): Promise<string> {
  return mkdtemp(join(dir, 'room-'));
}

for (const version of findEtcd()) {
  t.test(`etcd ${version.version}: the newest snapshot can be restored`, async (t) => {
    const room = await makeRoom();
    const cluster = await EtcdCluster.start({ tools: version, dir: join(dir, version.version) });
    t.teardown(async () => cluster.stop());
    await cluster.fill(500, 2000);
    await cluster.fill(100, 2000);
    await cluster.etcdctl('del', '/registry/pods/default/pod-7');
    await cluster.etcdctl('compact', '5');
    const container = `drill-${version.version.replaceAll('.', '-')}`;
    const variables = { ...cluster.variables, ...azurite.variables(container), ...withTools(version) };
    await jsonOf([], variables);
    await cluster.stop();

    const finished = await runCommand(['drill', '--json', '--temp-dir', room], variables);
    t.equal(finished.code, 0, finished.stderr);
    const result = JSON.parse(finished.stdout) as Drill;
    t.match(result, { ok: true, etcd: version.version });
    const { fetch = 0, restore = 0, start = 0, compare = 0 } = result.durationsMs;
    t.ok(compare > 0 && result.recoveryMs === fetch + restore + start, `recovery takes ${result.recoveryMs} ms`);
    const checked = new Set(result.checks.map(({ what }) => what));
    for (const what of ['revision', 'live keys', 'HashKV', 'totalKeys of the record']) t.ok(checked.has(what), what);
    const line = finished.stderr.split('\n').find((text) => text.includes('drill succeeded')) ?? '{}';
    t.match(JSON.parse(line), { ok: true, recoveryMs: result.recoveryMs }, 'one line for monitoring');
    t.strictSame(await readdir(room), []);
  });
}

t.test('a value above the limit of gRPC, and a later etcd than that of the members', { skip }, async (t) => {
  const room = await makeRoom();
  const older = findEtcd().find(({ version }) => version.startsWith('3.5.')) ?? tools;
  const flags = ['--max-request-bytes', String(16 * 1024 * 1024)];
  const cluster = await EtcdCluster.start({ tools: older, dir: join(dir, 'large'), flags });
  t.teardown(async () => cluster.stop());
  await cluster.fill(1, 6 * 1024 * 1024);
  const variables = { ...cluster.variables, ...azurite.variables('drill-large') };
  const { name } = await jsonOf<{ name: string }>([], variables);
  await cluster.stop();
  const drilled = await runCommand(['drill', name, '--json', '--temp-dir', room], {
    ...variables,
    ...withTools(tools),
  });
  t.equal(drilled.code, 0, drilled.stderr);
  const { findings } = JSON.parse(drilled.stdout) as { findings: string[] };
  if (older === tools) return t.comment('there is no later etcd here');
  t.match(findings, [
    new RegExp(`restores a snapshot of etcd ${older.version}: start the members with etcd ${tools.version},`),
  ]);
});

t.test('files of clusters with authentication, leases and an unfinished compaction', { skip }, async (t) => {
  const room = await makeRoom();
  for (const name of ['auth', 'leases', 'compacted', 'empty']) {
    const file = join(FIXTURES, `etcd-3.5.30-${name}.snap`);
    const { code, stdout, stderr } = await runCommand(['drill', file, '--temp-dir', room], withTools(tools));
    t.equal(code, 0, `${name}: ${stderr}`);
    t.match(stdout, /restorable: .* with etcd 3\.\d+\.\d+ in \d+\.\d s\n$/);
  }
  t.strictSame(await readdir(room), []);
});

t.test('every difference is detected', { skip }, async (t) => {
  const room = await makeRoom();
  // A tool that restores something else than it was given, as a lost or mixed-up disk would.
  const bin = join(dir, 'bin');
  await mkdir(bin);
  const script = (other: string): string =>
    `#!/bin/sh\nif [ "$2" = restore ] && [ -f "$3" ]; then shift 3; exec ${tools.snapshotTool} snapshot restore ${other} "$@"; fi\n` +
    `exec ${tools.snapshotTool} "$@"\n`;
  const restores = async (name: string): Promise<void> => {
    await writeFile(join(bin, 'etcdutl'), script(join(FIXTURES, name)));
    await chmod(join(bin, 'etcdutl'), 0o755);
  };
  const wrong = { PATH: `${bin}:${dirname(tools.etcd)}:/usr/bin:/bin` };
  const file = join(FIXTURES, 'etcd-3.5.30-k8s.snap');
  for (const [name, message] of [
    ['etcd-3.5.16-k8s.snap', /HashKV \(expected \d+, found \d+\)/],
    ['etcd-3.5.30-empty.snap', /revision \(expected 52, found 1\)/],
  ] as const) {
    await restores(name);
    const finished = await runCommand(['drill', file, '--json', '--temp-dir', room], wrong);
    t.equal(finished.code, 11, finished.stderr);
    t.equal((JSON.parse(finished.stdout || '{}') as Drill).ok, false);
    t.match(errorOf(finished).message, message);
    t.match(finished.stderr, /drill failed/);
  }

  const container = azurite.container('drill-record');
  await container.create();
  const members = '[{"id":"1","name":"m","peerURLs":["https://10.0.0.1:2380"],"isLearner":false}]';
  const metadata = metadataOf({ livekeys: '351', members });
  await container.getBlockBlobClient(RECORDED_NAME).upload(SNAPSHOT, SNAPSHOT.length, { metadata });
  const record = await runCommand(['drill', '--temp-dir', room], {
    ...azurite.variables('drill-record'),
    ...withTools(tools),
  });
  t.equal(record.code, 11);
  t.match(errorOf(record).message, /liveKeys of the record \(expected 351, found 352\)/);

  const broken = join(dir, 'broken.db');
  await writeFile(
    broken,
    Buffer.concat([SNAPSHOT.subarray(0, 90_000), Buffer.alloc(64, 1), SNAPSHOT.subarray(90_064)]),
  );
  t.equal((await runCommand(['drill', broken, '--temp-dir', room], withTools(tools))).code, 11);
  t.equal((await runCommand(['drill', join(dir, 'none.db'), '--temp-dir', room], withTools(tools))).code, 13);
  t.equal((await runCommand(['drill', file, '--temp-dir', join(dir, 'nowhere')], withTools(tools))).code, 2);
  t.strictSame(await readdir(room), []);
});

t.test('a drill kills an etcd that never answers, at the time limit and on a signal', { skip }, async (t) => {
  const room = await makeRoom();
  const bin = join(dir, 'mute');
  await mkdir(bin);
  await writeFile(join(bin, 'etcdutl'), `#!/bin/sh\nexec ${tools.snapshotTool} "$@"\n`, { mode: 0o755 });
  const pidFile = join(dir, 'mute.pid');
  await writeFile(join(bin, 'etcd'), `#!/bin/sh\necho $$ >${pidFile}\nexec sleep 1000\n`, { mode: 0o755 });
  const mute = { PATH: `${bin}:/usr/bin:/bin` };
  const file = join(FIXTURES, 'etcd-3.5.30-k8s.snap');
  // A busy machine takes longer until etcd is started.
  let limit = 4;
  let slow: Finished;
  do slow = await runWorker(['drill', file, '--temp-dir', room], { ...mute, SNAPSHOT_TIMEOUT: String((limit *= 2)) });
  while (!existsSync(pidFile));
  t.equal(slow.code, 10, slow.stderr);
  t.match(errorOf(slow).message, `Timed out after ${limit} s (SNAPSHOT_TIMEOUT) while etcd was running`);

  await rm(pidFile);
  const worker = startWorker(['drill', file, '--temp-dir', room], mute);
  const ended = collect(worker);
  const pid = async (): Promise<number> => Number(await readFile(pidFile, 'utf8').catch(() => ''));
  while ((await pid()) === 0) await sleep(50);
  worker.kill('SIGTERM');
  t.equal((await ended).code, 143);
  const etcd = await pid();
  t.throws(() => process.kill(etcd, 0), 'etcd is gone');
  t.strictSame(await readdir(room), []);
});

t.test('a snapshot that no plan can be made of', { skip }, async (t) => {
  const room = await makeRoom();
  const client = azurite.container('unplanned');
  await client.createIfNotExists();
  const bare = join(dir, 'unplanned.db');
  await writeFile(bare, SNAPSHOT);
  const { members: own } = await jsonOf<{ members: { id: string; name: string; peerURLs: string[] }[] }>(
    ['inspect', bare],
    {},
  );
  const [first] = own;
  if (first === undefined) throw new Error('no member');
  const member = { id: first.id, name: first.name, peerURLs: first.peerURLs, isLearner: false };
  const name = 'kubernetes-etcd-snapshot_20260101_000000.db';
  const store = async (members: readonly object[]): Promise<unknown> =>
    client
      .getBlockBlobClient(name)
      .upload(SNAPSHOT, SNAPSHOT.length, { metadata: metadataOf({ members: JSON.stringify(members) }) });
  const variables = { ...azurite.variables('unplanned'), ...withTools(tools) };
  await store([member]);
  const good = await jsonOf<Drill>(['drill', '--temp-dir', room], variables);
  t.ok(good.checks.find(({ what }) => what === 'a plan for all members')?.ok);

  for (const members of [[{ ...member, peerURLs: ['https://10.9.9.9:2380'] }], [{ ...member, name: 'm1; reboot' }]]) {
    await store(members);
    const drilled = await runCommand(['drill', '--json', '--temp-dir', room], variables);
    t.equal(drilled.code, 11, drilled.stderr);
    t.match(errorOf(drilled).message, /a plan for all members cannot be created: \S/);
    const { checks } = JSON.parse(drilled.stdout) as Drill;
    t.strictSame(
      checks.filter(({ ok }) => !ok).map(({ what }) => what),
      ['a plan for all members'],
      'all else is well',
    );
  }
});

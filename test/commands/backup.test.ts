import { createHash } from 'node:crypto';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { Azurite } from '../support/azurite.ts';
import { makeAuthority } from '../support/certificates.ts';
import { EtcdCluster, findEtcd, restoreAndCount } from '../support/etcd.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { FakeMember, type Message, messagesOf } from '../support/fake-etcd.ts';
import { DATABASE, PROMOTED, unfitFor } from '../support/fixtures.ts';
import { mustRun, temporaryFolder } from '../support/process.ts';
import { nextSecond } from '../support/until.ts';
import { jsonOf, runCommand } from '../support/command.ts';
import { errorOf, runWorker, withTools } from '../support/worker.ts';

interface Result {
  readonly name: string;
  readonly container: string;
  readonly size: number;
  readonly totalSize: number;
  readonly sha256: string;
  readonly etcdVersion: string;
  readonly clusterId: string;
  readonly memberId: string;
  readonly endpoint: string;
  readonly durationsMs: Record<string, number>;
  readonly retention: { kept: number | null; removed: string[]; decisions: object[] };
  readonly hashKV: { agree: string[]; disagree: string[] } | null;
  readonly findings: string[];
}

const dir = temporaryFolder('backup');
const authority = await makeAuthority(join(dir, 'certs'));
const [tools] = findEtcd();
if (tools === undefined) throw new Error('no etcd');
const [azurite, single] = await Promise.all([
  Azurite.start(join(dir, 'azurite')),
  EtcdCluster.start({ tools, dir: join(dir, 'single') }),
]);
t.teardown(async () => Promise.all([azurite.stop(), single.stop()]));
t.jobs = 2;

async function backup(variables: Record<string, string>): Promise<Result> {
  const { code, stdout, stderr } = await runCommand(['--json'], variables);
  if (code !== 0) throw new Error(`backup ended with ${code}: ${stderr}`);
  return JSON.parse(stdout) as Result;
}

for (const tools of findEtcd()) {
  t.test(`etcd ${tools.version}: three members, TLS, client certificates`, async (t) => {
    const cluster = await EtcdCluster.start({ tools, dir: join(dir, tools.version), size: 3, tls: authority });
    t.teardown(async () => cluster.stop());
    const container = `etcd-${tools.version.replaceAll('.', '-')}`;
    const variables = { ...cluster.variables, ...azurite.variables(container), SNAPSHOT_LOG_LEVEL: 'debug' };

    for (const [size, count, valueSize] of [
      ['small', 50, 300],
      ['large', 180, 50_000],
    ] as const) {
      await cluster.fill(count, valueSize, `/registry/${size}/`);
      const result = await backup(variables);
      t.match(result, { container, etcdVersion: tools.version, clusterId: /^[0-9a-f]{1,16}$/ });
      t.ok(cluster.endpoints.includes(result.endpoint));
      t.match(result.hashKV, { agree: { length: 2 }, disagree: { length: 0 } }, 'both other members hold the same');
      t.ok(size === 'small' ? result.size < 5 * 1024 * 1024 : result.size > 5 * 1024 * 1024, size);

      const file = join(dir, `${container}-${size}.db`);
      const blob = azurite.container(container).getBlobClient(result.name);
      await blob.downloadToFile(file);
      const bytes = await readFile(file);
      t.equal(createHash('sha256').update(bytes).digest('hex'), result.sha256);
      t.equal(bytes.length, result.size);
      const { metadata } = await blob.getProperties();
      t.match(metadata, {
        sha256: result.sha256,
        totalsize: String(result.totalSize),
        etcdversion: tools.version,
        clusterid: result.clusterId,
        memberid: result.memberId,
        tool: /^etcd-snapshot\//,
      });
      const members = JSON.parse(metadata?.['members'] ?? '') as { id: string; name: string }[];
      t.strictSame(members.map(({ name }) => name).toSorted(), ['m1', 'm2', 'm3']);
      t.ok(members.some(({ id }) => id === result.memberId));

      const status = JSON.parse(
        await mustRun(tools.snapshotTool, ['snapshot', 'status', file, '-w', 'json'], { ETCDCTL_API: '3' }),
      ) as { totalSize: number };
      t.equal(status.totalSize, result.totalSize, 'as etcd’s own tool says');
      if (size === 'large')
        t.equal(await restoreAndCount(tools, file, `${file}.restored`), 230, 'it restores and boots');
    }
  });
}

t.test('what a person sees', async (t) => {
  const variables = { ...single.variables, ...azurite.variables('person'), SNAPSHOT_BLOB_PREFIX: 'prod-eu/' };
  const { code, stdout } = await runWorker([], { ...variables, SNAPSHOT_LOG_FORMAT: 'text' });
  t.equal(code, 0);
  t.match(stdout, /^\+-+\+-+\+-+\+-+\+\n\| +HASH +\| +REVISION +\| +TOTAL KEYS +\| +TOTAL SIZE +\|\n/);
  t.match(stdout, /\nBackup prod-eu\/kubernetes-etcd-snapshot_\d{8}_\d{6}\.db uploaded successfully!\n$/);
});

t.test('the book’s Secret file works unchanged, with all of its variables and quotation marks', async (t) => {
  const secretFile = join(dir, 'etcd-snapshot-secrets.txt');
  const lines = [
    `SNAPSHOT_ETCD_ENDPOINTS=${single.endpoints}`,
    'SNAPSHOT_AZURE_PRINCIPAL_APPID=1775963c-8414-434d-839c-db5d417c4293',
    'SNAPSHOT_AZURE_PRINCIPAL_PASSWORD=276952a9-fa51-44ef-b6c6-905e322dbaed',
    'SNAPSHOT_AZURE_PRINCIPAL_TENANT=86be0945-a0f3-44c2-8868-9b6aa96b0b62',
    `SNAPSHOT_AZURE_ACCOUNT_NAME=${azurite.account}`,
    `SNAPSHOT_AZURE_ACCOUNT_KEY="${azurite.key}"`,
    'SNAPSHOT_AZURE_CONTAINER_NAME=book',
  ];
  await writeFile(secretFile, lines.join('\n'));
  const elsewhere = { SNAPSHOT_AZURE_BLOB_ENDPOINT: azurite.url, SNAPSHOT_LOG_LEVEL: 'debug' };
  const byFlag = await runWorker(['backup', '--env-file', secretFile], elsewhere);
  t.equal(byFlag.code, 0, byFlag.stderr);
  t.match(byFlag.stderr, /accessing Azure with the account key.*"unused":\["service principal"\]/);

  // kubectl and docker keep the quotation marks in the variable itself.
  const kept = Object.fromEntries(
    lines.map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  );
  const byEnvironment = await runWorker([], { ...kept, ...elsewhere });
  t.equal(byEnvironment.code, 0, byEnvironment.stderr);

  await writeFile(join(dir, '.env'), lines.join('\n'));
  t.equal((await runWorker([], elsewhere, dir)).code, 0, 'and as .env in the working directory');
  t.equal((await azurite.names('book')).length, 3);
});

t.test('workers that begin in the same second do not disturb each other', async (t) => {
  const variables = { ...single.variables, ...azurite.variables('together') };
  await backup(variables);
  for (let round = 0; round < 3; round++) {
    const before = await azurite.names('together');
    const ends = await Promise.all([1, 2, 3].map(async () => runWorker([], variables)));
    const good = ends.filter(({ code }) => code === 0);
    t.ok(good.length > 0);
    for (const end of ends.filter(({ code }) => code !== 0))
      t.match(errorOf(end), { exitCode: 12, message: /already exists/ });
    t.equal(
      (await azurite.names('together')).length,
      before.length + good.length,
      'each success has a blob of its own',
    );
    const again = await runCommand([], variables);
    t.equal(again.code, 0, 'and who comes right behind takes the next second');
  }
});

t.test('retention keeps the last, of this cluster, with a record', async (t) => {
  const variables = { ...single.variables, ...azurite.variables('retention') };
  const first = await backup(variables);
  t.match(first, { readBack: 'done', retention: { state: 'off', kept: 1, removed: [] } });
  const container = azurite.container('retention');
  await container.getBlockBlobClient('kubernetes-etcd-snapshot_20200101_000000.db').upload('of the book', 11);
  await container.getBlockBlobClient('notes.txt').upload('notes', 5);
  const { metadata = {} } = await container.getBlobClient(first.name).getProperties();
  await container
    .getBlockBlobClient('kubernetes-etcd-snapshot_20200102_000000.db')
    .upload('foreign', 7, { metadata: { ...metadata, clusterid: 'abc', takenat: '2020-01-02T00:00:00Z' } });

  await nextSecond();
  const second = await backup(variables);
  await nextSecond();
  const third = await backup({ ...variables, SNAPSHOT_KEEP_LAST: '2' });
  t.match(third.retention, { state: 'applied', kept: 2, removed: [first.name] });
  t.match(third.retention.decisions[0], { name: third.name, keep: true, reasons: ['newest', 'last 2'] });
  t.strictSame(
    (await azurite.names('retention')).toSorted(),
    [
      'kubernetes-etcd-snapshot_20200101_000000.db',
      'kubernetes-etcd-snapshot_20200102_000000.db',
      second.name,
      third.name,
      'notes.txt',
    ].toSorted(),
  );

  const { code, stdout } = await runCommand(['list', '--json'], variables);
  t.equal(code, 0);
  const listed = JSON.parse(stdout) as { name: string; record: boolean; sha256?: string; clusterId?: string }[];
  // No name tells when the notes were taken, so they stand where they were stored: after the first, before the second.
  t.strictSame(
    listed.map(({ name }) => name),
    [
      third.name,
      second.name,
      'notes.txt',
      'kubernetes-etcd-snapshot_20200102_000000.db',
      'kubernetes-etcd-snapshot_20200101_000000.db',
    ],
  );
  t.match(listed[0], { record: true, sha256: third.sha256, clusterId: third.clusterId });
  t.match(listed[4], { record: false });
  const human = await runCommand(['list'], variables);
  t.match(human.stdout, /20200101_000000\.db .*no record/);
});

t.test('after a failing member the next one is used, and their bytes are not mixed', async (t) => {
  const cluster = await EtcdCluster.start({ tools, dir: join(dir, 'failover') });
  t.teardown(async () => cluster.stop());
  await cluster.fill(200, 50_000);
  const variables = { ...cluster.variables, ...azurite.variables('failover') };
  const { clusterId, endpoint } = await backup(variables);
  const misfits = {
    'wrong trailer': messagesOf(DATABASE, Buffer.alloc(32)),
    'no trailer': messagesOf(DATABASE).slice(0, -1),
    'not a database': messagesOf(Buffer.alloc(20 * 1024 * 1024, 7)),
  };
  for (const [what, messages] of Object.entries(misfits)) {
    const misfit = await FakeMember.start(
      async (send) => {
        for (const message of messages) await send(message);
      },
      BigInt(`0x${clusterId}`).toString(),
    );
    t.teardown(() => misfit.stop());
    const result = await backup({ ...variables, SNAPSHOT_ETCD_ENDPOINTS: `${misfit.endpoint},${cluster.endpoints}` });
    t.equal(misfit.snapshots, 1, `${what}: it was asked first, for it is a follower`);
    t.equal(result.endpoint, endpoint);

    const alone = await runCommand([], { ...variables, SNAPSHOT_ETCD_ENDPOINTS: misfit.endpoint });
    t.equal(alone.code, what === 'no trailer' ? 10 : 11, what);
    t.notMatch(alone.stdout, 'successfully');
  }
  t.equal((await azurite.names('failover')).length, 4, 'only the sound ones are visible');
});

t.test('etcd is not kept waiting when the upload has failed', async (t) => {
  let [failedAt, cancelledAt] = [0, 0];
  const member = await FakeMember.start(async (send, call) => {
    // More than a block, and then nothing any more.
    for (let at = 0; at < 320; at++)
      await send({ remaining_bytes: 64 * 1024 * 1024 - at * 32_768, blob: Buffer.alloc(32_768) });
    while (!call.cancelled) await sleep(20);
    cancelledAt = performance.now();
  });
  const proxy = await FaultProxy.start(azurite.url, ({ method }) => {
    if (method !== 'PUT') return 'pass';
    failedAt = performance.now();
    return { status: 403, code: 'AuthorizationPermissionMismatch' };
  });
  t.teardown(() => member.stop());
  t.teardown(async () => proxy.stop());
  const { code, stderr } = await runWorker([], {
    ...azurite.variables('refuses'),
    SNAPSHOT_AZURE_BLOB_ENDPOINT: proxy.url,
    SNAPSHOT_ETCD_ENDPOINTS: member.endpoint,
  });
  t.equal(code, 12, stderr);
  t.match(errorOf({ stderr }).message, /has no permission on container/);
  t.ok(failedAt > 0 && cancelledAt - failedAt < 25_000, 'and not only after thirty seconds');
});

t.test('members that etcd takes for nameless learners are restored all the same', async (t) => {
  const promoted = await readFile(PROMOTED);
  const names: Record<string, string> = { '27011': 'm1', '27021': 'm2', '27031': 'm3' };
  const inspected = await jsonOf<{ members: { id: string; peerURLs: string[] }[] }>(['inspect', PROMOTED], {});
  const live = inspected.members.map(({ id, peerURLs: [url = ''] }) => {
    return { ID: BigInt(`0x${id}`).toString(), name: names[url.slice(-5)], peerURLs: [url] };
  });
  const [source] = live;
  const planned = async (members: readonly object[], container: string) => {
    const send = async (write: (message: Message) => Promise<void>): Promise<void> => {
      for (const message of messagesOf(promoted.subarray(0, -32))) await write(message);
    };
    const member = await FakeMember.start(send, '1', '2', members, source === undefined ? {} : { memberId: source.ID });
    t.teardown(() => member.stop());
    const variables = { SNAPSHOT_ETCD_ENDPOINTS: member.endpoint, ...azurite.variables(container) };
    const { name, findings } = await jsonOf<{ name: string; findings: string[] }>([], variables);
    const plan = await runCommand(['restore', '--plan', '--layout', 'kubeadm', '--force', '--json'], variables);
    return { name, findings: findings.join(' '), plan: plan.stdout };
  };

  const known = await planned(live, 'promoted');
  t.match(known.findings, /lists m2, m3 as learners, but they vote/);
  t.match(JSON.parse(known.plan), {
    members: [
      { name: 'm1', peerURLs: ['http://127.0.0.1:27011'] },
      { name: 'm2', peerURLs: ['http://127.0.0.1:27021'] },
      { name: 'm3', peerURLs: ['http://127.0.0.1:27031'] },
    ],
    leftOut: [],
  });
  const shown = await runCommand(['inspect', known.name], azurite.variables('promoted'));
  t.match(shown.stdout, /^48f9601ad4a85f09 +m2 +voter /m, 'the record has the name');
  const unknown = await planned(live.slice(1, 2), 'unnamed');
  t.match(unknown.findings, /etcd did not return the current ones: .* is not a member of cluster/);
  t.match(JSON.parse(unknown.plan), {
    members: [{ name: 'm1' }],
    leftOut: [{ reason: /etcd before 3\.5\.20 promoted it/ }, { reason: /has no name in the snapshot/ }],
  });

  const newest = findEtcd().at(-1) ?? tools;
  const unfit = unfitFor(newest);
  if (unfit !== false) return void t.comment(unfit);
  const planFile = join(dir, 'promoted.json');
  await writeFile(planFile, known.plan);
  const args = ['restore', PROMOTED, '--from-plan', planFile, '--member', 'm2', '--data-dir', join(dir, 'm2')];
  t.match(await jsonOf(args, withTools(newest)), { member: { name: 'm2', initialCluster: /^m1=.*,m2=.*,m3=/ } });
});

t.test(
  'a member name with control characters is recorded escaped, with a warning, and the snapshot counts',
  async (t) => {
    const send = async (write: (message: Message) => Promise<void>): Promise<void> => {
      for (const message of messagesOf(DATABASE)) await write(message);
    };
    const members = [{ ID: '1', name: 'm\u001b[31m1', peerURLs: ['http://127.0.0.1:2380'] }];
    const member = await FakeMember.start(send, '1', '2', members);
    t.teardown(() => member.stop());
    const variables = { SNAPSHOT_ETCD_ENDPOINTS: member.endpoint, ...azurite.variables('control-characters') };
    const result = await backup({ ...variables, SNAPSHOT_KEEP_LAST: '1' });
    t.match(result.findings.join(' '), /The name of member 1 has control characters .* as m\\u\{1b\}\[31m1\./);
    t.match(result.retention, { state: 'applied', kept: 1 });
    t.match(await jsonOf(['list'], variables), [{ record: true, members: [{ name: 'm\\u{1b}[31m1' }] }]);
  },
);

t.test('an etcd that lost its database file sends only empty messages, and is not used', async (t) => {
  const old = findEtcd().find(({ version }) => version.startsWith('3.4.'));
  if (old === undefined) {
    t.comment('no etcd 3.4 here; later ones read through the open file');
    return;
  }
  const cluster = await EtcdCluster.start({ tools: old, dir: join(dir, 'endless') });
  t.teardown(async () => cluster.stop());
  await rename(join(dir, 'endless', 'm1', 'member', 'snap', 'db'), join(dir, 'endless', 'elsewhere'));
  const { code, stderr } = await runWorker([], { ...cluster.variables, ...azurite.variables('endless') });
  t.equal(code, 10);
  // On a busy machine the flood may break the connection before it is recognised.
  t.match(stderr, /sends messages without data|connection broke/);
});

t.test('a snapshot that is suspicious compared with the previous one is kept, and nothing is deleted', async (t) => {
  const variables = { ...single.variables, ...azurite.variables('anomaly'), SNAPSHOT_KEEP_LAST: '1' };
  const first = await backup(variables);
  const blob = azurite.container('anomaly').getBlobClient(first.name);
  const { metadata = {} } = await blob.getProperties();
  await blob.setMetadata({ ...metadata, revision: '999999', livekeys: '888888' });

  const { code, stdout, stderr } = await runCommand(['--json'], variables);
  t.equal(code, 3);
  t.match(JSON.parse(stdout), {
    anomalies: [/revision went back from 999999 to/, /number of keys fell from 888888 to/],
    retention: { kept: 2, removed: [] },
  });
  t.match(
    errorOf({ stderr }).message,
    /stored and read back, but suspicious: the revision went back .* Nothing was deleted/,
  );
  await nextSecond();
  t.equal((await backup(variables)).retention.removed.length, 2, 'the next run has a sound one to compare with');
});

t.test('a member with different data is not used, and is named', async (t) => {
  const cluster = await EtcdCluster.start({ tools, dir: join(dir, 'corrupt'), size: 3 });
  t.teardown(async () => cluster.stop());
  await cluster.fill(20, 5000);
  await cluster.etcdctl('put', '/registry/x', 'the value that one member will have wrong');
  const variables = { ...cluster.variables, ...azurite.variables('corrupt') };
  const before = await backup(variables);
  const index = cluster.members.findIndex(({ endpoint }) => endpoint === before.endpoint);
  const victim = `m${index + 1}`;
  await cluster.stopMember(victim);
  const database = join(dir, 'corrupt', victim, 'member', 'snap', 'db');
  const bytes = await readFile(database);
  for (let at = bytes.indexOf('one member will'); at >= 0; at = bytes.indexOf('one member will', at))
    bytes.write('ONE', at);
  await writeFile(database, bytes);
  await cluster.startMember(victim);

  const endpoints = [
    before.endpoint,
    ...cluster.endpoints.split(',').filter((endpoint) => endpoint !== before.endpoint),
  ];
  const after = await backup({ ...variables, SNAPSHOT_ETCD_ENDPOINTS: endpoints.join(',') });
  t.not(after.memberId, before.memberId, 'its turn was first, as before');
  t.match(after.hashKV, { disagree: [before.memberId], agree: { length: 1 } });
  t.match(after.findings, [new RegExp(`The data of member ${before.memberId} at .* differs from that of`)]);

  // Of two, nobody can tell who is right: the backup is taken, and says so.
  const two = await runCommand(['--json'], {
    ...variables,
    SNAPSHOT_KEEP_LAST: '1',
    SNAPSHOT_ETCD_ENDPOINTS: endpoints.slice(0, 2).join(','),
  });
  t.equal(two.code, 3);
  t.match(JSON.parse(two.stdout), {
    anomalies: [/differs from that of .* not known which of them is corrupt/],
    retention: { state: 'held', removed: [] },
    attempts: { length: 1 },
    hashKV: { verdict: 'undecided' },
  });
  t.notMatch(two.stderr, /it is corrupt/);

  // However often it is named, it has one vote.
  const [corrupt = '', ...good] = endpoints;
  const again = [corrupt, corrupt.replace('127.0.0.1', 'localhost')];
  const outnumbered = await backup({ ...variables, SNAPSHOT_ETCD_ENDPOINTS: [...good, ...again].join(',') });
  t.match(outnumbered.hashKV, { agree: { length: 1 }, disagree: [before.memberId], verdict: 'confirmed' });
  const even = [good[0], ...again].join(',');
  const undecided = await runCommand(['--json'], {
    ...variables,
    SNAPSHOT_KEEP_LAST: '1',
    SNAPSHOT_ETCD_ENDPOINTS: even,
  });
  t.equal(undecided.code, 3);
  t.match(JSON.parse(undecided.stdout), { hashKV: { verdict: 'undecided' }, retention: { state: 'held' } });
  const small = await runCommand(['--json'], { ...variables, SNAPSHOT_HASHKV_MAX_SIZE: '1KiB' });
  t.match(JSON.parse(small.stdout), { hashKV: null }, 'not asked above the limit');
  t.equal(small.code, 0);
});

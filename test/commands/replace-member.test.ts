import { spawn } from 'node:child_process';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { Azurite } from '../support/azurite.ts';
import { makeAuthority } from '../support/certificates.ts';
import { type ClusterOptions, EtcdCluster, findEtcd } from '../support/etcd.ts';
import { collect, type Finished, temporaryFolder } from '../support/process.ts';
import { until } from '../support/until.ts';
import { membersOf, refused, Replacing, type Result } from '../support/replacement.ts';
import { errorOf, MAIN, runWorker, startWorker } from '../support/worker.ts';

const dir = temporaryFolder('replace');
const authority = await makeAuthority(join(dir, 'certs'));
const azurite = await Azurite.start(join(dir, 'azurite'));
t.teardown(async () => azurite.stop());
const versions = findEtcd();
let count = 0;

/** A cluster with some data; the versions take turns, unless one is named. */
async function prepare(t: Test, size: number, options: Partial<ClusterOptions> = {}): Promise<EtcdCluster> {
  const tools = options.tools ?? versions[count++ % versions.length];
  if (tools === undefined) throw new Error('no etcd');
  const cluster = await EtcdCluster.start({
    dir: join(dir, `cluster-${t.name.replaceAll(/\W+/g, '-')}`),
    size,
    ...options,
    tools,
  });
  t.teardown(async () => cluster.stop());
  t.comment(`etcd ${tools.version}`);
  await cluster.fill(50, 200);
  return cluster;
}

async function replacing(cluster: EtcdCluster, failed: string, more?: Record<string, string>): Promise<Replacing> {
  const peer = await cluster.freeUrl();
  return new Replacing(cluster, failed, join(dir, `data-${new URL(peer).port}`), peer, more);
}

// They wait most of the time.
t.jobs = 4;

for (const tools of versions) {
  t.test(`etcd ${tools.version}: one of three is replaced, with a backup before`, async (t) => {
    const cluster = await prepare(t, 3, { tools });
    await cluster.loseMember('m3');
    const container = `replace-${tools.version.replaceAll('.', '-')}`;
    const replacement = await replacing(cluster, 'm3', azurite.variables(container));
    const before = await membersOf(cluster);
    const id = before.get('m3')?.split(', ')[0];

    const planned = await runWorker(replacement.args('--dry-run'), replacement.variables);
    t.equal(planned.code, 0, planned.stderr);
    t.match(planned.stdout, /2\. remove member m3 \([0-9a-f]+\): 2 members, 2 healthy, quorum 2/);
    t.match(planned.stdout, /5\. wait .*\n6\. promote m3-replace-0 .*: 3 members, 3 healthy, quorum 2/);
    t.strictSame(await membersOf(cluster), before);
    t.strictSame(await azurite.names(container), [], 'a plan changes nothing');

    const { state, backup, removed, added, settings } = await replacement.run(t);
    t.equal(state, 'start');
    t.strictSame(await azurite.names(container), [backup]);
    t.strictSame(removed, { id, name: 'm3' });
    t.match(added, { name: 'm3-replace-0', peerURLs: [replacement.peer] });
    t.not(added.id, id);
    const list = settings['initial-cluster']?.split(',') ?? [];
    t.equal(list.length, 3);
    t.ok(list.includes(`m3-replace-0=${replacement.peer}`));
    t.match(settings, { name: 'm3-replace-0', 'initial-cluster-state': 'existing', 'data-dir': replacement.dataDir });

    const text = await runWorker(replacement.args('--yes'), replacement.variables);
    t.equal(text.code, 0, 'it has not started yet: the same is told again');
    t.match(text.stdout, /^ +ETCD_INITIAL_CLUSTER="m/m);
    t.match(text.stdout, /^ +--name m3-replace-0 --data-dir \S+ .*--initial-cluster-state existing$/m);
    t.match(text.stdout, /^ +- --initial-cluster=m/m);
    t.match(text.stdout, /^ +Environment="ETCD_INITIAL_CLUSTER_STATE=existing"$/m);

    await replacement.finish(t, settings);
    t.match(await replacement.run(t), { state: 'done', backup: null, added: { name: 'm3-replace-0' } });
    t.strictSame(await azurite.names(container), [backup], 'the backup of the first run is used again');

    const doctor = await runWorker(['doctor', '--json'], replacement.variables);
    const { checks } = JSON.parse(doctor.stdout) as { checks: { check: string; state: string; finding: string }[] };
    const problems = checks.filter(({ check, state }) => check === 'endpoint' && state !== 'ok');
    t.match(
      problems.map(({ finding }) => finding),
      [
        new RegExp(`at ${cluster.member('m3').endpoint}: connection refused. It belongs to no member of the cluster.$`),
        /^Member m3-replace-0 \([0-9a-f]+\) is missing from SNAPSHOT_ETCD_ENDPOINTS/,
      ],
    );
    t.equal(problems.length, 2, 'each of them once');
  });
}

t.test('with TLS and authentication, waiting, as a voting member from the beginning', async (t) => {
  const cluster = await prepare(t, 3, { tls: authority });
  await cluster.enableAuthentication('a-password-that-no-output-may-show');
  await cluster.loseMember('m1');
  const replacement = await replacing(cluster, 'm1');
  const worker = startWorker(
    replacement.args('--yes', '--no-backup', '--voter', '--wait', '--json'),
    replacement.variables,
  );
  const ended = collect(worker);
  const next = new Promise<string>((resolve) => {
    worker.stderr?.on('data', (text: string) => text.includes('next: start') && resolve(text));
  });
  const told = await Promise.race([next, ended.then(({ stderr }) => stderr)]);
  const line = told.split('\n').find((candidate) => candidate.includes('next: start')) ?? told;
  t.match(line, /next: start/);
  const settings = JSON.parse(line) as Record<string, string>;
  const flags = Object.entries(settings).filter(([name]) => !['time', 'level', 'message'].includes(name));
  t.notMatch([...(await membersOf(cluster)).values()].join('\n'), /, true$/m, 'it is no learner');
  const endpoint = await cluster.join(Object.fromEntries(flags));
  const { code, stdout, stderr } = await ended;
  t.equal(code, 0, stderr);
  t.equal((JSON.parse(stdout) as Result).state, 'done');
  await replacement.verify(t, endpoint);
});

t.test('what is refused of a cluster in which nobody has failed', async (t) => {
  const cluster = await prepare(t, 3);
  const free = await cluster.freeUrl();
  const name = ['--name', 'm9'];
  const url = ['--peer-urls', free];
  const go = ['--yes', '--no-backup'];
  const leader = await cluster.leader();
  const follower = cluster.members.findLast((member) => member.name !== leader)?.name ?? '';
  const wrong: [string[], number, RegExp][] = [
    [[...name, ...url, ...go], 2, /takes ID\|NAME/],
    [[leader, ...name, ...url, ...go], 20, /is healthy and the leader.*3 members, 3 healthy, quorum 2/],
    [[follower, ...name, ...url, ...go], 20, /is healthy, and is not removed/],
    [['m7', ...name, ...url, ...go], 20, /There is no member m7 in the cluster of m/],
    [['1234567890abcdef', ...name, ...url, ...go], 20, /There is no member 1234567890abcdef/],
  ];
  for (const [args, code, message] of wrong) await refused(t, cluster, ['replace-member', ...args], code, message);

  cluster.member(follower).daemon.signal('SIGSTOP');
  await refused(t, cluster, ['replace-member', follower, ...name, ...url, ...go], 20, /still accepts connections/);
  cluster.member(follower).daemon.signal('SIGCONT');
});

t.test('what is refused of a cluster in which one has failed, and what is asked', async (t) => {
  const cluster = await prepare(t, 3);
  await cluster.loseMember('m2');
  const free = await cluster.freeUrl();
  const [, peer = ''] = /(http\S+?),/.exec((await membersOf(cluster)).get('m1') ?? '') ?? [];
  const base = ['replace-member', 'm2', '--no-backup', '--yes'];
  await refused(t, cluster, [...base, '--name', 'm3', '--peer-urls', free], 20, /The name m3 belongs to member m3/);
  await refused(t, cluster, [...base, '--name', 'm4', '--peer-urls', peer], 20, /belongs to member m1.*quorum 2/);
  await refused(t, cluster, [...base, '--name', 'm4', '--peer-urls', `${free},${peer}`], 20, /belongs to member m1/);
  const good = ['replace-member', 'm2', '--name', 'm4', '--peer-urls', free];
  await refused(t, cluster, [...good, '--yes'], 2, /A backup is required before/);
  await refused(t, cluster, [...good, '--no-backup'], 2, /stdin is not a terminal/);
  const wrongKey = { SNAPSHOT_AZURE_ACCOUNT_KEY: Buffer.alloc(64).toString('base64') };
  const variables = { ...cluster.variables, ...azurite.variables('unused'), ...wrongKey };
  await refused(t, cluster, [...good, '--yes'], 12, /Azure refused the account key/, { variables });

  await cluster.stopMember('m3');
  await refused(
    t,
    cluster,
    [...base, '--name', 'm4', '--peer-urls', free],
    20,
    /cannot change its members without quorum/,
    {
      hasQuorum: false,
    },
  );
});

t.test('two members: the failure of one cannot be repaired by a replacement', async (t) => {
  const cluster = await prepare(t, 2);
  await cluster.stopMember('m2');
  const args = ['replace-member', 'm2', '--name', 'm3', '--peer-urls', await cluster.freeUrl(), '--yes', '--no-backup'];
  await refused(t, cluster, args, 20, /2 members, 0 healthy, quorum 2: quorum is lost/, { hasQuorum: false });
});

t.test('a learner from earlier', async (t) => {
  const cluster = await prepare(t, 3);
  await cluster.changeMembers('add', 'm4', '--learner', '--peer-urls', await cluster.freeUrl());
  const id = (await membersOf(cluster)).get('')?.split(', ')[0] ?? '';
  await cluster.loseMember('m3');
  const replacement = await replacing(cluster, 'm3');
  await refused(t, cluster, replacement.args('--yes', '--no-backup'), 20, new RegExp(`${id} is a learner already`));
  await cluster.changeMembers('remove', id);
  const { settings } = await replacement.run(t, '--no-backup');
  await replacement.finish(t, settings, '--no-backup');
});

/** Answers the questions at a terminal, one after the other, and kills the worker at the one after. */
async function answer(
  args: readonly string[],
  variables: Record<string, string>,
  answers: readonly string[],
): Promise<Finished> {
  const inherited = Object.entries(process.env).filter(([name]) => !/^SNAPSHOT_|^NODE_OPTIONS/.test(name));
  const command = [process.execPath, MAIN, ...args].join(' ');
  const terminal = spawn('script', ['--quiet', '--return', '--command', `exec ${command}`, '/dev/null'], {
    env: { ...Object.fromEntries(inherited), ...variables },
    cwd: import.meta.dirname,
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const left = [...answers];
  terminal.stdout.setEncoding('utf8').on('data', (text: string) => {
    if (!text.includes('[y/N]')) return;
    const next = left.shift();
    if (next === undefined) terminal.kill('SIGKILL');
    else terminal.stdin.write(`${next}\n`);
  });
  return collect(terminal);
}

// Elsewhere the command that gives us a terminal is another one.
const skip = process.platform !== 'linux';

t.test('interrupted after the removal and after the addition, at a terminal', { skip }, async (t) => {
  const cluster = await prepare(t, 3);
  await cluster.loseMember('m3');
  const replacement = await replacing(cluster, 'm3');
  const args = replacement.args('--no-backup');
  const before = await membersOf(cluster);

  const declined = await answer(args, replacement.variables, ['n']);
  t.equal(declined.code, 2, declined.stdout);
  t.match(declined.stdout, /Next: remove member m3 .*: 2 members, 2 healthy, quorum 2\. Continue\?/);
  t.match(declined.stdout, /Step not confirmed/);
  t.strictSame(await membersOf(cluster), before);

  await answer(args, replacement.variables, ['y']);
  t.equal((await membersOf(cluster)).size, 2, 'removed, and killed at the next question');
  const stranger = ['replace-member', '1234567890abcdef', '--name', 'm9', '--peer-urls', replacement.peer];
  await refused(t, cluster, [...stranger, '--yes', '--no-backup'], 20, /There is no member 1234567890abcdef/);

  const { removed, settings } = await replacement.run(t, '--no-backup');
  t.strictSame(removed, { id: null, name: 'm3' });
  const worker = startWorker(replacement.args('--yes', '--no-backup', '--wait'), replacement.variables);
  const ended = collect(worker);
  await until(async () => (await membersOf(cluster)).size === 3);
  worker.kill('SIGKILL');
  await ended;
  t.equal((await membersOf(cluster)).size, 3, 'added once');
  const short = { ...replacement.variables, SNAPSHOT_TIMEOUT: '15s' };
  const late = await runWorker(replacement.args('--yes', '--no-backup', '--wait'), short);
  t.equal(late.code, 20);
  t.match(errorOf(late), {
    message: /not finished: timed out after 15 s \(SNAPSHOT_TIMEOUT\)/,
    hint: /same command again/,
  });
  await replacement.finish(t, settings, '--no-backup');
});

t.test('interrupted after the removal, and continued by the id', async (t) => {
  const cluster = await prepare(t, 4);
  await cluster.loseMember('m4');
  const id = (await membersOf(cluster)).get('m4')?.split(', ')[0] ?? '';
  const peer = await cluster.freeUrl();
  const variables = { ...cluster.variables, SNAPSHOT_LOG_FORMAT: 'json' };
  const args = ['replace-member', id, '--name', 'm5', '--peer-urls', peer, '--yes', '--no-backup', '--json'];
  const worker = startWorker(args, variables);
  worker.stderr?.on('data', (text: string) => {
    if (text.includes('done: remove')) worker.kill('SIGKILL');
  });
  await collect(worker);
  const { code, stdout, stderr } = await runWorker(args, variables);
  t.equal(code, 0, stderr);
  t.match(JSON.parse(stdout), { state: 'start', removed: { id, name: null }, added: { name: 'm5', peerURLs: [peer] } });
});

import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { Azurite } from '../support/azurite.ts';
import { EtcdCluster, etcdFor } from '../support/etcd.ts';
import { mustRun, temporaryFolder, type Variables } from '../support/process.ts';
import { type ListedMember, parseMemberList } from '../support/restored-clusters.ts';
import { contentOf, type Plan, restoreAll, type Restored } from '../support/restored.ts';
import { until } from '../support/until.ts';
import { jsonOf, runCommand } from '../support/command.ts';
import { errorOf, withTools } from '../support/worker.ts';

/** What is known of the members after a restore, and what a second one makes of it. */

interface Inspected {
  readonly members: readonly (ListedMember & { readonly clientURLs: readonly string[] })[];
  readonly warnings: readonly string[];
}

interface Backup {
  readonly name: string;
  readonly findings: readonly string[];
}

const dir = temporaryFolder('restored');
const azurite = await Azurite.start(join(dir, 'azurite'));
t.teardown(async () => azurite.stop());
t.jobs = 3;

const listOf = async (cluster: EtcdCluster): Promise<ListedMember[]> =>
  parseMemberList(await cluster.etcdctl('member', 'list'));

const setOf = (members: readonly ListedMember[]): string =>
  members
    .filter(({ isLearner }) => !isLearner)
    .map(({ name, peerURLs }) => `${name}=${peerURLs.join()}`)
    .toSorted()
    .join();

const byId = (members: readonly ListedMember[]): object[] =>
  members
    .map(({ id, name, peerURLs, isLearner }) => ({ id, name, peerURLs, isLearner }))
    .toSorted((a, b) => (a.id < b.id ? -1 : 1));

/** A backup of a cluster, and everything that says who its members are: it must be what the cluster says itself. */
async function everythingIsRight(t: Test, cluster: EtcdCluster, variables: Variables, place: string): Promise<Backup> {
  const members = await listOf(cluster);
  const set = setOf(members);
  const { name, findings } = await jsonOf<Backup>([], variables);
  const inspected = await jsonOf<Inspected>(['inspect', name], variables);
  t.strictSame(byId(inspected.members), byId(members), 'inspect');
  t.ok(
    inspected.members.every(({ clientURLs }) => clientURLs.length > 0),
    'inspect: with their client URLs',
  );
  t.equal(
    (await jsonOf<Plan>(['restore', '--plan', name, '--layout', 'kubeadm', '--force'], variables)).initialCluster,
    set,
    'restore --plan',
  );

  await mkdir(place, { recursive: true });
  const voter = members.find(({ isLearner }) => !isLearner);
  const { name: own = '', peerURLs = [] } = voter ?? {};
  const target = (what: string): string[] => ['--data-dir', join(place, what), '--force'];
  const alone = await jsonOf<Restored>(['restore', name, '--name', own, ...target('alone')], variables);
  t.equal(alone.member.initialCluster, `${own}=${peerURLs.join()}`, 'restore --name');
  const config = join(place, 'etcd.default');
  await writeFile(config, `ETCD_NAME=${own}\nETCD_DATA_DIR=${place}\n`);
  const configured = await jsonOf<Restored>(['restore', name, '--from', config, ...target('from')], variables);
  t.equal(configured.member.initialCluster, set, 'restore --from');

  const file = join(place, 'saved.db');
  await cluster.etcdctlAt(cluster.runningEndpoints[0] ?? '', 'snapshot', 'save', file);
  const bare = await jsonOf<Inspected>(['inspect', file], {});
  const fromFile = ['restore', file, '--from', config, ...target('file'), '--json'];
  const restored = await runCommand(fromFile, withTools(cluster.tools));
  if (cluster.tools.version.startsWith('3.4.')) {
    t.match(findings.join(), /file also lists members that are not in the cluster: /);
    t.match(inspected.warnings, [/The file lists members that were not/]);
    t.match(bare.warnings, [/The members to restore are uncertain/]);
    t.equal(restored.code, 2, restored.stderr);
    t.match(errorOf(restored), { message: /The members to restore are uncertain/, hint: /--initial-cluster/ });
    const given = await jsonOf<Restored>(
      [...fromFile.slice(0, -1), '--initial-cluster', set],
      withTools(cluster.tools),
    );
    t.equal(given.member.initialCluster, set, 'a file, and the members by hand');
  } else {
    t.strictSame(findings, []);
    t.strictSame([...inspected.warnings, ...bare.warnings], []);
    t.strictSame(byId(bare.members), byId(members), 'inspect FILE');
    t.equal(restored.code, 0, restored.stderr);
    t.equal((JSON.parse(restored.stdout) as Restored).member.initialCluster, set, 'restore FILE --from');
  }
  return { name, findings };
}

for (const tools of etcdFor('the oldest and the newest')) {
  const container = (what: string): string => `${what}-${tools.version.replaceAll('.', '-')}`;

  t.test(`etcd ${tools.version}: one member, restored by etcd's own tool, then renamed`, async (t) => {
    const folder = join(dir, tools.version, 'one');
    const cluster = await EtcdCluster.start({ tools, dir: folder });
    t.teardown(async () => cluster.stop());
    await cluster.fill(20, 100);
    const file = join(folder, 'first.db');
    await cluster.etcdctl('snapshot', 'save', file);
    const set = setOf(await listOf(cluster));
    await cluster.stopMember('m1');
    await rm(join(folder, 'm1'), { recursive: true });
    const flags = ['--name', 'm1', '--initial-cluster', set, '--initial-cluster-token', 'another'];
    const advertised = ['--initial-advertise-peer-urls', set.replace('m1=', '')];
    const restore = ['snapshot', 'restore', file, '--data-dir', join(folder, 'm1'), ...flags, ...advertised];
    await mustRun(tools.snapshotTool, restore, { ETCDCTL_API: '3' });
    await cluster.startMember('m1');
    const variables = { ...cluster.variables, ...azurite.variables(container('one')), ...withTools(tools) };
    await everythingIsRight(t, cluster, variables, join(folder, 'x'));

    await cluster.stopMember('m1');
    await cluster.startMember('m1', tools, true, ['--name', 'renamed']);
    t.match(await cluster.etcdctl('member', 'list'), /renamed/);
    await everythingIsRight(t, cluster, variables, join(folder, 'y'));
  });

  t.test(`etcd ${tools.version}: three members, restored by a plan, and lost again; then a learner`, async (t) => {
    const folder = join(dir, tools.version, 'three');
    const cluster = await EtcdCluster.start({ tools, dir: folder, size: 3 });
    t.teardown(async () => cluster.stop());
    await cluster.fill(20, 100);
    let variables = { ...cluster.variables, ...azurite.variables(container('three')), ...withTools(tools) };
    const clusterIds: string[] = [];
    const loseAndRestore = async (name: string): Promise<void> => {
      const planFile = join(folder, `${name}.json`);
      const before = await contentOf(cluster);
      const plan = await jsonOf<Plan & { readonly clusterId: string }>(
        ['restore', '--plan', name, '--layout', 'kubeadm', '--force'],
        variables,
      );
      await writeFile(planFile, JSON.stringify(plan));
      await Promise.all(cluster.members.map(async (member) => cluster.stopMember(member.name)));
      for (const member of cluster.members) await rm(join(folder, member.name), { recursive: true });
      await restoreAll(cluster, folder, planFile, variables);
      await Promise.all(cluster.members.map(async (member) => cluster.startMember(member.name)));
      t.strictSame((await contentOf(cluster)).keys, before.keys, 'every key and value');
      clusterIds.push(plan.clusterId);
      variables = { ...variables, SNAPSHOT_PREVIOUS_CLUSTER_IDS: clusterIds.join() };
    };
    const { name } = await jsonOf<Backup>([], variables);
    await loseAndRestore(name);
    const second = await everythingIsRight(t, cluster, variables, join(folder, 'x'));
    await loseAndRestore(second.name);
    await cluster.addLearner(join(folder, 'learner'));
    let id = '';
    await until(async () => {
      id = (await listOf(cluster)).find((member) => member.name === 'learner')?.id ?? '';
      return id !== '';
    });
    await everythingIsRight(t, cluster, variables, join(folder, 'y'));
    await until(async () => {
      const promoted = cluster.etcdctl('member', 'promote', id);
      return promoted.then(
        () => true,
        () => false,
      );
    });
    await everythingIsRight(t, cluster, variables, join(folder, 'z'));
  });
}

import { cp, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { Azurite } from '../support/azurite.ts';
import { makeAuthority } from '../support/certificates.ts';
import { EtcdCluster, type EtcdTools, findEtcd } from '../support/etcd.ts';
import { SNAPSHOT } from '../support/fixtures.ts';
import { Host } from '../support/host.ts';
import { type Finished, temporaryFolder, type Variables } from '../support/process.ts';
import { contentOf, metadataOf, type Plan } from '../support/restored.ts';
import { jsonOf, runCommand } from '../support/command.ts';
import { errorOf, withTools } from '../support/worker.ts';

const dir = temporaryFolder('plan');
const authority = await makeAuthority(join(dir, 'certs'));
const azurite = await Azurite.start(join(dir, 'azurite'));
t.teardown(async () => azurite.stop());
t.jobs = 2;
const [oldest] = findEtcd();
const newest = findEtcd().at(-1);
if (oldest === undefined || newest === undefined) throw new Error('no etcd');

const skip = process.getuid?.() === 0 ? false : 'needs root';

/** How etcd runs on the hosts of a cluster. */
interface Kind {
  readonly layout: 'aks-engine' | 'kubeadm';
  /** Of members whose configuration does not say otherwise. */
  readonly dataDir: string;
  readonly file: string;
  readonly config: (name: string, dataDir: string) => string;
  /** The commands of the plan with which etcd stops and starts. */
  readonly stop: string;
  readonly start: string;
}

const AKS_ENGINE: Kind = {
  ...{ layout: 'aks-engine', dataDir: '/var/lib/etcddisk', file: 'default/etcd' },
  config: (name, dataDir) => `DAEMON_ARGS="--name ${name} --data-dir ${dataDir} --initial-cluster-state existing"\n`,
  ...{ stop: 'systemctl stop etcd', start: 'systemctl start etcd' },
};

const KUBEADM: Kind = {
  ...{ layout: 'kubeadm', dataDir: '/var/lib/etcd', file: 'kubernetes/manifests/etcd.yaml' },
  config: (name, dataDir) =>
    `kind: Pod\nspec:\n  containers:\n    - { name: etcd, command: [etcd, --name=${name}, --data-dir=${dataDir}] }\n`,
  stop: 'mv /etc/kubernetes/manifests/*.yaml',
  start: 'mv /etc/kubernetes/manifests-stopped/etcd.yaml',
};

interface Site {
  readonly kind: Kind;
  readonly cluster: EtcdCluster;
  readonly hosts: ReadonlyMap<string, Host>;
  readonly folder: string;
  readonly variables: Variables;
}

/** A cluster of three, each member on a host with its own files; the third one replaced another, which had the disk before. */
async function site(t: Test, name: string, tools: EtcdTools, kind = AKS_ENGINE): Promise<Site> {
  const folder = join(dir, name);
  const cluster = await EtcdCluster.start({ tools, dir: folder, size: 3, tls: authority });
  t.teardown(async () => cluster.stop());
  await cluster.fill(100, 1000);
  const variables = { ...cluster.variables, ...azurite.variables(name), ...withTools(tools) };
  const hosts = new Map<string, Host>();
  for (const { name: member } of cluster.members) {
    const place = member === 'm3' ? `${kind.dataDir}/m3b` : kind.dataDir;
    const disk = join(folder, `disk-of-${member}`);
    await mkdir(disk);
    const disks = { [kind.dataDir]: disk, [place]: join(folder, member) };
    const files = {
      [kind.file]: kind.config(member, place),
      'kubernetes/manifests/kube-apiserver.yaml': 'kind: Pod\n',
    };
    hosts.set(member, await Host.make(join(folder, `host-${member}`), { disks, files, variables }));
  }
  return { kind, cluster, hosts, folder, variables };
}

/** Does what a plan says, literally and in its order, each command of this program twice. Returns what was printed, by command. */
async function follow(t: Test, { kind, cluster, hosts }: Site, plan: Plan): Promise<Map<string, Finished[]>> {
  const printed = new Map<string, Finished[]>();
  const members = [...hosts.keys()];
  for (const { on, run: lines } of plan.steps) {
    const places = members.includes(on) ? [on] : on.startsWith('anywhere') ? members.slice(0, 1) : members;
    for (const line of lines.filter((text) => !text.startsWith('#'))) {
      if (line.startsWith(kind.start)) {
        // All have started before one that cannot ends the test: the others are stopped then.
        const started = await Promise.allSettled(places.map(async (member) => cluster.startMember(member)));
        for (const result of started) if (result.status === 'rejected') throw result.reason;
      }
      for (const member of places) {
        if (line.startsWith(kind.stop)) await cluster.stopMember(member);
        for (let times = line.startsWith('etcd-snapshot') ? 2 : 1; times > 0; times--) {
          const finished = await hosts.get(member)?.shell(line);
          t.equal(finished?.code, 0, `${member}: ${line}\n${finished?.code === 0 ? '' : finished?.stderr}`);
          if (finished !== undefined) printed.set(line, [...(printed.get(line) ?? []), finished]);
        }
      }
    }
  }
  return printed;
}

async function stale(site: Site, from: string): Promise<void> {
  const disk = join(site.folder, 'disk-of-m3');
  await cp(join(site.folder, from, 'member'), join(disk, 'member'), { recursive: true });
}

const everyEtcd = process.env['EVERY_ETCD'] !== undefined;
for (const [tools, kind, isLost] of [
  [newest, AKS_ENGINE, false],
  [oldest, KUBEADM, true],
  ...(everyEtcd ? ([[findEtcd().at(-2) ?? newest, AKS_ENGINE, true]] as const) : []),
] as const) {
  const how = `${kind.layout}, ${isLost ? 'after everything was lost' : 'while the cluster works'}`;
  t.test(`etcd ${tools.version}: the steps of a plan succeed as they are printed, ${how}`, { skip }, async (t) => {
    // Where only one etcd is installed, two of these run side by side.
    const name = `${kind.layout}-${tools.version.replaceAll('.', '-')}-${isLost ? 'lost' : 'running'}`;
    const place = await site(t, name, tools, kind);
    const { cluster, hosts, folder, variables } = place;
    const host = hosts.get('m1');
    if (host === undefined) throw new Error('no host');
    const { clusterId } = await jsonOf<{ clusterId: string }>([], variables);
    const before = await contentOf(cluster);
    await cluster.etcdctl('put', 'late', 'written after the backup');
    if (isLost) await cluster.stop();
    await stale(place, 'm1');

    const file = join(folder, 'plan.json');
    const planning = `etcd-snapshot restore --plan --output ${file}`;
    if (!isLost) {
      const refused = await host.shell(planning);
      t.equal(refused.code, 20, refused.stderr);
      t.match(errorOf(refused), { message: /has quorum/, hint: /--force/ });
      await t.rejects(stat(file), { code: 'ENOENT' }, 'a plan that fails leaves no file');
    }
    const planned = await host.shell(isLost ? planning : `${planning} --force`);
    t.equal(planned.code, 0, planned.stderr);
    t.match(planned.stderr, `Using layout ${kind.layout}: found /etc/${kind.file}`);
    const plan = JSON.parse(await readFile(file, 'utf8')) as Plan & { previousClusterIds: string[] };
    t.match(plan, { layout: kind.layout, force: !isLost, previousClusterIds: [clusterId] });
    t.equal((await host.shell(`${planning} --force`)).code, 2, 'nothing is overwritten');

    const printed = await follow(t, place, plan);
    const outputs = [...printed].flatMap(([line, ends]) => ends.map(({ stdout }) => ({ line, stdout })));
    const digests = outputs.filter(({ line }) => line.includes('--plan')).map(({ stdout }) => stdout);
    t.equal(new Set(digests).size, 1, 'the same everywhere');
    t.match(digests[0], plan.digest.slice(0, 16));
    for (const { line } of outputs.filter(({ line }) => line.includes('--member') || line.includes('--swap'))) {
      const [first, second] = printed.get(line) ?? [];
      t.notMatch(first?.stdout, /Already done/, line);
      t.match(second?.stdout, /(on all members|etcd)[^]*\nAlready done: [^]*\.\n$/, `${line}, a second time`);
    }
    const swaps = outputs.filter(({ line }) => line.includes('--swap'));
    t.notMatch(swaps.map(({ stdout }) => stdout).join(''), /WARNING/);
    const restored = outputs.find(({ line }) => line.includes('--member m3'))?.stdout;
    t.match(restored, `to ${kind.dataDir}/m3b/restored as member m3`);

    const after = await contentOf(cluster);
    for (const [key, value] of before.keys) t.equal(after.keys.get(key), value);
    t.equal(await cluster.etcdctl('get', 'late'), '', 'on every member');
    for (const { endpoint } of cluster.members) t.equal(await cluster.etcdctlAt(endpoint, 'get', 'late'), '');
    t.strictSame(await readdir(join(folder, 'disk-of-m3')), ['m3b', 'member'], 'what the dead one left is as it was');
    const again = await host.shell(`etcd-snapshot restore --from-plan ${file} --member m1 --from /etc/${kind.file}`);
    t.equal(again.code, 0, again.stderr);
    t.match(again.stdout, /\n +start etcd.*\nAlready done/, 'a step from before, when all is done');

    const bare = await runCommand(['backup'], variables);
    t.equal(bare.code, 0, 'the first backup was compared with the old cluster; this one is with its own');
  });
}

t.test('a swap in the wrong place', { skip }, async (t) => {
  const place = await site(t, 'misplaced', newest);
  const { cluster, hosts, folder, variables } = place;
  await jsonOf([], variables);
  await cluster.stop();
  await stale(place, 'm1');
  const [m1, m3] = [hosts.get('m1'), hosts.get('m3')];
  if (m1 === undefined || m3 === undefined) throw new Error('no host');
  const file = join(folder, 'plan.json');
  t.equal((await m1.shell(`etcd-snapshot restore --plan --output ${file}`)).code, 0);
  const restore = `etcd-snapshot restore --from-plan ${file} --member m3`;
  const from = '--from /etc/default/etcd';

  const elsewhere = await m3.shell(`${restore} ${from} --data-dir /var/lib/etcddisk/restored`);
  t.equal(elsewhere.code, 2, 'not where its own configuration does not have it');
  t.match(errorOf(elsewhere), { message: /has the data directory \/var\/lib\/etcddisk\/m3b/, hint: /m3b\/restored/ });
  t.equal((await m3.shell(`${restore.replace('m3', 'm1')} ${from}`)).code, 2, 'not for another member');
  const blind = await m3.shell(restore);
  t.equal(blind.code, 0, blind.stderr);
  t.match(blind.stdout, 'restored to /var/lib/etcddisk/restored'.replace('restored to', 'to'));

  for (const [words, message] of [
    [
      `--swap ${from} --data-dir /var/lib/etcddisk`,
      /--data-dir is .* has the data directory \/var\/lib\/etcddisk\/m3b/,
    ],
    [`--swap ${from}`, /No restored data in \/var\/lib\/etcddisk\/m3b\/restored/],
    ['--swap', /No data directory given/],
    ['--swap --from /etc/passwd', /does not configure an etcd member/],
    [`--swap ${from} --member m3`, /cannot be combined with --member/],
    [`--swap --data-dir /var/lib/etcddisk/none`, /does not exist/],
  ] as const) {
    const refused = await m3.shell(`etcd-snapshot restore ${words}`);
    t.equal(refused.code, 2, words);
    t.match(errorOf(refused).message, message);
  }
  const foreign = join(folder, 'm1.default');
  await writeFile(foreign, 'DAEMON_ARGS="--name m1 --data-dir /var/lib/etcddisk"');
  const other = await m3.shell(`etcd-snapshot restore --swap --from ${foreign}`);
  t.equal(other.code, 2);
  t.match(errorOf(other).message, /was restored for member m3, but this host has member m1/);

  const swapped = await m3.shell('etcd-snapshot restore --swap --data-dir /var/lib/etcddisk');
  t.equal(swapped.code, 0, swapped.stderr);
  t.match(swapped.stdout, /^WARNING: The old data belongs to member m1, not to m3\.\n/);
  t.match(swapped.stderr, /"level":"warn","message":"The old data belongs to member m1/);
  const [, undo = ''] = /To undo this while etcd is stopped:\n +(.*)/.exec(swapped.stdout) ?? [];
  t.equal((await m3.shell(undo)).code, 0, undo);
  await rm(join(folder, 'disk-of-m3', 'member'), { recursive: true });
  const old = (await readdir(join(folder, 'disk-of-m3'))).find((name) => name.startsWith('old-'));
  if (old === undefined) throw new Error('the restored data is not there');
  const nothing = await m3.shell(`etcd-snapshot restore --swap --data-dir /var/lib/etcddisk --restored ${old}`);
  t.equal(nothing.code, 2, 'a relative directory is one of the working directory');
  const alone = `etcd-snapshot restore --swap --data-dir /var/lib/etcddisk --restored /var/lib/etcddisk/${old}`;
  t.match(await m3.shell(alone), { code: 0, stdout: /^WARNING: No old data in \/var/ });
});

t.test('without a known layout, and without a possible plan', async (t) => {
  const empty = { PATH: '/usr/bin:/bin', ...azurite.variables('unplanned') };
  const client = azurite.container('unplanned');
  await client.createIfNotExists();
  const name = 'kubernetes-etcd-snapshot_20260101_000000.db';
  const hostile = [{ id: '1', name: 'm0; touch /tmp/x #', peerURLs: ['https://10.0.0.1:2380'], isLearner: false }];
  const metadata = metadataOf({ members: JSON.stringify(hostile) });
  await client.getBlockBlobClient(name).upload(SNAPSHOT, SNAPSHOT.length, { metadata });
  const file = join(dir, 'unplanned.json');
  const cases: [code: number, message: RegExp, words: string[]][] = [
    [2, /Unknown layout openshift/, ['--layout', 'openshift']],
    [2, /Unknown layout a\\u\{1b\}\[31m/, ['--layout', 'a\u001b[31m']],
    [2, /do not list the same members/, ['--layout', 'kubeadm']],
    [2, /Invalid --data-dir/, ['--layout', 'kubeadm', '--data-dir', '/a\nb']],
    [2, /does not exist/, ['--layout', 'kubeadm', '--output', join(dir, 'no/where.json')]],
    [2, /--output cannot be combined with --from-plan/, ['--from-plan', file]],
    [13, /There is no snapshot/, ['--layout', 'kubeadm', 'nothing.db']],
  ];
  for (const [code, message, words] of cases) {
    const output = words.includes('--output') ? [] : ['--output', file];
    const refused = await runCommand(['restore', '--plan', ...output, ...words], empty);
    t.equal(refused.code, code, refused.stderr);
    t.match(errorOf(refused).message, message);
    await t.rejects(stat(file), { code: 'ENOENT' }, 'no file is left');
  }
  t.strictSame(
    (await readdir(dir)).filter((entry) => entry.includes('unplanned')),
    [],
  );
});

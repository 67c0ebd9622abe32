import { createHash } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { assertNoFile, planJson, planText, writePlan } from '../../src/commands/show-plan.ts';
import { inferLayout, type Layout, LAYOUT_NAMES, LAYOUTS } from '../../src/installer-layouts.ts';
import {
  directoriesOf,
  isOneOfSeveral,
  nextStep,
  readRestoreRequest,
  type RestoreRequest,
} from '../../src/restore/restore-request.ts';
import { makePlan, type Plan, readPlan } from '../../src/restore/plan.ts';
import { stepsOf } from '../../src/restore/runbooks.ts';
import type { RecordedMember, SnapshotRecord } from '../../src/snapshot/record.ts';
import { fromMetadata } from '../support/catalogue.ts';
import { run, temporaryFolder } from '../support/process.ts';
import { MEMBERS, metadataOf, SET } from '../support/restored.ts';

const dir = temporaryFolder('plan');

const NAME = 'eu/kubernetes-etcd-snapshot_20260101_000000.db';
const FILE_NAME = 'kubernetes-etcd-snapshot_20260101_000000.db';
const NOW = new Date('2026-01-02T03:04:05Z');

/** As if its parser had let everything pass. */
function record(members: readonly object[] = MEMBERS): SnapshotRecord {
  const known = fromMetadata(metadataOf({ sha256: 'ab'.repeat(32), members: JSON.stringify(MEMBERS) }));
  if (known === undefined) throw new Error('no record');
  return { ...known, members: members as RecordedMember[] };
}

function planOf(layout: Layout, more: Partial<Parameters<typeof makePlan>[3]> = {}, members?: readonly object[]): Plan {
  return makePlan(NAME, 1000, record(members), { layout, now: NOW, ...more });
}

const PLAN = planOf('aks-engine');

/** Each of them stands after the one before it. */
function standInOrder(t: Test, parts: readonly string[], text: string): void {
  let at = 0;
  for (const part of parts) {
    const found = text.indexOf(part, at);
    t.ok(found >= 0, `${JSON.stringify(part)} is there, in its place`);
    at = Math.max(at, found + part.length);
  }
}

/** A document with the digest that this program would give it. */
function signed({ digest, steps, ...facts }: Record<string, unknown>): object {
  if (digest === undefined) throw new Error('no plan');
  return { ...facts, steps, digest: createHash('sha256').update(JSON.stringify(facts)).digest('hex') };
}

t.test('a plan that is written is read as it was made', async (t) => {
  for (const layout of LAYOUT_NAMES) {
    const file = join(dir, `${layout}.json`);
    const plan = planOf(layout);
    await writePlan(file, planJson(plan, file));
    t.strictSame(await readPlan(file), plan, layout);
    await t.rejects(assertNoFile(file), { name: 'UsageError', message: /already exists/ });
    await t.rejects(writePlan(file, {}), { name: 'UsageError' }, 'nothing is overwritten');
    t.strictSame(await readPlan(file), plan, 'the first one stays');
  }
  await t.rejects(assertNoFile(join(dir, 'no/where.json')), { message: /does not exist/ });
  const spaced = join(dir, 'spaced.json');
  await writeFile(spaced, JSON.stringify(Object.fromEntries(Object.entries(planJson(PLAN, 'x')).toReversed())));
  t.equal((await readPlan(spaced)).digest, PLAN.digest, 'whatever writes the file in another order');
  t.not(planOf('kubeadm').initialClusterToken, PLAN.initialClusterToken);
});

t.test('a plan of the first format', async (t) => {
  const { configFile, force, previousClusterIds, ...facts } = PLAN;
  t.strictSame([configFile, force, previousClusterIds], ['/etc/default/etcd', false, ['c1']]);
  const members = facts.members.map(({ name, peerURLs }) => ({ name, peerURLs }));
  const first = {
    ...facts,
    digest: undefined,
    format: 1,
    members,
    steps: [{ title: 'evil', on: 'a', run: ['touch /tmp/x'] }],
  };
  const file = join(dir, 'first.json');
  const digest = createHash('sha256').update(JSON.stringify(first)).digest('hex');
  await writeFile(file, JSON.stringify({ ...first, digest }));
  const plan = await readPlan(file);
  t.match(plan, { digest, members, initialCluster: SET, previousClusterIds: ['c1'] });
  t.notMatch(planText(plan, file), /evil|tmp.x/, 'its steps are not shown');
  await writeFile(file, JSON.stringify({ ...first, steps: [], digest }));
  await t.rejects(readPlan(file), { message: /digest does not match/ });
});

t.test('an edited plan is refused', async (t) => {
  const file = join(dir, 'edited.json');
  const document = planJson(PLAN, file);
  const forgeries: Record<string, object> = {
    token: { ...document, initialClusterToken: 'another' },
    snapshot: { ...document, snapshot: { ...PLAN.snapshot, sha256: 'cd'.repeat(32) } },
    digest: { ...document, digest: 'ab'.repeat(32) },
    'no digest': { ...document, digest: undefined },
    format: { ...document, format: 3 },
    list: [document],
  };
  for (const [what, forged] of Object.entries(forgeries)) {
    await writeFile(file, JSON.stringify(forged));
    await t.rejects(readPlan(file), { name: 'UsageError', exitCode: 2 }, what);
  }
  await writeFile(file, '{');
  await t.rejects(readPlan(file), { message: /is not a plan/ });
  await t.rejects(readPlan(join(dir, 'none')), { message: /does not exist/ });
  await mustFifo(join(dir, 'fifo'));
  await t.rejects(readPlan(join(dir, 'fifo')), { message: /not a regular file/ });
  await writeFile(file, JSON.stringify({ ...document, steps: [{ title: 't', on: 'a', run: ['touch /tmp/x'] }] }));
  t.strictSame(planJson(await readPlan(file), file), document, 'steps are made from the facts');
});

async function mustFifo(path: string): Promise<void> {
  await run('mkfifo', [path]);
}

t.test('a plan with the right digest and the wrong shape', async (t) => {
  const good = planJson(PLAN, 'plan.json') as Record<string, unknown>;
  const member = { name: 'a', peerURLs: ['https://10.0.0.0:2380'] };
  const withMembers = (members: readonly { name: string; peerURLs: readonly string[] }[]): object => ({
    members,
    initialCluster: members.flatMap(({ name, peerURLs }) => peerURLs.map((url) => `${name}=${url}`)).join(),
  });
  const named = (name: string): object => withMembers([{ ...member, name }]);
  const at = (url: string): object => withMembers([{ ...member, peerURLs: [url] }]);
  const placed = (dataDir: string): object => ({ dataDir, restoredDir: join(dataDir, 'restored') });
  let nested: unknown = [];
  for (let i = 0; i < 500; i++) nested = [nested];
  const cases: Record<string, object> = {
    'members null': { members: null },
    'members of null': { members: [null] },
    'members of numbers': { members: [1] },
    'members without anything': { members: [{}] },
    'no members': { members: [], initialCluster: '' },
    'members an object': { members: { 0: member } },
    'a thousand members': withMembers(Array.from({ length: 1000 }, (_, i) => ({ ...member, name: `m${i}` }))),
    'the same member twice': withMembers([member, member]),
    'URLs that are no list': { members: [{ ...member, peerURLs: 'https://a:1' }] },
    'no URLs': withMembers([{ ...member, peerURLs: [] }]),
    'another set': { initialCluster: 'z=https://10.0.0.9:2380' },
    steps: { steps: 'abc' },
    layout: { layout: 'openshift' },
    'layout of Object': { layout: 'constructor' },
    'layout __proto__': { layout: '__proto__' },
    'layout a number': { layout: 1 },
    'something more': { more: 1 },
    'something more in a member': { members: [{ ...member, more: 1 }, ...PLAN.members.slice(1)] },
    'nested deeply': { leftOut: nested },
    'a huge name': named('a'.repeat(100_000)),
    ...Object.fromEntries(
      [
        'a; touch /tmp/x #',
        'a b',
        'a\nb',
        'a\r',
        'a,b',
        'a=b',
        '$(reboot)',
        '`id`',
        "a'b",
        'a"b',
        '',
        '-a',
        'a\u{202e}',
        'a|b',
        'a&b',
        'a>b',
        'a\\',
      ].map((name) => [`name ${JSON.stringify(name)}`, named(name)]),
    ),
    ...Object.fromEntries(
      [
        ...['https://10.0.0.1:2380\ntouch /tmp/y', 'nope', 'https://10.0.0.1', 'https://10.0.0.1:2380/', 'ftp://a:1'],
        ...[
          'https://a:1/path',
          'https://a:1?x',
          'https://u:p@a:1',
          'https://a:99999',
          'https://$(id):1',
          'https://a b:1',
        ],
        ...['https://[::1', 'https://a:1,https://b:2', 'javascript:alert(1)', ''],
      ].map((url) => [`URL ${JSON.stringify(url)}`, at(url)]),
    ),
    ...Object.fromEntries(
      [
        'relative',
        '/a/../etc',
        '/a/./b',
        '/a//b',
        '/a/',
        '/',
        '',
        '/a\nb',
        '/a\u001b[2J',
        '/a\u{202e}b',
        `/${'a'.repeat(2000)}`,
      ].map((path) => [`directory ${JSON.stringify(path.slice(0, 20))}`, placed(path)]),
    ),
    'restored elsewhere': { restoredDir: '/etc' },
    'a member elsewhere': { members: [{ ...member, dataDir: '../x' }, ...PLAN.members.slice(1)] },
    'a file that is no path': { configFile: 'x; reboot' },
    'force a word': { force: 'yes' },
    'a blob that is a command': { snapshot: { ...PLAN.snapshot, name: '$(reboot).db' } },
    'a blob of another kind': { snapshot: { ...PLAN.snapshot, name: 'stored.db' } },
    'a blob above': { snapshot: { ...PLAN.snapshot, name: `../${FILE_NAME}` } },
    'a blob with a date that is none': { snapshot: { ...PLAN.snapshot, name: FILE_NAME.replace('0101_', '1399_') } },
    'a size below zero': { snapshot: { ...PLAN.snapshot, size: -1 } },
    'a revision as text': { snapshot: { ...PLAN.snapshot, revision: '5' } },
    'a time as text': { snapshot: { ...PLAN.snapshot, takenAt: 'yesterday' } },
    'a version with an escape': { snapshot: { ...PLAN.snapshot, etcdVersion: '3.5\u001b[31m' } },
    'snapshot a list': { snapshot: [] },
    'an id that is none': { clusterId: 'x;y' },
    'ids that are none': { previousClusterIds: ['c1', '$(id)'] },
    'a token that is none': { initialClusterToken: 'a b' },
    'left out without a reason': { leftOut: [{ id: '9', name: 'z' }] },
    'left out by a hostile name': { leftOut: [{ id: '9', name: 'z\n# rm', reason: 'is a learner' }] },
  };
  for (const [what, change] of Object.entries(cases)) {
    const file = join(dir, 'shape.json');
    await writeFile(file, JSON.stringify(signed({ ...good, ...change })));
    const error = await readPlan(file).catch((thrown: unknown) => thrown);
    t.match(error, { name: 'UsageError', exitCode: 2, hint: /\w/ }, what);
    t.match(String(error), /is invalid|is not a plan/, what);
    t.notMatch(String(error), /[\p{C}]|\n/u, 'one line that can be shown');
  }
  const file = join(dir, 'proto.json');
  const text = JSON.stringify(good);
  for (const forged of [
    text.replace('{', '{"__proto__":{"force":true},'),
    text.replace('"size":', '"__proto__":1,"size":'),
  ]) {
    await writeFile(file, forged);
    await t.rejects(readPlan(file), { name: 'UsageError' }, '__proto__');
  }
  for (const depth of [1000, 200_000]) {
    const deep = `${'['.repeat(depth)}${']'.repeat(depth)}`;
    await writeFile(
      file,
      text.replace('"format":2', '"format":1').replace(/"steps":\[.*\],"digest"/, `"steps":${deep},"digest"`),
    );
    await t.rejects(
      readPlan(file),
      { name: 'UsageError', message: /is (not|invalid)/ },
      `${depth} lists in each other`,
    );
  }
  await writeFile(file, `"${'x'.repeat(2_000_000)}"`);
  await t.rejects(readPlan(file), { message: /is larger than/ });
});

t.test('what no plan is made of', (t) => {
  const [first, ...others] = MEMBERS;
  const bad: [what: string, members: object[], message: RegExp][] = [
    ['name', [{ ...first, name: 'm0; touch /tmp/x #' }, ...others], /name is not a member name/],
    ['URL', [{ ...first, peerURLs: ['https://10.0.0.1:2380\ntouch /tmp/y'] }], /peerURLs\.0 is not a peer/],
    [
      'learner',
      [...MEMBERS, { id: '9', name: 'x\ny', peerURLs: ['https://10.0.0.9:2380'], isLearner: true }],
      /leftOut\.0\.name/,
    ],
    ['nobody', [], /no voting member has a name/],
  ];
  for (const [what, members, message] of bad) {
    t.throws(() => planOf('kubeadm', {}, members), { name: 'UsageError', message }, what);
  }
  const options = { layout: 'kubeadm', now: NOW } as const;
  for (const name of ['$(reboot).db', 'stored.db', '../x', `a'b/${FILE_NAME}`, `a b${FILE_NAME}`]) {
    t.throws(() => makePlan(name, 1, record(), options), { message: /snapshot\.name is not/ }, name);
  }
  for (const dataDir of ['relative', '/a/../b', '/a\nb', '/']) {
    t.throws(() => planOf('kubeadm', { dataDir }), { name: 'UsageError', message: /dataDir/ }, dataDir);
  }
  t.equal(planOf('kubeadm', {}, [{ ...first, name: 'máster-1.example' }]).members[0]?.name, 'máster-1.example');
  t.equal(planOf('kubeadm', {}, [{ ...first, peerURLs: ['https://[fd00::1]:2380'] }]).members.length, 1);
  t.end();
});

t.test('a plan for people', (t) => {
  const learner = { id: '9', name: 'slow', peerURLs: ['http://10.0.0.9:1'], isLearner: true };
  for (const [layout, from, stopped, stop, start] of [
    ['aks-engine', '/etc/default/etcd', '/etc/default/etcd', 'systemctl stop etcd', 'systemctl start etcd'],
    [
      'kubeadm',
      '/etc/kubernetes/manifests/etcd.yaml',
      '/etc/kubernetes/manifests-stopped/etcd.yaml',
      'etcd is a static pod',
      'mv /etc/kubernetes/manifests-stopped/etcd.yaml',
    ],
  ] as const) {
    const plan = planOf(layout, { previousClusterIds: ['a0'] }, [...MEMBERS, learner]);
    const text = planText(plan, '/root/plan.json');
    t.match(text, SET);
    t.match(text, /left out +slow: it is a learner/);
    const steps = [
      'etcd-snapshot restore --plan --from-plan /root/plan.json\n',
      ...MEMBERS.map(
        ({ name }) => `etcd-snapshot restore --from-plan /root/plan.json --member ${name} --from ${from}\n`,
      ),
      'mv /etc/kubernetes/manifests/*.yaml',
      stop,
      `etcd-snapshot restore --swap --from ${stopped}\n`,
      start,
      'etcd-snapshot health',
      'manifests-stopped/*.yaml /etc/kubernetes/manifests/',
      'rollout restart',
      'SNAPSHOT_PREVIOUS_CLUSTER_IDS=a0,c1',
      'SNAPSHOT_PREVIOUS_CLUSTER_IDS=a0,c1 etcd-snapshot backup',
    ];
    standInOrder(t, steps, text);
    t.notMatch(text, /keep running/, 'only when --force was given');
    const forced = planText(planOf(layout, { force: true }), 'p');
    for (const { name } of MEMBERS) t.match(forced, `--member ${name} --from ${from} --force\n`);
    t.match(forced, /etcd can keep running/);
    const elsewhere = planText(planOf(layout, { dataDir: '/disk' }), 'p');
    t.match(elsewhere, 'etcd-snapshot restore --swap --data-dir /disk\n', 'a directory that was given');
    t.notMatch(elsewhere, '--from /');
  }
  t.end();
});

t.test('a plan where etcd is a part of another program', async (t) => {
  for (const [layout, server, agent, port, killed] of [
    ['k3s', 'k3s', 'k3s-agent', 6443, []],
    ['rke2', 'rke2-server', 'rke2-agent', 9345, ['rke2-killall.sh']],
  ] as const) {
    const plan = planOf(layout);
    const text = planText(plan, 'plan.json');
    const home = `/var/lib/rancher/${layout}`;
    t.match(plan, { dataDir: home, restoredDir: null, configFile: null });
    t.notMatch(text, plan.initialClusterToken, 'nobody is to be told of it');
    standInOrder(
      t,
      [
        'continue only while the cluster has no quorum',
        `etcd-snapshot restore --from-plan plan.json --download ${home}/${FILE_NAME}\n`,
        '(on each of a, b, c)',
        `systemctl stop ${server}\n`,
        ...killed,
        'sport = :2379',
        'contain no server: line',
        `${layout} server --cluster-reset --cluster-reset-restore-path=${home}/${FILE_NAME} --data-dir=${home}\n`,
        `systemctl start ${server}\n`,
        ...['b', 'c'].flatMap((name) => [
          `(${name})\n   # /etc/rancher/${layout}/config.yaml must contain server: https://10.0.0.0:${port},`,
          `mv ${home}/server/db ${home}/server/db-20260102-030405\n`,
          `systemctl start ${server}\n`,
          'etcd-snapshot health',
        ]),
        `systemctl restart ${agent}\n`,
        'SNAPSHOT_PREVIOUS_CLUSTER_IDS=c1 etcd-snapshot backup',
        `rm -f ${home}/${FILE_NAME}`,
      ],
      text,
    );
    const elsewhere = planText(planOf(layout, { dataDir: '/disk/k' }), 'p');
    t.notMatch(elsewhere, '/var/lib/rancher');
    t.match(elsewhere, '--data-dir=/disk/k');

    const file = join(dir, `${layout}-request.json`);
    await writeFile(file, JSON.stringify(planJson(plan, file)));
    await t.rejects(readRestoreRequest({ 'from-plan': file, member: 'a' }), {
      message: /restores the snapshot itself/,
    });
  }
});

const HOSTILE_DIRS = [
  "/disk/it's $HOME; touch hurt",
  '/disk/`id`',
  '/disk/$(id) "x"',
  '/disk/a*b?{c,d}~#!',
  '/disk/-x',
];

/** Runs command lines in a shell whose programs print the words that they get, one line for each run. */
async function wordsIn(t: Test, lines: readonly string[]): Promise<string[][]> {
  const bin = join(dir, `bin-${lines.length}-${Math.random()}`);
  await mkdir(bin);
  for (const program of ['etcd-snapshot', 'systemctl', 'mv', 'mkdir', 'rm', 'crictl', 'k3s', 'rke2', 'kubectl', 'ss']) {
    const script = `#!/bin/sh\nprintf '%s\\037' ${program} "$@"\necho\n`;
    await writeFile(join(bin, program), script, { mode: 0o755 });
  }
  await writeFile(join(bin, 'rke2-killall.sh'), '#!/bin/sh\n', { mode: 0o755 });
  const work = join(bin, 'work');
  await mkdir(work);
  const shell = await run('/bin/sh', ['-euc', [`PATH='${bin}'`, ...lines].join('\n')], {}, work);
  t.equal(shell.code, 0, `${shell.stderr}${lines.join('\n')}`);
  return shell.stdout.split('\u001f\n').map((line) => line.split('\u001f'));
}

t.test('every command of a plan, in a real shell', async (t) => {
  for (const layout of LAYOUT_NAMES) {
    for (const dataDir of HOSTILE_DIRS) {
      const plan = planOf(layout, { dataDir, force: true });
      const file = `/root/${dataDir.slice(6)}.json`;
      const words = await wordsIn(
        t,
        stepsOf(plan, file).flatMap(({ run: lines }) => lines),
      );
      t.ok(
        words.some((line) => line[0] === 'etcd-snapshot' && line.includes(file)),
        `${layout}: the plan's file ${file} is one word`,
      );
      const wanted = LAYOUTS[layout].restoresItself ? [`${dataDir}/${FILE_NAME}`, `--data-dir=${dataDir}`] : [dataDir];
      for (const word of wanted)
        t.ok(
          words.some((line) => line.includes(word)),
          `${layout}: ${word} is one word`,
        );
    }
    const names = ['a~b', 'x@y', 'máster', 'a/b'];
    const urls = names.map((name, i) => ({
      id: `${i}`,
      name,
      peerURLs: [`https://10.0.1.${i}:2380`],
      isLearner: false,
    }));
    const words = await wordsIn(
      t,
      stepsOf(planOf(layout, {}, urls), 'plan.json').flatMap(({ run: lines }) => lines),
    );
    if (LAYOUTS[layout].restoresItself) continue;
    t.strictSame(
      words
        .flatMap((line) => line.slice(line.indexOf('--member') + 1 || line.length, line.indexOf('--member') + 2))
        .toSorted(),
      names.toSorted(),
    );
  }
});

t.test('the step that follows a restore, in a real shell', async (t) => {
  for (const home of HOSTILE_DIRS) {
    const [words] = await wordsIn(t, [nextStep({ dataDir: `${home}/restored`, place: undefined, walDir: undefined })]);
    t.strictSame(words, ['etcd-snapshot', 'restore', '--swap', '--data-dir', home]);
  }
});

t.test('which layout a host has', async (t) => {
  const hosts: Record<string, [layout: Layout, paths: string[]]> = {
    'AKS Engine': ['aks-engine', ['/etc/default/etcd', '/var/lib/etcddisk/']],
    "AKS Engine's certificates": ['aks-engine', ['/etc/kubernetes/certs/etcdclient.crt']],
    kubeadm: ['kubeadm', ['/etc/kubernetes/manifests/etcd.yaml', '/var/lib/etcd/']],
    'kubeadm, stopped': ['kubeadm', ['/etc/kubernetes/manifests-stopped/etcd.yaml']],
    "kubeadm's certificates": ['kubeadm', ['/etc/kubernetes/pki/etcd/ca.crt']],
    k3s: ['k3s', ['/var/lib/rancher/k3s/server/token']],
    'k3s without its data': ['k3s', ['/etc/rancher/k3s/config.yaml']],
    RKE2: ['rke2', ['/var/lib/rancher/rke2/server/token', '/etc/rancher/rke2/config.yaml']],
  };
  for (const [what, [layout, paths]] of Object.entries(hosts)) {
    const root = await hostWith(what, paths);
    t.match(await inferLayout({}, root), { layout, sign: /^\// }, what);
  }
  const empty = await hostWith('nothing', ['/etc/default/etcd']);
  await t.rejects(inferLayout({}, empty), { exitCode: 2, message: /nothing on this host/, hint: /kubeadm, k3s, rke2/ });
  const two = await hostWith('two', ['/etc/kubernetes/pki/etcd/ca.crt', '/etc/rancher/k3s/config.yaml']);
  await t.rejects(inferLayout({}, two), { exitCode: 2, message: /kubeadm .*, k3s /, hint: /aks-engine, kubeadm/ });
  const configured = { ca: '/var/lib/rancher/rke2/server/tls/etcd/server-ca.crt' };
  t.match(await inferLayout(configured, empty), { layout: 'rke2', sign: configured.ca }, 'by what is configured');
  await t.rejects(inferLayout({ ca: '/else/where.crt' }, empty), { message: /nothing on this host/ });
});

async function hostWith(name: string, paths: readonly string[]): Promise<string> {
  const root = join(dir, 'hosts', name);
  for (const path of paths) {
    const full = join(root, path);
    await mkdir(path.endsWith('/') ? full : join(full, '..'), { recursive: true });
    if (!path.endsWith('/')) await writeFile(full, '');
  }
  return root;
}

const NOTHING: RestoreRequest = {
  ...{ plan: undefined, config: undefined, name: undefined, initialCluster: undefined },
  ...{ initialClusterToken: undefined, initialAdvertisePeerUrls: undefined },
};

t.test('contradicting options', async (t) => {
  const planFile = join(dir, 'good.json');
  await writeFile(planFile, JSON.stringify(planJson(PLAN, planFile)));
  const config = join(dir, 'etcd.default');
  await writeFile(config, 'DAEMON_ARGS=--name a --data-dir /d --wal-dir /w');
  await t.rejects(readRestoreRequest({ 'from-plan': planFile, name: 'a' }), {
    message: /--from-plan cannot be combined/,
  });
  await t.rejects(readRestoreRequest({ member: 'a' }), { message: /--member needs a plan/ });
  await t.rejects(readRestoreRequest({ from: config }), { message: /has a separate WAL directory/ });
  await t.rejects(readRestoreRequest({ from: planFile }), { message: /does not configure an etcd member/ });
  await t.rejects(readRestoreRequest({ from: join(dir, 'none') }), { message: /does not exist/ });

  const own = await readRestoreRequest({ from: config, 'wal-dir': '/new' });
  const planned = await readRestoreRequest({ 'from-plan': planFile, member: 'a' });
  t.match(directoriesOf({}, own), { dataDir: '/d/restored', place: '/d' });
  t.match(directoriesOf({}, planned), { dataDir: '/var/lib/etcddisk/restored', place: '/var/lib/etcddisk' });
  t.match(directoriesOf({ 'data-dir': '/x' }, planned), { dataDir: '/x' });
  t.throws(() => directoriesOf({}, NOTHING), { name: 'UsageError' });
  t.throws(() => directoriesOf({ 'data-dir': '/x\u001b[2J' }, NOTHING), { message: /control characters/ });
  t.equal(nextStep(directoriesOf({}, own)), 'etcd-snapshot restore --swap --data-dir /d');
  t.equal(nextStep(directoriesOf({ 'data-dir': '/x' }, planned)), 'start etcd with --data-dir /x');
  t.strictSame([own, planned, NOTHING].map(isOneOfSeveral), [true, true, false]);
  t.equal(isOneOfSeveral({ ...NOTHING, initialCluster: SET }), true);
});

t.test('each member is restored where its own configuration says', async (t) => {
  const [layoutPlan, statedPlan] = ['layout', 'stated'].map((name) => join(dir, `dirs-${name}.json`)) as [
    string,
    string,
  ];
  await writeFile(layoutPlan, JSON.stringify(planJson(PLAN, layoutPlan)));
  await writeFile(statedPlan, JSON.stringify(planJson(planOf('aks-engine', { dataDir: '/stated' }), statedPlan)));
  const from = join(dir, 'c.default');
  await writeFile(from, 'DAEMON_ARGS="--name c --data-dir /var/lib/etcddisk/m3b"');
  const request = await readRestoreRequest({ 'from-plan': layoutPlan, member: 'c', from });
  t.match(directoriesOf({}, request), {
    dataDir: '/var/lib/etcddisk/m3b/restored',
    place: '/var/lib/etcddisk/m3b',
    warnings: [/Member c has the data directory \/var\/lib\/etcddisk\/m3b .* not \/var\/lib\/etcddisk\./],
  });
  t.match(directoriesOf({}, await readRestoreRequest({ 'from-plan': layoutPlan, from })), {
    place: '/var/lib/etcddisk/m3b',
  });
  for (const given of ['/var/lib/etcddisk/restored', '/var/lib/etcddisk', '/var/lib/etcddisk/m3bb']) {
    t.throws(
      () => directoriesOf({ 'data-dir': given }, request),
      { exitCode: 2, message: /has the data directory \/var\/lib\/etcddisk\/m3b/, hint: /--data-dir \S+m3b\/restored/ },
      given,
    );
  }
  t.match(directoriesOf({ 'data-dir': '/var/lib/etcddisk/m3b/x' }, request), { dataDir: '/var/lib/etcddisk/m3b/x' });
  const stated = await readRestoreRequest({ 'from-plan': statedPlan, member: 'c', from });
  t.throws(() => directoriesOf({}, stated), { exitCode: 2, message: /but \/stated in the plan/, hint: /new plan/ });
  await t.rejects(readRestoreRequest({ 'from-plan': layoutPlan, member: 'a', from }), {
    ...{ exitCode: 2, message: /configuration of member c, not of a/, hint: /--member c/ },
  });
  const member = { name: 'b', dataDir: '/own/b', walDir: undefined, initialCluster: undefined };
  const config = {
    path: '/etc/own.conf',
    member: { ...member, initialAdvertisePeerUrls: undefined },
  };
  const plan = planOf('aks-engine', { config });
  t.match(plan, { configFile: '/etc/own.conf', members: [{ name: 'a' }, { name: 'b', dataDir: '/own/b' }] });
  t.match(planText(plan, 'p'), /of b +\/own\/b\n/);
  t.match(planText(plan, 'p'), '--swap --from /etc/own.conf\n');
  t.throws(() => planOf('aks-engine', { config, dataDir: '/else' }), {
    name: 'UsageError',
    message: /\/else.*\/own\/b/,
  });
  t.equal(await readFile(from, 'utf8').then(({ length }) => length > 0), true);
});

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import t from 'tap';
import { formatInitialCluster, parseInitialCluster } from '../../src/member.ts';
import { assertAgrees, assertPossible, type Known, membersToRestore } from '../../src/restore/initial-members.ts';
import { makePlan } from '../../src/restore/plan.ts';
import { memberFor, type RestoreRequest } from '../../src/restore/restore-request.ts';
import type { RecordedMember, SnapshotRecord } from '../../src/snapshot/record.ts';
import { fromMetadata } from '../support/catalogue.ts';
import { PROMOTED } from '../support/fixtures.ts';
import { type ListedMember, restoredClusters } from '../support/restored-clusters.ts';
import { metadataOf } from '../support/restored.ts';
import { factsOf, verify } from '../support/verify.ts';

const SHA256 = 'ab'.repeat(32);

/** `name@port` for a voting member, `name@port*` for a learner; ids are made of the position. */
function membersOf(...words: readonly string[]): RecordedMember[] {
  return words.map((word, i) => {
    const [, name = '', host = '', learner] = /^(\w*)@([\w.:[\]]+?)(\*)?$/.exec(word) ?? [];
    return { id: `${i + 1}a`, name, peerURLs: [`https://${host}:2380`], isLearner: learner !== undefined };
  });
}

const known = (members: readonly RecordedMember[], more: Partial<Known> = {}): Known => ({
  members,
  sha256: SHA256,
  ...more,
});

/** Also with members that the parser of records would not let through: the rule must hold by itself. */
function recordOf(members: readonly RecordedMember[], clusterId = 'c1'): SnapshotRecord {
  const record = fromMetadata(metadataOf({ sha256: SHA256, members: '[]' }));
  if (record === undefined) throw new Error('no record');
  return { ...record, clusterId, members };
}

const NOTHING: RestoreRequest = {
  ...{ plan: undefined, config: undefined, name: undefined, initialCluster: undefined },
  ...{ initialClusterToken: undefined, initialAdvertisePeerUrls: undefined },
};

const configOf = (name: string): RestoreRequest['config'] => ({
  ...{ name, dataDir: '/d', walDir: undefined, initialCluster: undefined },
  initialAdvertisePeerUrls: undefined,
});

const planOf = (record: SnapshotRecord, file?: Known, initialCluster?: string) =>
  makePlan('kubernetes-etcd-snapshot_20260101_000000.db', 1, record, {
    layout: 'kubeadm',
    dataDir: undefined,
    now: new Date(0),
    file,
    initialCluster,
  });

const byId = <T extends { readonly id: string }>(members: readonly T[]): T[] =>
  members.toSorted((a, b) => (a.id < b.id ? -1 : 1));

const setOf = (members: readonly ListedMember[]): string =>
  formatInitialCluster(members.filter(({ isLearner }) => !isLearner).toSorted((a, b) => (a.name < b.name ? -1 : 1)));

/** As etcd does it. */
const clusterIdOf = (ids: readonly string[]): string =>
  createHash('sha1')
    .update(Buffer.concat(ids.toSorted().map((id) => Buffer.from(id.padStart(16, '0'), 'hex'))))
    .digest('hex')
    .slice(0, 16)
    .replace(/^0+/, '');

for (const { name, version, bytes, members } of restoredClusters()) {
  t.test(`the members of a cluster that was restored: ${name}`, (t) => {
    const facts = factsOf(verify(bytes));
    const voter = members.find(({ isLearner }) => !isLearner)?.name ?? '';
    const wishes = [
      { ...NOTHING, name: voter },
      { ...NOTHING, config: configOf(voter) },
    ];
    const record = recordOf(members);
    t.equal(planOf(record, facts).initialCluster, setOf(members), 'planned from what the cluster said');
    for (const request of wishes) t.equal(memberFor(request, record).member.name, voter);

    if (version.startsWith('3.4.')) {
      const why = { name: 'UsageError', message: /same (name|peer URL)/, hint: /--initial-cluster/ };
      t.throws(() => membersToRestore(facts), why);
      for (const request of wishes) t.throws(() => memberFor(request, facts), why);
      const given = { ...NOTHING, name: voter, initialCluster: setOf(members) };
      t.equal(formatInitialCluster(memberFor(given, facts).member.initialCluster), setOf(members));

      const began = members.filter((member) => member.name !== 'l1').map(({ id }) => id);
      const old = recordOf(facts.members, clusterIdOf(began));
      if (began.length < members.length) {
        t.throws(() => planOf(old, facts), why, 'a record of an earlier version, and members changed since');
        t.equal(planOf(old, facts, setOf(members)).initialCluster, setOf(members));
      } else {
        t.equal(planOf(old, facts).initialCluster, setOf(members), 'the id of the cluster tells who began it');
      }
      return void t.end();
    }
    t.strictSame(
      byId(facts.members).map(({ id, name: called, peerURLs, isLearner }) => ({
        id,
        name: called,
        peerURLs,
        isLearner,
      })),
      byId(members),
      'the file lists them as they are',
    );
    t.strictSame(facts.unwrittenPromotions, []);
    t.equal(formatInitialCluster(membersToRestore(facts).voters), setOf(members));
    for (const request of wishes) {
      const { peerURLs = [] } = members.find((member) => member.name === voter) ?? {};
      t.strictSame(memberFor(request, facts).member.initialAdvertisePeerUrls, peerURLs);
    }
    const old = recordOf(members.map((member) => ({ ...member, isLearner: true })));
    t.equal(planOf(old, facts).initialCluster, setOf(members), 'a record of an earlier version');
    t.throws(() => planOf(old), { name: 'UsageError', hint: /--initial-cluster/ }, 'that nobody can compare');
    t.end();
  });
}

t.test('members that were promoted, as their record names them', (t) => {
  const facts = factsOf(verify(readFileSync(PROMOTED)));
  const named = facts.members.map((member) => ({ ...member, name: `m${member.peerURLs[0]?.at(-2)}` }));
  t.equal(planOf(recordOf(named), facts).members.length, 3);
  t.throws(() => memberFor({ ...NOTHING, config: configOf('m1') }, facts), {
    message: /does not contain the names of the members/,
  });
  t.end();
});

t.test('who the members are is not certain', (t) => {
  for (const [why, members, message, more] of [
    ['a name twice', membersOf('a@h1', 'b@h2', 'a@h3'), /a \(1a\) and a \(3a\) have the same name/],
    ['a peer URL twice', membersOf('a@h1', 'b@h1'), /have the same peer URL/],
    ['a peer URL twice, one of a learner', membersOf('a@h1', 'b@h1*'), /have the same peer URL/],
    ['a peer URL twice, one without a name', membersOf('a@h1', '@h1'), /have the same peer URL/],
    ['in other letters', membersOf('a@h1', 'b@H1'), /have the same peer URL/],
    ['only learners', membersOf('a@h1*', 'b@h2*'), /no voting member has a name/],
    ['only nameless ones', membersOf('@h1', '@h2'), /no voting member has a name/],
    ['none', [], /no voting member has a name/],
    ['one that was removed', membersOf('a@h1', 'b@h2'), /b \(2a\) was removed/, { removedMembers: ['2a'] }],
    ['twice, and another cluster id', membersOf('a@h1', 'a@h1'), /same name/, { clusterId: 'f00' }],
  ] as const) {
    const snapshot = known(members, more);
    const refusal = { name: 'UsageError', exitCode: 2, message, hint: /--initial-cluster/ };
    t.throws(() => membersToRestore(snapshot), refusal, why);
    t.throws(() => memberFor({ ...NOTHING, config: configOf('a') }, snapshot), refusal, `${why}: --from`);
    if (members.some((member) => member.name === 'a')) {
      const alone = { ...refusal, message: /./ };
      t.throws(() => memberFor({ ...NOTHING, name: 'a' }, snapshot), alone, `${why}: --name`);
    }
    t.throws(() => planOf(recordOf(members), known([], more)), { name: 'UsageError', hint: /--initial-cluster/ }, why);
    const given = { ...NOTHING, name: 'a', initialCluster: 'a=https://h1:2380,b=https://h2:2380' };
    t.equal(memberFor(given, snapshot).member.initialCluster.length, 2, `${why}: by hand`);
  }
  t.end();
});

t.test('a learner is not restored alone under an address of its own', (t) => {
  const snapshot = known(membersOf('a@h1', 'b@h2*'));
  const refusal = { name: 'UsageError', message: /Member b is a learner/, hint: /--initial-cluster/ };
  t.throws(() => memberFor({ ...NOTHING, name: 'b' }, snapshot), refusal);
  t.end();
});

t.test('a member alone is one of the snapshot, unless the set is given', (t) => {
  const snapshot = known(membersOf('etcd1@h1', 'etcd2@h2', '@h3'));
  const refusal = {
    name: 'UsageError',
    exitCode: 2,
    message: "etcdl is not a member of the snapshot's cluster: etcd1, etcd2.",
    hint: 'Check the spelling: the most similar member is etcd1. To restore a new member alone, give --initial-cluster NAME=PEER-URL.',
  };
  t.throws(() => memberFor({ ...NOTHING, name: 'etcdl' }, snapshot), refusal);
  const url = { initialAdvertisePeerUrls: 'https://h1:2380' };
  t.throws(() => memberFor({ ...NOTHING, name: 'etcdl', ...url }, snapshot), refusal, 'also at a known peer URL');
  t.throws(() => memberFor({ ...NOTHING, name: 'x' }, snapshot), {
    message: /^x is/,
    hint: /^To restore a new member alone/,
  });
  const given = { ...NOTHING, name: 'x', initialCluster: 'x=https://h9:2380' };
  t.match(memberFor(given, snapshot).member, { initialAdvertisePeerUrls: ['https://h9:2380'] });
  t.match(memberFor({ ...NOTHING, name: 'x' }, known(membersOf('@h1'))), {
    member: { initialAdvertisePeerUrls: ['http://localhost:2380'] },
    warnings: [/^The snapshot names no member; restoring x alone/],
  });
  t.end();
});

t.test('sets that no cluster can have', (t) => {
  for (const [set, message] of [
    ['a=https://h1:2380,b=https://h1:2380', /a and b have the same peer URL/],
    ['a=https://h1:2380,b=https://h2:2380,b=https://H1:2380', /a and b have the same peer URL/],
    ['a=https://h1:2380,a=https://h1:2380', /a has the same peer URL twice/],
    ['a=https://h1:2380,b=https://h2:2380,a=https://H1:2380', /a has the same peer URL twice/],
    ['a=http://localhost:2380,b=https://h2:2380', /peer URL of a cannot be reached/],
    ['a=https://h1:2380,b=http://127.0.0.1:2380', /peer URL of b cannot be reached/],
    ['a=https://h1:2380,b=http://127.8.0.1:2380', /peer URL of b cannot be reached/],
    ['a=https://h1:2380,b=http://[::1]:2380', /peer URL of b cannot be reached/],
    ['a=https://h1:2380,b=unix://b:0', /is not a peer URL/],
    ['a=ftp://h1:2380', /is not a peer URL/],
    ['a=https://h1', /is not a peer URL/],
    ['a=https://h1:2380/path', /is not a peer URL/],
    ['a=https://u:p@h1:2380', /is not a peer URL/],
    ['a=https://h1:2380?x', /is not a peer URL/],
    ['a=https://h1:99999', /Invalid initial cluster/],
    ['a=https://$(reboot):2380', /is not a peer URL|Invalid initial cluster/],
    ['a\u0007=https://h1:2380', /is not a member name/],
  ] as const) {
    const refusal = { name: 'UsageError', message, hint: /name=peer-URL/ };
    t.throws(() => assertPossible(parseInitialCluster(set)), refusal, set);
    t.throws(() => memberFor({ ...NOTHING, name: 'a', initialCluster: set }, known([])), refusal, `restore: ${set}`);
    t.throws(() => planOf(recordOf([]), undefined, set), refusal, `plan: ${set}`);
  }
  for (const name of ['m1\nreboot', 'm0; touch /tmp/x #', '$(reboot)', 'a,b', 'a=b', '\u009b31m', '\u202e']) {
    const set = [{ name, peerURLs: ['https://h1:2380'] }];
    t.throws(() => assertPossible(set), { message: /is not a member name/ }, JSON.stringify(name));
    const [member] = membersOf('x@h1');
    t.throws(
      () => planOf(recordOf([{ ...member!, name }])),
      { message: /is not a member name/ },
      `record: ${JSON.stringify(name)}`,
    );
  }
  for (const url of ['https://10.0.0.1:2380\ntouch /tmp/y', 'https://h1:2380 ', "https://h'1:2380", 'nope', '']) {
    const [member] = membersOf('x@h1');
    t.throws(
      () => planOf(recordOf([{ ...member!, peerURLs: [url] }])),
      { message: /is not a peer URL/ },
      JSON.stringify(url),
    );
  }
  t.throws(() => assertPossible([{ name: 'a', peerURLs: [] }]), { message: /peerURLs is empty/ });
  for (const set of [
    'a=http://localhost:2380',
    'a=http://127.0.0.1:1,b=http://127.0.0.1:2',
    'a=https://h1:2380,a=https://10.0.0.1:2380,b=https://[fd00::1]:2380',
  ]) {
    t.doesNotThrow(() => assertPossible(parseInitialCluster(set)), set);
  }
  t.end();
});

t.test('the record and the file must have the same voting members', (t) => {
  const three = membersOf('a@h1', 'b@h2', 'c@h3');
  const other = (i: number, change: Partial<RecordedMember>): RecordedMember[] =>
    three.map((member, index) => (index === i ? { ...member, ...change } : member));
  const extra = { id: 'f', name: 'old', peerURLs: ['https://h9:2380'], isLearner: false };
  const old = { mayListOldMembers: true };
  for (const [what, record, file, problem] of [
    ['the same', three, known(three), undefined],
    ['no name in the file', three, known(other(1, { name: '' })), undefined],
    ['a learner in the file', three, known([...three, { ...extra, isLearner: true }]), undefined],
    ['one that never started', three, known([...three, { ...extra, name: '' }]), undefined],
    ['promoted just now', three, known(other(1, { isLearner: true })), undefined],
    ['an old member in a file of 3.4', three, known([...three, extra], old), undefined],
    ['an old member of the same name', three, known([...three, { ...extra, name: 'a' }]), undefined],
    ['an old member at the same URL', three, known([...three, { ...extra, peerURLs: ['https://h1:2380'] }]), undefined],
    ['another peer URL', other(2, { peerURLs: ['https://evil:2380'] }), known(three), /c \(3a\) has the peer URL/],
    ['another peer URL, 3.4', other(2, { peerURLs: ['https://evil:2380'] }), known(three, old), /has the peer URL/],
    ['one more peer URL', other(0, { peerURLs: ['https://h1:2380', 'https://x:1'] }), known(three), /has the peer URL/],
    ['another name', other(0, { name: 'x' }), known(three), /x \(1a\) has the name a in the snapshot/],
    ['another id', other(0, { id: 'ff' }), known(three), /does not list a \(ff\)/],
    ['one more in the record', [...three, extra], known(three, old), /does not list old \(f\)/],
    ['one less in the record', three.slice(1), known(three), /the record lacks the voting member a/],
    ['a learner in the record only', other(0, { isLearner: true }), known(three), /the record lacks/],
  ] as const) {
    if (problem === undefined) {
      t.doesNotThrow(() => assertAgrees(known(record), file), what);
      t.equal(planOf(recordOf(record), file).initialCluster, setOf(three), what);
      continue;
    }
    const refusal = { name: 'UsageError', exitCode: 2, message: problem, hint: /--initial-cluster/ };
    t.throws(() => assertAgrees(known(record), file), refusal, what);
    t.throws(() => planOf(recordOf(record), file), refusal, `plan: ${what}`);
    const plan = planOf(recordOf(record), file, 'a=https://h1:2380');
    t.equal(plan.initialCluster, 'a=https://h1:2380', `by hand: ${what}`);
    t.equal(memberFor({ ...NOTHING, plan, name: 'a' }, known(record)).member.name, 'a', 'and the restore accepts it');
  }
  t.end();
});

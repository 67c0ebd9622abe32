import t from 'tap';
import { formatInitialCluster, parseInitialCluster } from '../../src/member.ts';
import { isSetOf, membersToRestore, sameMembers, tokenOf } from '../../src/restore/initial-members.ts';
import { makePlan } from '../../src/restore/plan.ts';
import { memberFor, type RestoreRequest } from '../../src/restore/restore-request.ts';
import type { SnapshotRecord } from '../../src/snapshot/record.ts';
import { fromMetadata } from '../support/catalogue.ts';
import { MEMBERS, metadataOf, SET } from '../support/restored.ts';

const SHA256 = 'ab'.repeat(32);

function recordWith(members: readonly object[]): SnapshotRecord {
  const record = fromMetadata(metadataOf({ sha256: SHA256, members: JSON.stringify(members) }));
  if (record === undefined) throw new Error('no record');
  return record;
}

const PLAN = makePlan('eu/kubernetes-etcd-snapshot_20260101_000000.db', 1000, recordWith(MEMBERS), {
  layout: 'aks-engine',
  dataDir: undefined,
  now: new Date('2026-01-02T03:04:05Z'),
});

const NOTHING: RestoreRequest = {
  ...{ plan: undefined, config: undefined, name: undefined, initialCluster: undefined },
  ...{ initialClusterToken: undefined, initialAdvertisePeerUrls: undefined },
};

t.test('the initial cluster is read as it is written', (t) => {
  t.equal(formatInitialCluster(parseInitialCluster(SET)), SET);
  const two = 'a=http://a:1,b=http://b:1,a=http://a:2';
  t.strictSame(parseInitialCluster(two)[0], { name: 'a', peerURLs: ['http://a:1', 'http://a:2'] });
  t.ok(sameMembers(parseInitialCluster(two), parseInitialCluster('b=http://b:1/,a=http://a:2,a=http://a:1')));
  t.notOk(sameMembers(parseInitialCluster(two), parseInitialCluster('b=http://b:1,a=http://a:1')));
  for (const wrong of ['', 'a', 'a=', 'a=x', '=http://a:1', 'a=http://a:1,,']) {
    t.throws(() => parseInitialCluster(wrong), { name: 'UsageError' }, wrong);
  }
  t.end();
});

t.test('learners and members that never started are left out', (t) => {
  const members = [
    { id: '9', name: 'z', peerURLs: ['http://z:1'], isLearner: true },
    { id: '8', name: '', peerURLs: ['http://y:1'], isLearner: false },
    ...MEMBERS,
  ];
  const { voters, leftOut } = membersToRestore({ members, sha256: SHA256 });
  t.equal(formatInitialCluster(voters), SET);
  t.match(leftOut, [
    { id: '9', reason: /learner/ },
    { id: '8', reason: /never started/ },
  ]);
  t.end();
});

t.test('members whose names etcd did not write down', (t) => {
  const members = MEMBERS.map((member, i) => (i === 0 ? member : { ...member, name: '' }));
  const file = { members, sha256: SHA256 };
  t.ok(isSetOf(PLAN.members, file), 'they are known by their URLs');
  t.notOk(isSetOf(PLAN.members.slice(1), file), 'one that has a name is missing');
  t.notOk(isSetOf([...PLAN.members, { name: 'd', peerURLs: ['http://d:1'] }], file), 'one too many');
  t.notOk(isSetOf([{ name: 'a', peerURLs: ['http://elsewhere:1'] }], file), 'at another address');

  const known = { members, unwrittenPromotions: ['11', '21'], sha256: SHA256 };
  const config = { name: 'a', dataDir: '/d', initialCluster: undefined };
  const request = { ...NOTHING, config: { ...config, initialAdvertisePeerUrls: undefined, walDir: undefined } };
  t.throws(() => memberFor(request, known), {
    name: 'UsageError',
    message: /names of the members at https:\/\/10\.0\.0\.1:2380 and https:\/\/10\.0\.0\.2:2380:/,
  });
  t.match(memberFor({ ...request, initialCluster: SET }, known).member, { name: 'a' }, 'but when told');
  t.match(memberFor({ ...NOTHING, plan: PLAN, name: 'b' }, known).member, { name: 'b' }, 'or by a plan');
  const never = memberFor(request, { members, sha256: SHA256 });
  t.match(
    never.warnings,
    [/has no name in the snapshot/, /has no name in the snapshot/],
    'nobody misses what never started',
  );
  t.end();
});

t.test('the parameters of a member', (t) => {
  const known = { members: MEMBERS, sha256: SHA256 };
  const config = { name: 'b', dataDir: '/d', initialCluster: 'b=https://10.0.0.1:2380' };
  const unset = { initialAdvertisePeerUrls: undefined, walDir: undefined };
  const fromConfig = memberFor({ ...NOTHING, config: { ...config, ...unset } }, known);
  t.equal(formatInitialCluster(fromConfig.member.initialCluster), SET, 'the set is of the snapshot');
  t.match(fromConfig.member, { name: 'b', initialClusterToken: tokenOf(SHA256) });
  t.match(fromConfig.warnings, [/a different initial cluster/]);
  const whole = { ...config, ...unset, initialCluster: SET };
  t.strictSame(memberFor({ ...NOTHING, config: whole }, known).warnings, []);

  const alone = memberFor({ ...NOTHING, name: 'a' }, known).member;
  t.equal(formatInitialCluster(alone.initialCluster), 'a=https://10.0.0.0:2380', 'alone, at the address that it had');
  const own = memberFor({ ...NOTHING, name: 'a', initialClusterToken: 'mine' }, known).member;
  t.match(own, { initialClusterToken: 'mine' });

  const planned = memberFor({ ...NOTHING, plan: PLAN, name: 'c' }, known).member;
  t.match(planned, {
    name: 'c',
    initialClusterToken: PLAN.initialClusterToken,
    initialAdvertisePeerUrls: ['https://10.0.0.2:2380'],
  });

  const refused: [why: RegExp, request: Partial<RestoreRequest>][] = [
    [/No member given/, {}],
    [/x is not a member of the snapshot's cluster: a, b, c/, { name: 'x' }],
    [/m is not one of the restored members/, { name: 'm', initialCluster: SET }],
    [/would advertise http:\/\/b:1/, { name: 'a', initialAdvertisePeerUrls: 'http://b:1' }],
    [/would advertise nonsense/, { name: 'a', initialAdvertisePeerUrls: 'nonsense' }],
    [/new is not one of/, { config: { ...config, ...unset, name: 'new' } }],
    [/No member given/, { plan: PLAN }],
    [/z is not one of/, { plan: PLAN, name: 'z' }],
  ];
  for (const [message, request] of refused)
    t.throws(() => memberFor({ ...NOTHING, ...request }, known), { message, name: 'UsageError' });
  const fewer = { members: MEMBERS.slice(1), sha256: SHA256 };
  t.throws(() => memberFor({ ...NOTHING, plan: PLAN, name: 'c' }, fewer), {
    message: /The plan and the snapshot have different members/,
  });
  t.end();
});

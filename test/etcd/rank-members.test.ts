import t from 'tap';
import type { MemberStatus } from '../../src/etcd/messages.ts';
import { rankMembers } from '../../src/etcd/select-member.ts';

function member(name: string, change: Partial<MemberStatus> = {}): MemberStatus {
  return {
    endpoint: name,
    clusterId: 'c',
    memberId: name,
    version: '3.5.30',
    isLeader: false,
    isLearner: false,
    hasLeader: true,
    dbSize: 1,
    dbSizeInUse: 1,
    revision: 1,
    raftTerm: 1,
    raftIndex: 100_000,
    raftAppliedIndex: 100_000,
    alarms: [],
    errors: [],
    ...change,
  };
}

function order(...members: MemberStatus[]): string[] {
  return rankMembers(members).map(({ status, rank }) => `${status.memberId} ${rank}`);
}

t.test('a follower before the leader, followers as they were configured', (t) => {
  t.strictSame(order(member('a', { isLeader: true }), member('c'), member('b')), [
    'c follower',
    'b follower',
    'a leader',
  ]);
  t.strictSame(order(member('a', { isLeader: true })), ['a leader'], 'a cluster of one');
  t.end();
});

t.test('a member that can have less or corrupt data is a fallback', (t) => {
  const leader = member('a', { isLeader: true });
  t.strictSame(order(member('slow', { raftAppliedIndex: 98_000 }), leader), ['a leader', 'slow fallback']);
  t.strictSame(order(member('busy', { raftAppliedIndex: 99_500 }), leader), ['busy follower', 'a leader']);
  t.strictSame(
    order(member('behind itself', { raftIndex: 102_000 }), leader),
    ['a leader', 'behind itself fallback'],
    'its log is not in its database',
  );
  t.strictSame(order(member('cut off', { hasLeader: false }), leader), ['a leader', 'cut off fallback']);
  const alarms = [{ memberId: 'bad', alarm: 'CORRUPT' }];
  t.strictSame(order(member('bad', { alarms }), member('good', { alarms })), ['good follower', 'bad fallback']);
  t.end();
});

t.test('NOSPACE does no harm to a snapshot', (t) => {
  t.strictSame(order(member('a', { alarms: [{ memberId: 'a', alarm: 'NOSPACE' }] })), ['a follower']);
  t.end();
});

t.test('a learner is never a source', (t) => {
  t.strictSame(order(member('l', { isLearner: true }), member('a')), ['a follower', 'l unfit']);
  t.strictSame(order(member('l', { isLearner: true })), ['l unfit']);
  t.end();
});

t.test('without quorum every member can be used', (t) => {
  const lost = { hasLeader: false };
  t.strictSame(order(member('a', lost), member('b', lost)), ['a follower', 'b follower']);
  t.match(rankMembers([member('a', lost)])[0]?.reason, 'a cluster without a leader');
  t.end();
});

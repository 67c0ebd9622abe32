import t, { type Test } from 'tap';
import { compareHashKV, type Comparison } from '../../src/backup/compare-hash-kv.ts';
import { Connection } from '../../src/etcd/connection.ts';
import { chooseMembers, onePerMember } from '../../src/etcd/select-member.ts';
import { createLog, Warnings } from '../../src/log.ts';
import { FakeMember } from '../support/fake-etcd.ts';

const QUIET = createLog('json', 'error', () => {});

interface Voter {
  readonly id: string;
  readonly hash: number;
  /** Under how many addresses it is named. */
  readonly times?: number;
  readonly isAlarmed?: boolean;
  readonly compactRevision?: string;
}

/** What the members say of a snapshot whose hash is 1. */
async function compared(t: Test, voters: readonly Voter[]): Promise<Comparison> {
  const errors = voters.filter(({ isAlarmed }) => isAlarmed).map(({ id }) => `memberID:${id} alarm:CORRUPT `);
  const members = await Promise.all(
    voters.map(async ({ id, hash, compactRevision = '-1' }) =>
      FakeMember.start(async () => {}, '7', '99', [], {
        memberId: id,
        status: { errors },
        hashKV: { hash, compact_revision: compactRevision },
      }),
    ),
  );
  const connections = members.flatMap(({ endpoint }, index) =>
    ['127.0.0.1', 'localhost', '127.0.1']
      .slice(0, voters[index]?.times ?? 1)
      .map((host) => new Connection(endpoint.replace('127.0.0.1', host), undefined)),
  );
  t.teardown(() => {
    for (const one of [...connections.map((connection) => ({ stop: () => connection.close() })), ...members])
      one.stop();
  });
  const choice = await chooseMembers(connections, QUIET, new Warnings(QUIET));
  const candidates = onePerMember(choice.candidates, QUIET);
  t.equal(candidates.length, voters.length, 'one candidate a member');
  return compareHashKV({ hash: 1, revision: 7, compactRevision: -1 }, candidates);
}

t.test('each member has one vote, and nobody decides between two', async (t) => {
  const [a, b, c, d] = ['10', '11', '12', '13'] as const;
  const table: readonly [Comparison['verdict'], string, readonly Voter[]][] = [
    [
      'confirmed',
      'all agree',
      [
        { id: a, hash: 1 },
        { id: b, hash: 1 },
      ],
    ],
    [
      'confirmed',
      'two against one',
      [
        { id: a, hash: 1 },
        { id: b, hash: 2 },
      ],
    ],
    ['undecided', 'one against one', [{ id: a, hash: 2 }]],
    ['undecided', 'one against one that is named twice', [{ id: a, hash: 2, times: 2 }]],
    [
      'undecided',
      'one against one, and a third cannot be compared',
      [
        { id: a, hash: 2 },
        { id: b, hash: 2, compactRevision: '5' },
      ],
    ],
    [
      'undecided',
      'three of three minds',
      [
        { id: a, hash: 2 },
        { id: b, hash: 3 },
      ],
    ],
    [
      'undecided',
      'two against two',
      [
        { id: a, hash: 1 },
        { id: b, hash: 2 },
        { id: c, hash: 2 },
      ],
    ],
    [
      'outvoted',
      'one against two',
      [
        { id: a, hash: 2 },
        { id: b, hash: 2 },
      ],
    ],
    [
      'outvoted',
      'two against three',
      [
        { id: a, hash: 1, times: 2 },
        { id: b, hash: 2 },
        { id: c, hash: 2 },
        { id: d, hash: 2 },
      ],
    ],
    [
      'confirmed',
      'two against one that is named twice',
      [
        { id: a, hash: 1 },
        { id: b, hash: 2, times: 2 },
      ],
    ],
    ['confirmed', 'one against one that the cluster knows to be corrupt', [{ id: a, hash: 2, isAlarmed: true }]],
  ];
  for (const [verdict, name, voters] of table) t.equal((await compared(t, voters)).verdict, verdict, name);
});

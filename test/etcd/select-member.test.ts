import t from 'tap';
import { Connection } from '../../src/etcd/connection.ts';
import { chooseMembers } from '../../src/etcd/select-member.ts';
import { createLog, Warnings } from '../../src/log.ts';
import { FakeMember } from '../support/fake-etcd.ts';
import { freePort } from '../support/process.ts';

const QUIET = createLog('json', 'error', () => {});

/** What the choice among these endpoints is: endpoints, the best first. */
async function choose(endpoints: readonly string[], log = QUIET): Promise<string[]> {
  const connections = endpoints.map((endpoint) => new Connection(endpoint, undefined));
  try {
    const { candidates } = await chooseMembers(connections, log, new Warnings(log));
    return candidates.map(({ status }) => status.endpoint);
  } finally {
    for (const connection of connections) connection.close();
  }
}

t.test('a follower comes before the leader, both before one without a leader; the dead are passed over', async (t) => {
  const leader = await FakeMember.start(async () => {}, '7', '1');
  const follower = await FakeMember.start(async () => {}, '7', '2');
  const lost = await FakeMember.start(async () => {}, '7', '0');
  const other = await FakeMember.start(async () => {}, '8', '2');
  t.teardown(() => [leader, follower, lost, other].forEach((member) => member.stop()));
  const dead = `http://127.0.0.1:${await freePort()}`;
  t.strictSame(await choose([lost.endpoint, leader.endpoint, dead, follower.endpoint]), [
    follower.endpoint,
    leader.endpoint,
    lost.endpoint,
  ]);
  t.strictSame(await choose([lost.endpoint]), [lost.endpoint], 'without quorum a backup is still possible');
  const warned: string[] = [];
  const log = createLog('json', 'warn', (line) => warned.push(line));
  await t.rejects(choose([dead], log), { exitCode: 10, message: /connection refused/ });
  await t.rejects(choose([dead, `http://127.0.0.1:${await freePort()}`]), {
    exitCode: 10,
    message: /No endpoint can serve a snapshot/,
  });
  t.strictSame(warned, [], 'what the error says is not a warning as well');
  await choose([dead, leader.endpoint], log);
  t.match(warned, [/connection refused/]);
  await t.rejects(choose([leader.endpoint, other.endpoint]), { exitCode: 2, message: /has members of two clusters/ });
});

import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { readConfig } from '../../src/config/config.ts';
import { createLog, Warnings } from '../../src/log.ts';
import { assertNoQuorum } from '../../src/restore/in-use.ts';
import { makeAuthority } from '../support/certificates.ts';
import { EtcdCluster, findEtcd } from '../support/etcd.ts';
import { FakeMember } from '../support/fake-etcd.ts';
import { FIXTURES } from '../support/fixtures.ts';
import { freePort, temporaryFolder, type Variables } from '../support/process.ts';
import { startSilentServer } from '../support/server.ts';
import { errorOf, runWorker, withTools } from '../support/worker.ts';

const dir = temporaryFolder('quorum');
const authority = await makeAuthority(join(dir, 'certs'));
const stranger = await makeAuthority(join(dir, 'strange-certs'), 'another CA');
const expired = await makeAuthority(join(dir, 'expired-certs'), 'test CA', -1);

// They wait most of the time.
t.jobs = 4;

/** Shorter than a restore waits, and long enough for a member to notice that its leader is gone. */
const ELECTION_MS = 4_000;

/** For a cluster that works, also on a machine that does many other things. */
const AMPLE_MS = 60_000;

/** What a restore does where these variables lead to the old cluster. */
async function answer(
  variables: Variables,
  electionMs = ELECTION_MS,
): Promise<{ quorum: 'yes' | 'no' | 'unknown'; message: string; hint: string }> {
  const { etcd } = readConfig(variables, { etcd: true, storage: false });
  try {
    await assertNoQuorum(etcd, new Warnings(createLog('json', 'error', () => {})), electionMs);
    return { quorum: 'no', message: '', hint: '' };
  } catch (error) {
    const { message, hint, exitCode } = error as { message: string; hint: string; exitCode: number };
    if (exitCode !== 20) throw error;
    return { quorum: message.startsWith('The cluster has quorum') ? 'yes' : 'unknown', message, hint };
  }
}

for (const tools of findEtcd()) {
  t.test(`etcd ${tools.version}: whether the old cluster has its quorum`, async (t) => {
    const cluster = await EtcdCluster.start({ tools, dir: join(dir, tools.version), size: 3, tls: authority });
    t.teardown(async () => cluster.stop());
    const user = { SNAPSHOT_ETCD_USERNAME: 'root', SNAPSHOT_ETCD_PASSWORD: 'right' };
    await cluster.enableAuthentication('right');
    const { variables } = cluster;
    const [first = '', , third = ''] = cluster.members.map(({ endpoint }) => endpoint);
    const is = async (quorum: string, why: string, more: Variables = {}): Promise<void> => {
      const found = await answer({ ...variables, ...more }, quorum === 'yes' ? AMPLE_MS : ELECTION_MS);
      t.equal(found.quorum, quorum, why);
    };

    await is('yes', 'it works');
    await is('yes', 'a user is named', user);
    await is('yes', 'a wrong password is found out with a majority only', { ...user, SNAPSHOT_ETCD_PASSWORD: 'wrong' });
    const unknown = await answer({ ...variables, SNAPSHOT_ETCD_CA_FILE: stranger.ca });
    t.match(unknown, {
      quorum: 'unknown',
      message: /Cannot determine whether.*not signed by the given CA/,
      hint: /--force/,
    });

    await cluster.loseMember('m1');
    await is('yes', 'one of three is down');
    await cluster.stopMember('m2');
    const [silent, another] = [await startSilentServer(t), await startSilentServer(t)];
    const named = (...endpoints: string[]): Variables => ({ SNAPSHOT_ETCD_ENDPOINTS: endpoints.join() });
    const thirdAgain = third.replace('127.0.0.1', 'localhost');
    // Asked on its own, so that the last one has noticed that its leader is gone when the others are asked.
    await is('no', 'two of three are down');
    await Promise.all([
      is('no', 'and nobody can log in', user),
      is('no', 'the others cannot be asked', named(third)),
      is('no', 'one that is silent is no majority of three', named(first, third, silent)),
      is('unknown', 'two that are silent are', named(third, silent, another)),
      is('unknown', 'one that answers is one, however often it is named', named(third, thirdAgain, silent, another)),
    ]);
    await cluster.stopMember('m3');
    await Promise.all([
      is('no', 'all are down'),
      is('unknown', 'one that is down is one, too', named(third, thirdAgain, silent, another)),
    ]);
  });
}

t.test('unknown is not the same as no', async (t) => {
  const withExpired = await FakeMember.start(async () => {}, '1', '1', [], { tls: expired });
  t.teardown(() => withExpired.stop());
  const files = (ca: string): Variables => ({
    SNAPSHOT_ETCD_CA_FILE: ca,
    SNAPSHOT_ETCD_CERT_FILE: authority.client.cert,
    SNAPSHOT_ETCD_KEY_FILE: authority.client.key,
  });
  const cases: Record<string, [Variables, RegExp]> = {
    'an expired certificate': [{ SNAPSHOT_ETCD_ENDPOINTS: withExpired.endpoint, ...files(expired.ca) }, /has expired/],
    'a firewall': [{ SNAPSHOT_ETCD_ENDPOINTS: await startSilentServer(t) }, /did not answer in time/],
    'a name that does not exist': [{ SNAPSHOT_ETCD_ENDPOINTS: 'http://nobody.invalid:2379' }, /cannot be resolved/],
  };
  await Promise.all(
    Object.entries(cases).map(async ([name, [variables, why]]) =>
      t.match(await answer(variables), { quorum: 'unknown', message: why, hint: /--force/ }, name),
    ),
  );
  const refused = { SNAPSHOT_ETCD_ENDPOINTS: `http://127.0.0.1:${await freePort()}` };
  t.equal((await answer(refused)).quorum, 'no', 'a refused connection');

  const target = join(dir, 'target');
  // Every version here restores it.
  const restore = ['restore', join(FIXTURES, 'etcd-3.4.23-k8s.snap'), '--data-dir', target, '--name', 'm1'];
  const tools = findEtcd().at(-1);
  const variables = { SNAPSHOT_ETCD_ENDPOINTS: await startSilentServer(t), ...(tools && withTools(tools)) };
  const worker = await runWorker(restore, variables);
  t.match(errorOf(worker), {
    exitCode: 20,
    message: /Cannot determine whether the cluster has quorum/,
    hint: /--force/,
  });
  const forced = await runWorker([...restore, '--force'], variables);
  t.equal(forced.code, 0, forced.stderr);
  await rm(target, { recursive: true });
});

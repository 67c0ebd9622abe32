import { join } from 'node:path';
import t from 'tap';
import { Connection } from '../../src/etcd/connection.ts';
import { snapshotPieces } from '../../src/etcd/snapshot-stream.ts';
import { Secret } from '../../src/secret.ts';
import { Azurite } from '../support/azurite.ts';
import { makeAuthority } from '../support/certificates.ts';
import { EtcdCluster, findEtcd } from '../support/etcd.ts';
import { runCommand } from '../support/command.ts';
import { temporaryFolder } from '../support/process.ts';
import { errorOf } from '../support/worker.ts';

const dir = temporaryFolder('auth');
const authority = await makeAuthority(join(dir, 'certs'));
const azurite = await Azurite.start(join(dir, 'azurite'));
t.teardown(async () => azurite.stop());
t.jobs = 2;

const ROOT = 'root-password-that-no-output-may-show';
const GUEST = 'guest-password-that-no-output-may-show';

async function enableAuthentication(cluster: EtcdCluster): Promise<void> {
  await cluster.etcdctl('user', 'add', `guest:${GUEST}`);
  await cluster.enableAuthentication(ROOT);
}

for (const tools of findEtcd()) {
  t.test(`etcd ${tools.version} with authentication`, async (t) => {
    const cluster = await EtcdCluster.start({ tools, dir: join(dir, tools.version) });
    t.teardown(async () => cluster.stop());
    await cluster.fill(10, 100);
    const container = `auth-${tools.version.replaceAll('.', '-')}`;
    const user = (name: string, password: string): Record<string, string> => ({
      ...cluster.variables,
      ...azurite.variables(container),
      SNAPSHOT_ETCD_USERNAME: name,
      SNAPSHOT_ETCD_PASSWORD: password,
      SNAPSHOT_LOG_LEVEL: 'debug',
    });
    const before = await runCommand([], user('root', ROOT));
    t.equal(before.code, 0, `a user where none is needed does no harm: ${before.stderr}`);
    await enableAuthentication(cluster);

    const ends = {
      good: await runCommand(['--json'], { ...user('root', ROOT), SNAPSHOT_BLOB_PREFIX: 'a/' }),
      wrong: await runCommand([], user('root', 'not the password')),
      guest: await runCommand([], user('guest', GUEST)),
      nobody: await runCommand([], { ...cluster.variables, ...azurite.variables(container) }),
    };
    t.equal(ends.good.code, 0, ends.good.stderr);
    for (const [who, message] of [
      ['wrong', /refused the user name or the password/],
      ['guest', /the user lacks the role root/],
      ['nobody', /authentication is enabled and no user is set/],
    ] as const) {
      t.equal(ends[who].code, 10, who);
      t.match(errorOf(ends[who]).message, message);
      t.match(errorOf(ends[who]).hint, who === 'wrong' ? /SNAPSHOT_ETCD_PASSWORD/ : /role root/);
    }
    for (const { stdout, stderr } of Object.values(ends)) t.notMatch(stdout + stderr, /that-no-output-may-show/);

    const connection = new Connection(cluster.endpoints, undefined, { name: 'root', password: new Secret(ROOT) });
    t.teardown(() => connection.close());
    await connection.status();
    // A restart forgets all tokens, as time does.
    await cluster.stopMember('m1');
    await cluster.startMember('m1', tools, false);
    let size = 0;
    for await (const piece of snapshotPieces(connection, new AbortController().signal)) size += piece.length;
    t.ok(size > 20_000, 'the token is renewed');
    t.equal(typeof (await connection.status()).version, 'string');
  });

  t.test(`etcd ${tools.version} with a client certificate for a user`, async (t) => {
    const cluster = await EtcdCluster.start({ tools, dir: join(dir, `tls-${tools.version}`), tls: authority });
    t.teardown(async () => cluster.stop());
    await enableAuthentication(cluster);
    const variables = { ...cluster.variables, ...azurite.variables(`tls-${tools.version.replaceAll('.', '-')}`) };
    const byName = await runCommand([], variables);
    t.equal(byName.code, 0, `its common name is root: ${byName.stderr}`);
    const user = { SNAPSHOT_ETCD_USERNAME: 'guest', SNAPSHOT_ETCD_PASSWORD: GUEST };
    const both = { ...variables, ...user, SNAPSHOT_BLOB_PREFIX: 'both/' };
    t.equal((await runCommand([], both)).code, 10, 'a user that is named counts more than the certificate');
  });
}

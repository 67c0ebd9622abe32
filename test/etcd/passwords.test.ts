import { join } from 'node:path';
import t, { type Test } from 'tap';
import { readConfig } from '../../src/config/config.ts';
import { makeAuthority } from '../support/certificates.ts';
import { FakeMember, type FakeOptions } from '../support/fake-etcd.ts';
import { temporaryFolder, type Variables } from '../support/process.ts';
import { errorOf, runWorker } from '../support/worker.ts';

const dir = temporaryFolder('passwords');
const authority = await makeAuthority(join(dir, 'certs'));
const stranger = await makeAuthority(join(dir, 'strange-certs'), 'another CA');

const PASSWORD = 'password-of-root';
const USER = { SNAPSHOT_ETCD_USERNAME: 'root', SNAPSHOT_ETCD_PASSWORD: PASSWORD };
const CERTIFICATES = {
  SNAPSHOT_ETCD_CA_FILE: authority.ca,
  SNAPSHOT_ETCD_CERT_FILE: authority.client.cert,
  SNAPSHOT_ETCD_KEY_FILE: authority.client.key,
};

async function member(t: Test, options: FakeOptions, members: readonly object[] = []): Promise<FakeMember> {
  const fake = await FakeMember.start(async () => {}, '1', '1', members, options);
  t.teardown(() => fake.stop());
  return fake;
}

/** Whom a command gives the password that is told of one member, while another one stands only in its list. */
async function given(
  t: Test,
  args: readonly string[],
  configured: FakeOptions,
  other: FakeOptions,
  env: Variables = {},
) {
  const advertised = await member(t, { ...other, memberId: '2' });
  const members = [
    { ID: '1', name: 'm1', clientURLs: [] },
    { ID: '2', name: 'm2', clientURLs: [advertised.endpoint], peerURLs: [advertised.endpoint] },
  ];
  const told = await member(t, configured, members);
  const variables = { ...CERTIFICATES, ...USER, SNAPSHOT_ETCD_ENDPOINTS: told.endpoint, ...env };
  const { stdout, stderr } = await runWorker(args, variables);
  t.notMatch(stdout + stderr, PASSWORD);
  t.strictSame([...new Set(told.passwords)], [PASSWORD], 'the configured endpoint');
  return advertised.passwords;
}

t.test(
  'the password goes to configured endpoints, and to those that prove themselves with the configured CA',
  async (t) => {
    const clear = {};
    const ours = { tls: authority };
    const theirs = { tls: stranger };
    // What Node itself and gRPC trust is not the configured CA.
    const trusting = { NODE_EXTRA_CA_CERTS: stranger.ca, GRPC_DEFAULT_SSL_ROOTS_FILE_PATH: stranger.ca };
    for (const args of [
      ['health'],
      ['replace-member', 'm2', '--dry-run', '--name', 'm3', '--peer-urls', 'https://10.0.0.9:2380', '--no-backup'],
    ]) {
      const to = async (configured: FakeOptions, other: FakeOptions, env?: Variables) =>
        given(t, args, configured, other, env);
      t.strictSame(await to(ours, clear), [], `${args[0]}: http beside https`);
      t.strictSame(await to(clear, clear), [], `${args[0]}: http beside http on loopback`);
      t.strictSame(await to(ours, theirs, trusting), [], `${args[0]}: another CA, beside https`);
      t.strictSame(await to(clear, theirs, trusting), [], `${args[0]}: another CA, where none is configured`);
      t.strictSame([...new Set(await to(ours, ours))], [PASSWORD], `${args[0]}: the configured CA`);
    }
  },
);

t.test('a password over http is refused, but on loopback', async (t) => {
  const faults = (endpoints: string): string => {
    try {
      readConfig({ ...USER, SNAPSHOT_ETCD_ENDPOINTS: endpoints }, { etcd: true, storage: false });
      return '';
    } catch (error) {
      return String(error);
    }
  };
  for (const open of [
    'http://10.0.0.5:2379',
    'https://10.0.0.5:2379,http://10.0.0.6:2379',
    'http://127.0.0.1.example.com:2379',
    'http://localhost.example.com:2379',
    'http://0.0.0.0:2379',
    'http://[fd00::5]:2379',
    'HTTP://etcd:2379',
  ]) {
    t.match(
      faults(open),
      /SNAPSHOT_ETCD_ENDPOINTS must begin with https:\/\/: the password must not be sent unencrypted to http:/,
      open,
    );
  }
  for (const closed of [
    'http://127.0.0.1:2379',
    'http://localhost:2379',
    'http://[::1]:2379',
    'https://10.0.0.5:2379',
  ]) {
    t.equal(faults(closed), '', closed);
  }
  const worker = await runWorker(['health'], { ...USER, SNAPSHOT_ETCD_ENDPOINTS: 'http://192.0.2.1:2379' });
  t.equal(worker.code, 2);
  t.notMatch(errorOf(worker).message, PASSWORD);
});

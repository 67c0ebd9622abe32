import { join } from 'node:path';
import t from 'tap';
import { readConfig } from '../../src/config/config.ts';
import { makeAuthority } from '../support/certificates.ts';
import { EtcdCluster, findEtcd } from '../support/etcd.ts';
import { FakeMember } from '../support/fake-etcd.ts';
import { temporaryFolder } from '../support/process.ts';
import { errorOf, runWorker } from '../support/worker.ts';

const dir = temporaryFolder('endpoints');
const authority = await makeAuthority(join(dir, 'certs'));

function read(value: string): readonly string[] | string {
  try {
    return readConfig({ SNAPSHOT_ETCD_ENDPOINTS: value }, { etcd: true, storage: false }).etcd?.endpoints ?? [];
  } catch (error) {
    return String(error);
  }
}

t.test('a wrong endpoint is named, with the reason', (t) => {
  const rule = 'an endpoint must be a URL that begins with http:// or https://: protocol, host and port only';
  for (const value of [
    ...['10.0.0.5:2379', 'https:10.0.0.5:2379', 'https//10.0.0.5:2379', 'unix:///run/etcd.sock', 'https://'],
    ...['https://fd00::5:2379', 'https://fd00::5', 'https://[fd00::5', 'https://[fd00::5%eth0]:2379'],
    ...['https://[fd00::zz]:2379', 'https://[1::2::3]:2379', 'https://10.0.0.5:99999', 'https://10.0.0.5:0'],
    ...['https://10.0.0.5:client', 'https://10.0.0.5:', 'https://10.0.0.5:2379;https://10.0.0.6:2379'],
    ...['https://10.0.0.5:2379 https://10.0.0.6:2379', 'https://10.0.0.5:2379\nhttps://10.0.0.6:2379'],
    ...['["https://10.0.0.5:2379"]', "['https://10.0.0.5:2379', 'https://10.0.0.6:2379']"],
    ...['m1=https://10.0.0.5:2379', 'https://10.0.0.5:2379/v3', 'https://10.0.0.5:2379?x=1', 'https://a b'],
    ...['https://10.0.0.300:2379', 'https://10.1:2379', 'https://010.0.0.5:2379', 'https://etcd_1!:2379'],
    ...['"https://a:1","https://b:1"', 'https://etcd-1:2379,etcd-2:2379'],
  ]) {
    t.match(read(value), 'one error: SNAPSHOT_ETCD_ENDPOINTS contains "', value);
    t.match(read(value), rule, value);
  }
  t.match(read('a:1,https://b:1,c'), /contains "a:1", "c": an endpoint/);
  const secret = read('https://root:hunter2@10.0.0.5:2379');
  t.match(secret, /"https:\/\/…@10.0.0.5:2379": an endpoint must be/);
  t.notMatch(secret, 'hunter2');
  t.notMatch(read('https://a:1?token=hunter2'), 'hunter2');
  t.ok(String(read(`https://${'a'.repeat(5_000)}/`)).length < 500);
  t.notMatch(read('x\u001b[31m://y'), '\u001b', 'and can be shown');
  for (const [value, origins] of Object.entries({
    'https://[fd00::5]:2379': ['https://[fd00::5]:2379'],
    'HTTPS://Etcd-1.example.com': ['https://etcd-1.example.com:2379'],
    'https://10.0.0.5:02379,https://10.0.0.5:2379/': ['https://10.0.0.5:2379'],
    'https://etcd_1:443': ['https://etcd_1:443'],
  })) {
    t.strictSame(read(value), origins, value);
  }
  t.end();
});

for (const tools of findEtcd()) {
  t.test(`etcd ${tools.version}: http for https, and https for http`, async (t) => {
    const [secured, plain] = await Promise.all([
      EtcdCluster.start({ tools, dir: join(dir, `tls-${tools.version}`), tls: authority }),
      EtcdCluster.start({ tools, dir: join(dir, tools.version) }),
    ]);
    t.teardown(async () => Promise.all([secured.stop(), plain.stop()]));
    const http = { SNAPSHOT_ETCD_ENDPOINTS: secured.endpoints.replace('https:', 'http:') };
    const https = { ...secured.variables, SNAPSHOT_ETCD_ENDPOINTS: plain.endpoints.replace('http:', 'https:') };
    t.match(errorOf(await runWorker(['health'], http)), {
      exitCode: 10,
      message: /the server seems to expect https\./,
      hint: /Write https:\/\//,
    });
    t.match(errorOf(await runWorker(['health'], https)), {
      exitCode: 10,
      message: /the server seems to expect http, without TLS/,
      hint: /Write http:\/\//,
    });
  });
}

t.test('answers of a member are bounded', async (t) => {
  const table: Record<string, [string, string]> = {
    long: ['9'.repeat(20_000), '9'.repeat(64)],
    'a line feed': ['3.5.0\r\nx-evil: 1', '3.5.0??x-evil??1'],
    'an escape': ['3.5.0\u001b[31m', '3.5.0??31m'],
    'not ASCII': ['3.5.ü', '3.5.?'],
    usual: ['3.5.0-rc.1+meta', '3.5.0-rc.1+meta'],
  };
  for (const [name, [version, expected]] of Object.entries(table)) {
    const errors = [`${'e'.repeat(20_000)}\u001b`, ...Array.from({ length: 500 }, () => 'memberID:1 alarm:NOSPACE')];
    const member = await FakeMember.start(async () => {}, '1', '1', undefined, {
      status: { version, errors, dbSize: '-5' },
    });
    t.teardown(() => member.stop());
    const { stdout, stderr } = await runWorker(['health', '--json'], { SNAPSHOT_ETCD_ENDPOINTS: member.endpoint });
    const [found] = (JSON.parse(stdout) as { members: { version: string; dbSize: number }[] }).members;
    t.match(found, { version: expected, dbSize: 0 }, name);
    t.ok(stdout.length + stderr.length < 30_000, `${name}: ${stdout.length + stderr.length} characters`);
    t.notMatch(stderr, '\u001b');
  }
});

import { chmodSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { parseCommandLine } from '../../src/cli.ts';
import { unknownVariables } from '../../src/config/config.ts';
import { Azurite } from '../support/azurite.ts';
import { makeAuthority } from '../support/certificates.ts';
import { EtcdCluster, findEtcd } from '../support/etcd.ts';
import { SNAPSHOT } from '../support/fixtures.ts';
import { without } from '../support/judges.ts';
import { MANIFESTS } from '../support/manifests.ts';
import { run, temporaryFolder } from '../support/process.ts';
import { noSystemd, runService } from '../support/systemd.ts';

const UNITS = join(MANIFESTS, 'systemd');
const SERVICES = ['node/etcd-snapshot', 'node/etcd-snapshot-import', 'podman/etcd-snapshot', 'docker/etcd-snapshot'];
const skip = without('systemd-analyze');
const dir = temporaryFolder('systemd');

function unitOf(name: string): string {
  return readFileSync(join(UNITS, name), 'utf8');
}

t.test('systemd accepts the units', { skip }, async (t) => {
  for (const name of SERVICES) {
    const place = join(dir, name);
    mkdirSync(place, { recursive: true });
    // The programs exist where the units are used.
    const program = join(place, 'program');
    writeFileSync(program, '');
    chmodSync(program, 0o755);
    const text = unitOf(`${name}.service`);
    const [folder = '', base = ''] = name.split('/');
    const unit = join(place, `${base}.service`);
    writeFileSync(unit, text.replaceAll(/^(Exec\w+=-?)\S+/gm, `$1${program}`).replace('Requires=docker.service\n', ''));
    writeFileSync(join(place, `${base}.timer`), unitOf(`${base}.timer`));
    const { code, stderr } = await run('systemd-analyze', ['verify', unit, join(place, `${base}.timer`)]);
    t.strictSame([code, stderr.replaceAll(/^(?!\/dev\/shm|\/tmp|etcd-).*\n/gm, '')], [0, ''], `${folder}/${base}`);
  }
  const spoilt = join(dir, 'etcd-snapshot-spoilt.service');
  writeFileSync(spoilt, unitOf('node/etcd-snapshot.service').replace('ProtectSystem=', 'ProtectSytem='));
  t.match((await run('systemd-analyze', ['verify', spoilt])).stderr, /Unknown key (name )?'ProtectSytem'/);
});

t.test('the services of the npm package have little to do with the host', { skip }, async (t) => {
  for (const name of SERVICES.filter((each) => each.startsWith('node/'))) {
    const unit = join(UNITS, `${name}.service`);
    const { code, stdout } = await run('systemd-analyze', ['security', '--offline=true', '--threshold=29', unit]);
    const [, exposure = '10'] = /exposure level for \S+: ([\d.]+)/.exec(stdout) ?? [];
    t.comment(`${name}: exposure ${exposure}`);
    t.ok(code === 0 && Number(exposure) < 3, `${name}: ${exposure}`);
  }
});

t.test('the timers run as the CronJob does, also what was missed', (t) => {
  for (const name of readdirSync(UNITS).filter((each) => each.endsWith('.timer'))) {
    t.match(unitOf(name), /^OnCalendar=00\/6:[03]0?$/m);
    t.match(unitOf(name), /^Persistent=true$/m);
    t.match(unitOf(name), /^RandomizedDelaySec=15min$/m);
  }
  t.end();
});

t.test('the worker understands what the units give it', (t) => {
  for (const name of SERVICES) {
    const text = unitOf(`${name}.service`).replaceAll('\\\n', '');
    const [, command = ''] = /^ExecStart=.*(?:etcd-snapshot|\$\{IMAGE\}) (\w+.*)$/m.exec(text) ?? [];
    t.doesNotThrow(() => parseCommandLine(command.split(' ')), command);
    const names = [...text.matchAll(/SNAPSHOT_\w+(?==)/g)].map(([variable]) => [variable, 'x']);
    t.strictSame(unknownVariables(Object.fromEntries(names)), [], name);
  }
  t.end();
});

t.test('backup and import under a real systemd', { skip: noSystemd }, async (t) => {
  const tools = findEtcd().at(-1);
  if (tools === undefined) throw new Error('no etcd');
  const authority = await makeAuthority(join(dir, 'certificates'));
  const [azurite, cluster] = await Promise.all([
    Azurite.start(join(dir, 'azurite')),
    EtcdCluster.start({ tools, dir: join(dir, 'etcd'), tls: authority }),
  ]);
  t.teardown(async () => Promise.all([azurite.stop(), cluster.stop()]));
  const { client } = authority;
  const variables = { SNAPSHOT_ETCD_ENDPOINTS: cluster.endpoints, ...azurite.variables('systemd') };
  const secrets = Object.entries(variables).map(([name, value]) => `${name}="${value}"\n`);
  const files = {
    'etc/etcd-snapshot/secrets.txt': secrets.join(''),
    'etc/etcd/pki/ca.crt': readFileSync(client.ca, 'utf8'),
    'etc/etcd/pki/client.crt': readFileSync(client.cert, 'utf8'),
    'etc/etcd/pki/client.key': readFileSync(client.key, 'utf8'),
  };
  const unit = unitOf('node/etcd-snapshot.service');
  const backup = await runService(join(dir, 'backup'), 'etcd-snapshot.service', unit, files);
  if (backup.result.startsWith('no systemd')) return void t.pass('it cannot be started here', { skip: backup.result });
  t.match(backup, { result: 'success', exitCode: 0, output: /uploaded successfully/ });
  t.notMatch(backup.output, /"level":"(warn|error)"/);
  t.equal((await azurite.names('systemd')).length, 1);

  const importing = unitOf('node/etcd-snapshot-import.service').replace(/^(ExecStart=.*)$/m, '$1 --cluster-id c1');
  const snapshots = { 'var/lib/rancher/k3s/server/db/snapshots/etcd-snapshot-m1-1767323045': SNAPSHOT };
  const imported = await runService(join(dir, 'import'), 'etcd-snapshot-import.service', importing, {
    ...files,
    ...snapshots,
  });
  t.match(imported, { result: 'success', output: /is stored as kubernetes-etcd-snapshot_20260102_030405.db/ });
  const failing = unit.replace('/etc/etcd/pki/client.key', '/etc/etcd/pki/ca.crt').replace(/^Restart=.*\n/m, '');
  const failed = await runService(join(dir, 'failing'), 'etcd-snapshot.service', failing, files);
  t.match(failed, { result: 'exit-code', exitCode: 2 });
});

t.test(
  'a service that fails is started four times in an hour, and then only after reset-failed',
  { skip: noSystemd },
  async (t) => {
    const unit = unitOf('node/etcd-snapshot.service')
      .replace(/^ExecStart=.*$/m, "ExecStart=/bin/sh -c 'echo failing; exit 12'")
      .replace(/^RestartSec=.*$/m, 'RestartSec=100ms')
      .replaceAll(/^(LoadCredential|EnvironmentFile)=.*\n/gm, '');
    const script = `wait_for() { until [ "$(grep -c failing /tmp/results/output)" = "$1" ] && systemctl is-failed --quiet etcd-snapshot.service; do sleep 0.1; done; }
systemctl start etcd-snapshot.service
wait_for 4
systemctl start etcd-snapshot.service || echo refused >>/tmp/results/output
systemctl reset-failed etcd-snapshot.service
systemctl start etcd-snapshot.service
wait_for 8
`;
    const { result, output } = await runService(join(dir, 'limit'), 'etcd-snapshot.service', unit, {}, script);
    if (result.startsWith('no systemd')) return void t.pass('it cannot be started here', { skip: result });
    t.equal(output, `${'failing\n'.repeat(4)}refused\n${'failing\n'.repeat(4)}`);
  },
);

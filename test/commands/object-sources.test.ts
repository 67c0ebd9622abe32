import { writeFileSync } from 'node:fs';
import { copyFile, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { startBackupSite, writeIdentity } from '../support/backup-site.ts';
import { jsonOf, runCommand } from '../support/command.ts';
import { EtcdCluster, findEtcd } from '../support/etcd.ts';
import { clusterSnapshot, liveValues } from '../support/object-fixtures.ts';
import { temporaryFolder } from '../support/process.ts';
import { OBJECTS } from '../support/stored-objects.ts';

const config = join(OBJECTS, 'encryption.json');
const values = liveValues(clusterSnapshot());

interface Listing {
  readonly objects: readonly object[];
  readonly unreadable: readonly object[];
}

async function fill(etcd: EtcdCluster): Promise<void> {
  const puts = values.map(({ key, value }) => ({
    request_put: { key: key.toString('base64'), value: value.toString('base64') },
  }));
  for (let at = 0; at < puts.length; at += 100) {
    await etcd.gateway('/v3/kv/txn', { success: puts.slice(at, at + 100) });
  }
}

const dir = temporaryFolder('object-sources');
const file = join(dir, 'cluster.db');
writeFileSync(file, clusterSnapshot());
const listed = await jsonOf<Listing>(['inspect', file, '--objects', '--encryption-config', config], {});

for (const tools of findEtcd()) {
  t.test(`the same objects in a snapshot of etcd ${tools.version}`, async (t) => {
    const etcd = await EtcdCluster.start({ tools, dir: join(dir, tools.version) });
    t.teardown(async () => etcd.stop());
    await fill(etcd);
    const snapshot = join(dir, `${tools.version}.db`);
    await etcd.etcdctl('snapshot', 'save', snapshot);
    t.strictSame(await jsonOf<Listing>(['inspect', snapshot, '--objects', '--encryption-config', config], {}), listed);
  });
}

t.test('the bundle of a stored snapshot has the keys of its Secrets', async (t) => {
  const { dir: site, cluster, variablesOf } = await startBackupSite(t, 'object-sources');
  await fill(cluster);
  const [key, bundled] = [join(site, 'key.txt'), join(site, 'bundled')];
  const { recipient } = await writeIdentity(key);
  await mkdir(bundled);
  await copyFile(config, join(bundled, 'encryption.json'));
  const variables = variablesOf('object-sources');
  const sealed = { SNAPSHOT_ENCRYPTION_RECIPIENTS: recipient, SNAPSHOT_COMPRESSION: 'zstd', SNAPSHOT_BUNDLE: bundled };
  const { name } = await jsonOf<{ name: string }>(['backup'], { ...variables, ...sealed });
  t.strictSame(await jsonOf<Listing>(['inspect', name, '--objects', '--identity', key], variables), listed);
  const extracted = await runCommand(
    ['extract', name, '-n', 'default', '--kind', 'Secret', '-o', '-', '--identity', key],
    variables,
  );
  t.equal(extracted.code, 0, extracted.stderr);
  for (const provider of ['aescbc', 'aesgcm', 'secretbox']) {
    t.match(extracted.stdout, `password: ${Buffer.from(provider).toString('base64')}`);
  }
});

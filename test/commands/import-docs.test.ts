import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { startBackupSite } from '../support/backup-site.ts';
import { type DocsPage, docsPage } from '../support/docs-page.ts';
import { SNAPSHOT } from '../support/fixtures.ts';
import { Host } from '../support/host.ts';
import { without } from '../support/judges.ts';
import { MANIFESTS } from '../support/manifests.ts';
import { noNamespaces } from '../support/namespace.ts';
import { nextSecond } from '../support/until.ts';
import { zipOf } from '../support/zip.ts';

/* Every command of docs/k3s-rke2.md and docs/without-kubernetes.md, as it is written there. */

const skip = noNamespaces ?? (['jq', 'systemd-analyze'].map(without).find((why) => why !== false) || false);
const { dir, cluster, variablesOf } = await startBackupSite(t, 'import-docs');

/** What the service manager and the engine are asked for; the engine runs the worker, and `journalctl` shows nothing. */
const PROGRAMS = {
  systemctl: '#!/bin/sh\necho "$@" >>"$HOST_DIR/systemctl.txt"\n',
  journalctl: '#!/bin/sh\n',
  docker: '#!/bin/sh\nwhile [ "${1#registry.example.com/}" = "$1" ]; do shift; done\nshift\nexec etcd-snapshot "$@"\n',
};

/** A server of k3s with its snapshots, and a clone of this repository. */
async function server(name: string) {
  const disk = join(dir, name, 'k3s');
  const snapshots = join(disk, 'k3s/server/db/snapshots');
  await mkdir(snapshots, { recursive: true });
  const host = await Host.make(join(dir, name, 'host'), {
    disks: { '/var/lib/rancher': disk },
    files: { 'systemd/system/README': '' },
    programs: PROGRAMS,
    variables: variablesOf(name),
  });
  await symlink(MANIFESTS, join(host.dir, 'manifests'));
  await writeFile(join(host.dir, 'etcd-snapshot-secrets.txt'), 'SNAPSHOT_KEEP_LAST=28\n');
  const shell = async (commands: string): Promise<string> => {
    const { code, stdout, stderr } = await host.shell(`set -e\n${commands}`);
    if (code !== 0) throw new Error(`${commands} ended with ${code}: ${stderr}`);
    return stdout;
  };
  return { host, snapshots, shell };
}

const units = async (host: Host): Promise<string[]> => readdir(join(host.dir, 'etc/systemd/system'));

function allUsed(t: { strictSame: (found: unknown, wanted: unknown) => void }, { unused }: DocsPage): void {
  t.strictSame([...unused], []);
}

t.test('docs/k3s-rke2.md', { skip }, async (t) => {
  const page = docsPage('k3s-rke2.md');
  const { host, snapshots, shell } = await server('k3s');
  const [byHand = '', withImage = '', away = ''] = page.blocksOf('Import by hand');
  await cluster.fill(10, 500);
  await cluster.etcdctl('snapshot', 'save', join(snapshots, 'etcd-snapshot-server1-1767323045'));
  const imported = await shell(byHand);
  t.match(imported, /is stored as kubernetes-etcd-snapshot_20260102_030405\.db/);
  t.match(imported, /1 snapshot of this cluster/, 'the id of the cluster comes from etcd');
  t.match(await shell(withImage), /is skipped/);
  await writeFile(
    join(host.dir, 'on-demand-server1-1767323045.zip'),
    zipOf([{ name: 'on-demand', content: SNAPSHOT }]),
  );
  t.match(await shell(away), /is stored as kubernetes-etcd-snapshot_20260102_030406\.db/);

  const [dated = ''] = page.blocksOf('The time of a snapshot');
  await writeFile(join(host.dir, 'db.snapshot'), SNAPSHOT);
  t.match(await shell(dated), /is skipped/, 'it is the same snapshot');
  const [id = ''] = page.blocksOf('The cluster of a snapshot');
  t.match(await shell(id), /^[0-9a-f]{8,16}\n$/);

  const [timer = ''] = page.blocksOf('Regular imports');
  await shell(timer);
  t.match(await units(host), ['README', 'etcd-snapshot-import.service', 'etcd-snapshot-import.timer']);
  t.match(await readFile(join(host.dir, 'systemctl.txt'), 'utf8'), 'enable --now etcd-snapshot-import.timer');
  allUsed(t, page);
});

t.test('docs/without-kubernetes.md', { skip }, async (t) => {
  const page = docsPage('without-kubernetes.md');
  const { host, shell } = await server('plain');
  await shell('etcd-snapshot backup');
  await nextSecond();
  const [copy = '', kubeadm = '', start = ''] = page.blocksOf('Install');
  await shell(copy);
  t.strictSame(await units(host), ['README', 'etcd-snapshot.service', 'etcd-snapshot.timer']);
  await shell(kubeadm);
  const unit = await readFile(join(host.dir, 'etc/systemd/system/etcd-snapshot.service'), 'utf8');
  for (const file of ['ca.crt', 'healthcheck-client.crt', 'healthcheck-client.key']) {
    t.match(unit, new RegExp(`^LoadCredential=\\S+:/etc/kubernetes/pki/etcd/${file}$`, 'm'));
  }
  await shell(start);
  const [podman = ''] = page.blocksOf('With podman or Docker');
  await shell(podman);
  t.match(await readFile(join(host.dir, 'etc/systemd/system/etcd-snapshot.service'), 'utf8'), '/usr/bin/podman run');
  const [watch = ''] = page.blocksOf('Run and watch');
  await shell(watch);
  t.match(await readFile(join(host.dir, 'systemctl.txt'), 'utf8'), 'start etcd-snapshot.service');
  const [security = ''] = page.blocksOf('What the service can do');
  const [, rating = ''] = /systemd-analyze security` rates it ([\d.]+)/.exec(page.text) ?? [];
  t.match(await shell(security), `exposure level for etcd-snapshot.service: ${rating} OK`);
  allUsed(t, page);
});

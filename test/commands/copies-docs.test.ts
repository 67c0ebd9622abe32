import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { Azurite } from '../support/azurite.ts';
import { startBackupSite } from '../support/backup-site.ts';
import { jsonOf } from '../support/command.ts';
import { Host } from '../support/host.ts';
import { noNamespaces } from '../support/namespace.ts';
import type { Variables } from '../support/process.ts';

/* Every command of docs/copies.md, and of docs/operations.md about the second copy, as it is written there. */

const skip = noNamespaces ?? false;
const { dir, azurite, cluster, variablesOf } = await startBackupSite(t, 'copies-docs');
await cluster.fill(50, 500);
const second = await Azurite.start(join(dir, 'second'));
t.teardown(async () => second.stop());

const page = await readFile(join(import.meta.dirname, '..', '..', 'docs', 'copies.md'), 'utf8');
const unused = new Set([...page.matchAll(/^```sh\n([^]*?)^```$/gm)].map(([, commands = '']) => commands));

/** The only block of commands of a chapter. */
function blockOf(heading: string): string {
  const from = page.indexOf(`\n## ${heading}\n`);
  const [, block = ''] = /```sh\n([^]*?)^```$/m.exec(page.slice(from)) ?? [];
  if (!unused.delete(block)) throw new Error(`${heading} has no block of its own`);
  return block;
}

/** The variables of the second place that the page does not name. */
const SECOND: Variables = { SNAPSHOT_COPY_AZURE_BLOB_ENDPOINT: second.url };

t.test('from the first copy to a restore', { skip }, async (t) => {
  const variables = { ...variablesOf('my-cluster'), ...SECOND };
  const host = await Host.make(join(dir, 'host'), { disks: {}, files: {}, variables });
  const shell = async (commands: string, expected = 0): Promise<string> => {
    const { code, stdout, stderr } = await host.shell(`set -e\n${commands}`);
    if (code !== expected) throw new Error(`${commands} ended with ${code}: ${stderr}`);
    return stdout;
  };
  await shell('etcd-snapshot backup');
  const [first = ''] = await azurite.names('my-cluster');
  const setUp = blockOf('Set up').replace('secondbackups', second.account).replace('…', second.key);
  t.match(await shell(setUp), `${first} was copied`);
  const exported = setUp.replace(/^etcd-snapshot copy\n/m, '');

  await shell(`${exported}sleep 1\n${blockOf('After each backup')}`);
  const copies = (await second.names('my-cluster')).filter((name) => !name.startsWith('etcd-snapshot-copies/'));
  t.strictSame(copies, await azurite.names('my-cluster'));
  t.equal(copies.length, 2);

  const [list = '', verify = '', drill = '', plan = ''] = blockOf('Use the copy').split(/(?<=\n)/);
  t.match(await shell(exported + list), first);
  t.match(await shell(exported + verify.replace('NAME', first)), `${first} is valid`);
  t.match(await shell(exported + drill), 'restorable');
  const how = ' --force --layout kubeadm';
  t.match(await shell(exported + plan.trim() + how), /etcd-snapshot restore .* --from-copy/);
  t.match(await shell(`${exported}${blockOf('Retention')}`), 'this cluster has 2 left');
  await shell(exported + blockOf('When it ends with 11').replaceAll('NAME', first));

  const secret = blockOf('As a CronJob');
  t.match(secret, 'etcd-snapshot-azure-blob-copy-secrets', 'test/manifests tests the component');
  t.strictSame([...unused], [], 'no command of the page is left out');
});

t.test('the second copy at 3 a.m.', { skip }, async (t) => {
  const operations = await readFile(join(import.meta.dirname, '..', '..', 'docs', 'operations.md'), 'utf8');
  const [, section = ''] = /^## The second copy at 3 a\.m\.\n([^]*?)^## /m.exec(operations) ?? [];
  const blocks = [...section.matchAll(/^ {3}```sh\n([^]*?)^ {3}```$/gm)].map(([, text = '']) => text);
  const [doctor = '', copy = '', suspend = '', restore = '', back = '', ...others] = blocks;
  t.strictSame(others, []);
  t.match(suspend, 'etcd-snapshot-azure-blob-prune', 'it needs a cluster');

  const first = variablesOf('lost');
  const copyOf = (variables: Variables): Variables => {
    const own = Object.entries(variables).filter(([name]) => /^SNAPSHOT_(AZURE|BLOB)_/.test(name));
    return Object.fromEntries(own.map(([name, value]) => [name.replace('SNAPSHOT_', 'SNAPSHOT_COPY_'), value]));
  };
  const elsewhere = second.variables('lost');
  const at3 = { ...first, ...copyOf(elsewhere) };
  const { name } = await jsonOf<{ name: string }>(['backup'], at3);
  const host = await Host.make(join(dir, 'night'), { disks: {}, files: {}, variables: at3 });
  const lagging = await host.shell(doctor);
  t.match(lagging.stdout, /^ *ok +newest snapshot/m);
  t.match(lagging.stdout, /^ *warn +cop(y|ies)\b/m, 'it says that the second place lacks it');
  const copied = await host.shell(copy);
  t.equal(copied.code, 0, copied.stderr);
  t.match(copied.stdout, 'none is missing');

  await azurite.container('lost').delete();
  const [list = '', plan = ''] = restore.split(/(?<=\n)/);
  t.match((await host.shell('etcd-snapshot list')).code, 12);
  t.match((await host.shell(list)).stdout, name);
  t.match((await host.shell(`${plan.trim()} --force --layout kubeadm`)).stdout, '--from-copy');

  const fresh = { ...azurite.variables('fresh') };
  const exchanged = Object.entries({ ...elsewhere, ...copyOf(fresh) }).map(([key, value]) => `${key}=${value}\n`);
  const clean = await Host.make(join(dir, 'clean'), { disks: {}, files: {}, variables: {} });
  await writeFile(join(clean.dir, 'exchanged.env'), exchanged.join(''), { mode: 0o600 });
  const returned = await clean.shell(back);
  t.equal(returned.code, 0, returned.stderr);
  t.strictSame(
    (await azurite.names('fresh')).filter((each) => each.startsWith('kubernetes')),
    [name],
  );
});

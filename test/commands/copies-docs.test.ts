import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { Azurite } from '../support/azurite.ts';
import { startBackupSite } from '../support/backup-site.ts';
import { Host } from '../support/host.ts';
import { noNamespaces } from '../support/namespace.ts';
import type { Variables } from '../support/process.ts';

/* Every command of docs/copies.md, as it is written there. */

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
  t.strictSame(await second.names('my-cluster'), await azurite.names('my-cluster'));
  t.equal((await second.names('my-cluster')).length, 2);

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

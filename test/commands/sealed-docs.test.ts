import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { generateIdentity } from '../../src/sealed/age-header.ts';
import { startBackupSite } from '../support/backup-site.ts';
import { docsPage } from '../support/docs-page.ts';
import { restoreAndCount } from '../support/etcd.ts';
import { Host, type HostOptions } from '../support/host.ts';
import { without } from '../support/judges.ts';
import { noNamespaces } from '../support/namespace.ts';
import { mustRun } from '../support/process.ts';

/* Every command of docs/sealed-snapshots.md, as it is written there. */

interface Listed {
  readonly name: string;
  readonly sha256: string;
  readonly liveKeys: number;
  readonly recipients?: readonly string[];
  readonly bundleKeys?: { readonly cas: readonly string[] };
}

/** What names on the page have for the time. */
const EXAMPLE = 'kubernetes-etcd-snapshot_20260102_030405';

const skip = noNamespaces ?? (['age', 'zstd', 'openssl', 'jq'].map(without).find((why) => why !== false) || false);
const { dir, tools, azurite, cluster, variablesOf } = await startBackupSite(t, 'sealed-docs');
await cluster.fill(50, 500);

const { text: page, blocksOf, unused } = docsPage('sealed-snapshots.md');

/** Commands in the text. `age -p` needs a terminal: test/sealed/passphrase.test.ts runs it. */
const INLINE = new Set(
  [...page.matchAll(/`((?:age|zstd|printf|openssl|etcd-snapshot|etcdutl) [^`]+)`/g)].map(([, command = '']) => command),
);
INLINE.delete('age -p -o identity.age keys/identity.txt');

/** What the page says of etcd 3.4. */
const OLD_TOOL = 'ETCDCTL_API=3 etcdctl';
t.ok(page.includes(`\`${OLD_TOOL}\``));

function inline(command: string): string {
  if (!INLINE.delete(command)) throw new Error(`the page does not have: ${command}`);
  return command;
}

/** A host with a container of its own, where commands run as they are written. */
async function site(name: string, options: Partial<HostOptions> = {}) {
  const variables = variablesOf(name);
  const host = await Host.make(join(dir, name), { disks: {}, files: {}, variables, ...options });
  const shell = async (commands: string): Promise<string> => {
    const { code, stdout, stderr } = await host.shell(`set -e\n${commands}`);
    if (code !== 0) throw new Error(`${commands} ended with ${code}: ${stderr}`);
    return stdout;
  };
  const list = async (): Promise<Listed[]> => JSON.parse(await shell('etcd-snapshot list --json')) as Listed[];
  /** Replaces the name of the page with that of the first snapshot, and downloads the blobs. */
  const named = async (commands: string): Promise<string> => {
    const [first] = (await list()).toReversed();
    const stem = first?.name.replace(/\.db.*/, '') ?? '';
    for (const blob of (await azurite.names(name)).filter((each) => each.startsWith(stem))) {
      await azurite.container(name).getBlobClient(blob).downloadToFile(join(host.dir, blob));
    }
    return commands.replaceAll(EXAMPLE, stem);
  };
  const path = (file: string): string => join(host.dir, file);
  return { path, shell, list, named };
}

t.test('compression', { skip }, async (t) => {
  const { path, shell, list, named } = await site('compression');
  const [backup = ''] = blocksOf('Compression');
  t.match(await shell(backup), 'uploaded successfully');
  const [snapshot] = await list();
  await shell(await named(inline(`zstd -d <${EXAMPLE}.db.zst >snapshot.db`)));
  t.match(await mustRun('sha256sum', [path('snapshot.db')]), snapshot?.sha256 ?? '?');
});

t.test('encryption, from the keys to the restore on a bare machine', { skip }, async (t) => {
  const { path, shell, list, named } = await site('encryption');
  const [keys = '', backup = '', drill = ''] = blocksOf('Encryption');
  await shell(keys);
  t.match(await shell(backup), 'uploaded successfully');
  const [snapshot] = await list();
  t.match(await shell(drill), snapshot?.name ?? '?');

  const recipient = (await readFile(path('keys/recipient.txt'), 'utf8')).trim();
  const fingerprint = await shell(inline('printf %s age1… | sha256sum').replace('age1…', recipient));
  t.equal(snapshot?.recipients?.[0], fingerprint.slice(0, 16));
  await shell(inline('etcd-snapshot keygen keys --post-quantum').replace('keys', 'quantum'));
  t.match(await readFile(path('quantum/recipient.txt'), 'utf8'), /^age1pq1/);

  const [rewrap = ''] = blocksOf('Rewrap');
  t.match(await shell(await named(rewrap)), snapshot?.name.replace('.db', '-r2.db') ?? '?');
  const [restore = ''] = blocksOf('Restore on a bare machine');
  const isOld = !tools.snapshotTool.endsWith('etcdutl');
  await shell(await named(isOld ? restore.replace(/^etcdutl /m, `${OLD_TOOL} `) : restore));
  t.equal(await restoreAndCount(tools, path('snapshot.db'), path('again')), snapshot?.liveKeys);
});

t.test('signatures, also verified by hand', { skip }, async (t) => {
  // It shows what the Azure CLI would.
  const az = '#!/bin/sh\ncat "$HOST_DIR/of-the-blob.json"\n';
  const { path, shell, list, named } = await site('signatures', { programs: { az } });
  const [sign = ''] = blocksOf('Signatures');
  t.match(await shell(sign), /signed by [0-9a-f]{16}: 1 snapshot/);
  const [snapshot] = await list();
  const { metadata } = await azurite
    .container('signatures')
    .getBlobClient(snapshot?.name ?? '')
    .getProperties();
  await writeFile(path('of-the-blob.json'), JSON.stringify(metadata));
  await shell('cp keys/*.pem .');
  const [byHand = ''] = blocksOf('Verify a signature by hand');
  t.match(await shell(await named(byHand)), 'Signature Verified Successfully');
  const publicKey = await shell(inline('openssl pkey -in signing.pem -pubout'));
  t.equal(publicKey, await readFile(path('verification.pem'), 'utf8'));
});

t.test('the bundle, and a restore that compares the keys', { skip }, async (t) => {
  const disk = join(dir, 'disk');
  await mkdir(disk);
  await mustRun('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', '/CN=kubernetes'],
    ...['-keyout', join(dir, 'ca.key'), '-out', join(dir, 'ca.crt')],
  ]);
  const member = '{ name: etcd, command: [etcd, --name=m1, --data-dir=/var/lib/etcd] }';
  const files = {
    'kubernetes/pki/ca.crt': await readFile(join(dir, 'ca.crt'), 'utf8'),
    'kubernetes/pki/ca.key': await readFile(join(dir, 'ca.key'), 'utf8'),
    'kubernetes/manifests/etcd.yaml': `kind: Pod\nspec:\n  containers:\n    - ${member}\n`,
    'kubernetes/manifests/kube-apiserver.yaml': 'kind: Pod\n',
    'kubernetes/admin.conf': 'kind: Config\n',
    'kubernetes/enc/config.yaml': await readFile(
      join(import.meta.dirname, '..', 'fixtures', 'encryption-config.yaml'),
      'utf8',
    ),
  };
  const { path, shell, list, named } = await site('bundle', { disks: { '/var/lib/etcd': disk }, files });
  const identity = await generateIdentity('x25519');
  await writeFile(path('key.txt'), identity.secret.reveal());

  const [block = ''] = blocksOf('The bundle');
  const [backup = '', ...use] = block.split(/(?<=\n)/);
  t.match(await shell(backup.replace('age1…', identity.recipient)), 'uploaded successfully');
  const [snapshot] = await list();
  t.match(await shell(await named(use.join(''))), 'etc/kubernetes/pki/ca.key');
  t.equal(await readFile(path('keys/etc/kubernetes/pki/ca.key'), 'utf8'), files['kubernetes/pki/ca.key']);

  const [hash = '', restore = ''] = blocksOf('Compare the keys before a restore');
  t.equal(snapshot?.bundleKeys?.cas[0], (await shell(hash)).slice(0, 64));
  const asLost = 'unset SNAPSHOT_ETCD_ENDPOINTS; export SNAPSHOT_ENCRYPTION_IDENTITY_FILE=key.txt';
  await shell(`${asLost}\n${restore.replace('NAME', snapshot?.name ?? '')}`);
  t.match(await mustRun('ls', [disk]), 'restored');
  const [without = ''] = blocksOf('Read a bundle without this program');
  t.match(await shell(await named(without)), 'etc/kubernetes/pki/ca.crt');
});

t.test('no command of the page is left out', { skip }, (t) => {
  t.strictSame([...unused], []);
  t.strictSame([...INLINE], []);
  t.end();
});

import { chmod, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { pack, unpack } from '../../src/bundle/archive.ts';
import { encryptionConfigIn, listedPaths } from '../../src/bundle/bundle-paths.ts';
import { changedBetween, collectFiles, digestsOf } from '../../src/bundle/collect-files.ts';
import { encryptionKeysIn } from '../../src/bundle/encryption-config.ts';
import { mustRun, temporaryFolder } from '../support/process.ts';

const dir = temporaryFolder('collect');
const pki = join(dir, 'pki');
await mkdir(join(pki, 'etcd'), { recursive: true });
await writeFile(join(dir, 'outside'), 'secret');
await writeFile(join(pki, 'ca.crt'), 'ca');
await chmod(join(pki, 'ca.crt'), 0o640);
await writeFile(join(pki, 'etcd/ca.key'), 'key');
await symlink(join(pki, 'etcd/ca.key'), join(pki, 'absolute'));
await symlink('etcd/../ca.crt', join(pki, 'relative'));
await symlink('../outside', join(pki, 'leaving'));
await symlink('nowhere', join(pki, 'dangling'));
await symlink('..', join(pki, 'parent'));
await symlink(pki, join(dir, 'alias'));
await mustRun('mkfifo', [join(pki, 'fifo')]);
const server = createServer().listen(join(pki, 'socket'));
t.teardown(() => server.close());

const listed = (path: string, isOptional = false) => ({ path, isOptional });
const inside = (path: string): string => join(pki, path).slice(1);

t.test('files, directories and inner links are collected, everything else is named', async (t) => {
  const { entries, missing, skipped } = await collectFiles([listed(pki), listed('/dev/null'), listed(join(dir, 'no'))]);
  t.match(entries, [
    { path: inside(''), type: 'Directory' },
    { path: inside('absolute'), target: 'etcd/ca.key' },
    { path: inside('ca.crt'), mode: 0o640, content: Buffer.from('ca') },
    { path: inside('etcd'), type: 'Directory' },
    { path: inside('etcd/ca.key') },
    { path: inside('relative'), target: 'ca.crt' },
  ]);
  t.equal(entries.length, 6);
  t.strictSame(missing, [{ path: join(dir, 'no'), why: 'does not exist' }]);
  t.strictSame(
    new Map(skipped.map(({ path, why }) => [path.replace(`${pki}/`, ''), why])),
    new Map([
      ['dangling', 'is a link that leads nowhere'],
      ['fifo', 'is a FIFO'],
      ['leaving', 'is a link that leaves the listed paths'],
      ['parent', 'is a link that leaves the listed paths'],
      ['socket', 'is a socket'],
      ['/dev/null', 'is a device'],
    ]),
  );
  t.strictSame((await collectFiles([listed(join(dir, 'no'), true)])).missing, []);
});

t.test(
  'a listed link is followed, overlapping paths are stored once, and a link between two listed paths is kept',
  async (t) => {
    const { entries } = await collectFiles([listed(join(dir, 'alias'))]);
    t.match(entries, [{ path: join(dir, 'alias').slice(1) }, { target: 'etcd/ca.key' }]);
    const both = await collectFiles([listed(join(dir, 'outside')), listed(pki), listed(join(pki, 'ca.crt'))]);
    t.equal(both.entries.filter(({ path }) => path.endsWith('ca.crt')).length, 1);
    t.match(
      both.entries.find(({ path }) => path.endsWith('leaving')),
      { target: '../outside' },
    );
  },
);

t.test('listed links within listed directories, and listed paths through links', async (t) => {
  const [tree, away] = [join(dir, 'tree'), join(dir, 'away')];
  await mkdir(join(tree, 'real'), { recursive: true });
  await mkdir(away);
  await writeFile(join(away, 'config'), 'config');
  await writeFile(join(tree, 'real/key'), 'key');
  await symlink(join(away, 'config'), join(tree, 'config'));
  await symlink('real', join(tree, 'link'));
  const { entries, skipped } = await collectFiles(
    [tree, join(tree, 'config'), join(tree, 'link/key')].map((path) => listed(path)),
  );
  const found = new Map(entries.map(({ path, type, content }) => [path, [type, content.toString()]]));
  t.strictSame(found.get(join(tree, 'config').slice(1)), ['File', 'config']);
  t.strictSame(found.get(join(tree, 'real/key').slice(1)), ['File', 'key']);
  t.strictSame(found.get(join(tree, 'link/key').slice(1)), ['File', 'key']);
  t.notOk(found.has(join(tree, 'link').slice(1)), 'no link has something below it');
  t.strictSame(skipped, []);
  t.strictSame(await unpack('x', [...pack(entries)]), entries);
});

t.test('what has changed is found', async (t) => {
  const files = join(dir, 'changing');
  await mkdir(files);
  for (const name of ['same', 'content', 'mode', 'gone']) await writeFile(join(files, name), 'a');
  const before = digestsOf(await collectFiles([listed(files)]));
  await writeFile(join(files, 'content'), 'b');
  await chmod(join(files, 'mode'), 0o600);
  await mustRun('rm', [join(files, 'gone')]);
  await writeFile(join(files, 'new'), 'a');
  const after = digestsOf(await collectFiles([listed(files)]));
  const changed = ['content', 'gone', 'mode', 'new'].map((name) => join(files, name).slice(1));
  t.strictSame(changedBetween(before, after), changed);
  await writeFile(join(files, 'large'), Buffer.alloc(17 * 2 ** 20));
  await t.rejects(collectFiles([listed(files)]), /more than 16777216 bytes/);
});

t.test('the paths of layouts', async (t) => {
  const paths = async (...items: string[]): Promise<string[]> => (await listedPaths(items)).map(({ path }) => path);
  t.match(await listedPaths(['k3s']), [
    { path: '/etc/rancher/k3s', isOptional: true },
    { path: '/var/lib/rancher/k3s/agent/pod-manifests', isOptional: true },
    { path: '/var/lib/rancher/k3s/server/agent-token', isOptional: true },
    { path: '/var/lib/rancher/k3s/server/cred', isOptional: false },
    { path: '/var/lib/rancher/k3s/server/tls', isOptional: false },
    { path: '/var/lib/rancher/k3s/server/token', isOptional: false },
  ]);
  const kubeadm = await paths('kubeadm', '/etc/extra/../more');
  for (const path of ['/etc/kubernetes/pki', '/etc/kubernetes/admin.conf', '/etc/more']) t.ok(kubeadm.includes(path));
  t.ok((await paths('aks-engine')).includes('/etc/kubernetes/certs'));
  t.ok((await paths('rke2')).includes('/var/lib/rancher/rke2/server/token'));
});

t.test('the encryption configuration is found through the manifest of the API server', async (t) => {
  const manifest = (command: string): string => `
apiVersion: v1
kind: Pod
spec:
  containers:
    - command: [kube-apiserver, ${command}]
      volumeMounts: [{ mountPath: /enc, name: enc }, { mountPath: /, name: none }]
  volumes: [{ name: enc, hostPath: { path: /etc/kubernetes/enc } }]
`;
  const flag = '--encryption-provider-config';
  t.equal(encryptionConfigIn(manifest(`${flag}=/enc/config.yaml`)), '/etc/kubernetes/enc/config.yaml');
  t.equal(encryptionConfigIn(manifest(`${flag}, /enc/config.yaml`)), '/etc/kubernetes/enc/config.yaml');
  t.equal(encryptionConfigIn(manifest(`${flag}=/elsewhere.yaml`)), '/elsewhere.yaml');
  for (const text of [manifest('--v=2'), manifest(`${flag}=relative`), '', '[', 'a: b', 'null', '"spec"']) {
    t.equal(encryptionConfigIn(text), undefined, text);
  }
});

t.test('the keys of an encryption configuration, in their order', async (t) => {
  const text = await readFile(join(import.meta.dirname, '..', 'fixtures', 'encryption-config.yaml'), 'utf8');
  t.strictSame(encryptionKeysIn(text), [
    { provider: 'aescbc', version: 'v1', name: 'key2', secret: 'c2VjcmV0IGlzIHNlY3VyZSwgb3IgaXMgaXQ/PT09PT0=' },
    { provider: 'aescbc', version: 'v1', name: 'key1', secret: 'c2VjcmV0IGlzIHNlY3VyZSwgSSB0aGluaz09PT09PT0=' },
    { provider: 'kms', version: 'v2', name: 'vault', secret: undefined },
    { provider: 'identity', version: '', name: '', secret: undefined },
  ]);
  t.strictSame(encryptionKeysIn(JSON.stringify({ kind: 'EncryptionConfig', resources: 'x' })), []);
  for (const other of ['', 'kind: Pod', '{', 'kind: EncryptionConfigurations']) {
    t.equal(encryptionKeysIn(other), undefined, other);
  }
});

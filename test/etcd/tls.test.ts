import { generateKeyPairSync } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import t from 'tap';
import { findLayout } from '../../src/etcd/layouts.ts';
import { certificateWarnings, loadTls } from '../../src/etcd/tls.ts';
import { makeAuthority } from '../support/certificates.ts';
import { temporaryFolder } from '../support/process.ts';

const dir = temporaryFolder('tls');
const authority = await makeAuthority(join(dir, 'certs'));
const now = new Date();
const DAY = 86_400_000;

t.test('a good set loads, and is far from its end', async (t) => {
  const credentials = await loadTls(authority.client, now);
  t.ok(credentials.key.includes('PRIVATE KEY'));
  t.strictSame(certificateWarnings(credentials, now), []);
});

t.test('certificates near and past their end', async (t) => {
  const credentials = await loadTls(authority.client, now);
  const warnings = certificateWarnings(credentials, new Date(now.getTime() + 355 * DAY));
  t.match(warnings, [
    /client certificate for etcd expires in 9 days, on 20/,
    /CA certificate for etcd expires in 9 days/,
  ]);
  const later = new Date(now.getTime() + 400 * DAY);
  await t.rejects(loadTls(authority.client, later), { exitCode: 2, message: /client certificate .* expired on 20/ });
  const earlier = new Date(now.getTime() - 30 * DAY);
  await t.rejects(loadTls(authority.client, earlier), { exitCode: 2, message: /is not valid before/ });
});

t.test('an encrypted key', async (t) => {
  const { privateKey } = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    privateKeyEncoding: { type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'x' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  });
  const key = join(dir, 'encrypted.key');
  await writeFile(key, privateKey);
  await t.rejects(loadTls({ ...authority.client, key }, now), {
    exitCode: 2,
    message: /encrypted.key is not a private key without a passphrase/,
  });
});

t.test('the one known layout of a host is found', async (t) => {
  const host = async (...files: string[]): Promise<string> => {
    const root = temporaryFolder('host');
    for (const file of files) {
      await mkdir(dirname(join(root, file)), { recursive: true });
      await writeFile(join(root, file), '');
    }
    return root;
  };
  const layout = (directory: string, ca: string, client: string): string[] =>
    [ca, `${client}.crt`, `${client}.key`].map((name) => join(directory, name));
  const aks = layout('/etc/kubernetes/certs', 'ca.crt', 'etcdclient');
  const kubeadm = layout('/etc/kubernetes/pki/etcd', 'ca.crt', 'healthcheck-client');
  const k3s = layout('/var/lib/rancher/k3s/server/tls/etcd', 'server-ca.crt', 'client');
  const rke2 = layout('/var/lib/rancher/rke2/server/tls/etcd', 'server-ca.crt', 'server-client');
  for (const files of [aks, kubeadm, k3s, rke2]) {
    const [ca, cert, key] = files;
    t.match(await findLayout({}, await host(...files)), { ca, cert, key });
  }
  t.match(await findLayout({}, await host()), { ca: aks[0] }, 'the default, whose absence is then told');
  t.match(await findLayout({}, await host(...aks, ...kubeadm)), { ca: aks[0] }, 'the default wins');
  t.match(await findLayout({}, await host(...kubeadm.slice(0, 2))), { ca: aks[0] }, 'half a set is none');
  await t.rejects(findLayout({}, await host(...kubeadm, ...k3s)), {
    exitCode: 2,
    message: /several installers.*kubeadm, k3s/,
  });
});

import { createPrivateKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import t from 'tap';
import { expiriesOf, loadTls } from '../../src/etcd/tls.ts';
import { findCertificates } from '../../src/installer-layouts.ts';
import { makeAuthority } from '../support/certificates.ts';
import { EtcdCluster, findEtcd } from '../support/etcd.ts';
import { freePort, mustRun, temporaryFolder } from '../support/process.ts';
import { runCommand } from '../support/command.ts';
import { runWorker } from '../support/worker.ts';

const dir = temporaryFolder('tls');
const authority = await makeAuthority(join(dir, 'certs'));
const now = new Date();
const newest = findEtcd().at(-1);
if (newest === undefined) throw new Error('no etcd');
const DAY = 86_400_000;
const OTHER = /is not a PEM (certificate|private key without a passphrase)\.$/;

t.test('a good set loads, and is far from its end', async (t) => {
  const credentials = await loadTls(authority.client, now);
  t.ok(credentials.key.includes('PRIVATE KEY'));
  t.match(expiriesOf(credentials, now), [{ isSoon: false }, { isSoon: false }]);
});

t.test('certificates near and past their end', async (t) => {
  const credentials = await loadTls(authority.client, now);
  t.match(expiriesOf(credentials, new Date(now.getTime() + 355 * DAY)), [
    { sentence: /client certificate for etcd expires in 9 days, on 20/, isSoon: true },
    { sentence: /CA certificate for etcd expires in 9 days/, isSoon: true },
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
    message: /encrypted.key is not a PEM private key without a passphrase: it is encrypted/,
  });
});

t.test('DER is taken as PEM is', async (t) => {
  const cluster = await EtcdCluster.start({ tools: newest, dir: join(dir, 'etcd'), tls: authority });
  t.teardown(async () => cluster.stop());
  const der = async (name: string, bytes: Buffer): Promise<string> => {
    await writeFile(join(dir, name), bytes);
    return join(dir, name);
  };
  const { ca, cert, key } = authority.client;
  const pair = createPrivateKey(await readFile(key));
  const files = {
    SNAPSHOT_ETCD_CA_FILE: await der('ca.der', new X509Certificate(await readFile(ca)).raw),
    SNAPSHOT_ETCD_CERT_FILE: await der('client.der', new X509Certificate(await readFile(cert)).raw),
  };
  for (const type of ['pkcs8', 'sec1'] as const) {
    const keyFile = await der(`key-${type}.der`, pair.export({ format: 'der', type }));
    const variables = { ...cluster.variables, ...files, SNAPSHOT_ETCD_KEY_FILE: keyFile };
    const health = await runWorker(['health'], variables);
    t.equal(health.code, 0, `${type}: ${health.stderr}`);
  }
});

t.test('a file that is something else is named, with what makes a PEM file of it', async (t) => {
  const { cert, key } = authority.client;
  const openssl = async (name: string, ...args: string[]): Promise<Buffer> => {
    const file = join(dir, name);
    await mustRun('openssl', [...args, '-out', file]);
    return readFile(file);
  };
  const pem = await readFile(cert);
  const table: Record<string, [bytes: Buffer, RegExp, RegExp]> = {
    pkcs12: [
      await openssl('a.pfx', 'pkcs12', '-export', '-in', cert, '-inkey', key, '-passout', 'pass:x'),
      /a PKCS#12 archive/,
      /openssl pkcs12 -in/,
    ],
    pkcs7: [await openssl('a.p7b', 'crl2pkcs7', '-nocrl', '-certfile', cert), /a PKCS#7 bundle/, /openssl pkcs7 -in/],
    'pkcs7 in DER': [
      await openssl('a.p7c', 'crl2pkcs7', '-nocrl', '-certfile', cert, '-outform', 'der'),
      /a PKCS#7 bundle/,
      /openssl pkcs7 -inform der/,
    ],
    'a request': [
      await openssl('a.csr', 'req', '-new', '-key', key, '-subj', '/CN=x'),
      /certificate signing request/,
      /Check/,
    ],
    'UTF-16': [Buffer.from(`\ufeff${pem.toString()}`, 'utf16le'), /UTF-16 text/, /UTF-8/],
    'no lines around it': [Buffer.from(pem.toString().replaceAll(/-----.*-----\n?/g, '')), OTHER, /Check/],
    'a Java keystore': [Buffer.from('feedfeed00000002', 'hex'), OTHER, /Check/],
    empty: [Buffer.alloc(0), /empty/, /Check/],
    'some other DER': [Buffer.from('30820003020105', 'hex'), OTHER, /Check/],
  };
  for (const [name, [bytes, kind, hint]] of Object.entries(table)) {
    const file = join(dir, 'wrong');
    await writeFile(file, bytes);
    for (const which of ['ca', 'cert', 'key'] as const) {
      const error = await loadTls({ ...authority.client, [which]: file }, now).catch((thrown: unknown) => thrown);
      t.match(error, { exitCode: 2, message: kind, hint }, `${name} as ${which}`);
    }
  }
  const swapped = { ca: join(dir, 'none.crt'), cert: key, key: cert };
  const parts = ['none.crt does not exist', 'it is a private key', 'it is a certificate'];
  await t.rejects(loadTls(swapped, now), {
    exitCode: 2,
    message: new RegExp(`^The configuration has 3 errors: the CA file \\S*${parts.join('; .*')}\\.$`),
    problems: parts.map((part) => new RegExp(`${part}$`)),
  });
  await t.rejects(loadTls({ ...authority.client, key: cert }, now), {
    message: /not a PEM private key without a passphrase: it is a certificate/,
  });
  const encrypted = await openssl('enc.der', 'pkcs8', '-topk8', '-in', key, '-outform', 'der', '-passout', 'pass:x');
  await writeFile(join(dir, 'wrong'), encrypted);
  await t.rejects(loadTls({ ...authority.client, key: join(dir, 'wrong') }, now), {
    message: /an encrypted DER key/,
    hint: /openssl pkey -inform der/,
  });
});

t.test('configured files that http does not use are a warning', async (t) => {
  const files = { SNAPSHOT_ETCD_CA_FILE: '/ca.crt', SNAPSHOT_ETCD_CERT_FILE: '/client.crt' };
  const warning =
    /"warn","message":"Connections to (\S+) do not use TLS: ignoring SNAPSHOT_ETCD_CA_FILE, SNAPSHOT_ETCD_CERT_FILE\."/g;
  const endpoint = `http://127.0.0.1:${await freePort()}`;
  const variables = { ...files, SNAPSHOT_ETCD_ENDPOINTS: endpoint };
  const health = await runCommand(['health'], variables);
  t.equal(health.code, 10, 'the exit code is that of the connection');
  t.strictSame(
    [...health.stderr.matchAll(warning)].map(([, which]) => which),
    [endpoint],
  );
  t.notMatch((await runCommand(['health'], { SNAPSHOT_ETCD_ENDPOINTS: endpoint })).stderr, 'do not use TLS');
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
    t.match(await findCertificates(await host(...files)), { ca, cert, key });
  }
  t.match(await findCertificates(await host()), { ca: aks[0] }, 'the default, whose absence is then reported');
  t.match(await findCertificates(await host(...aks, ...kubeadm)), { ca: aks[0] }, 'the default wins');
  t.match(await findCertificates(await host(...kubeadm.slice(0, 2))), { ca: aks[0] }, 'half a set is none');
  await t.rejects(findCertificates(await host(...kubeadm, ...k3s)), {
    exitCode: 2,
    message: /several installers.*kubeadm, k3s/,
  });
});

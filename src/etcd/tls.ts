import { X509Certificate } from 'node:crypto';
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import type { TlsFiles } from '../config/config.ts';
import { UsageError } from '../errors.ts';
import { readNamed } from '../files.ts';
import { assertValid, certificatesIn, privateKeyIn } from '../pem.ts';

/** PEM bytes of the CA, the client certificate (with its chain) and its key. */
export interface TlsCredentials {
  readonly ca: Buffer;
  readonly cert: Buffer;
  readonly key: Buffer;
}

const WARN_DAYS = 14;
const DAY_MS = 86_400_000;

/**
 * Reads the three files and checks that they are what they should be and belong together, before anything is asked of etcd.
 * @throws UsageError naming the file and its variable
 */
export async function loadTls(named: Partial<TlsFiles>, now: Date): Promise<TlsCredentials> {
  const files = { ...(await findLayout(named)), ...named };
  const [caFile, certFile, keyFile] = [
    await load(files.ca, 'CA file', 'SNAPSHOT_ETCD_CA_FILE'),
    await load(files.cert, 'client certificate', 'SNAPSHOT_ETCD_CERT_FILE'),
    await load(files.key, 'client key', 'SNAPSHOT_ETCD_KEY_FILE'),
  ];
  const ca = certificatesIn(caFile, files.ca, 'SNAPSHOT_ETCD_CA_FILE');
  const cert = certificatesIn(certFile, files.cert, 'SNAPSHOT_ETCD_CERT_FILE');
  const key = privateKeyIn(keyFile, files.key, 'SNAPSHOT_ETCD_KEY_FILE');
  const certificate = new X509Certificate(cert);
  if (!certificate.checkPrivateKey(key)) {
    throw new UsageError(
      `The client key ${files.key} does not belong to the client certificate ${files.cert}.`,
      'Point SNAPSHOT_ETCD_CERT_FILE and SNAPSHOT_ETCD_KEY_FILE to a pair that was issued together.',
    );
  }
  const hint = 'Renew it (kubeadm certs renew, or what issued it), and check the clock of this host.';
  assertValid(certificate, `client certificate ${files.cert}`, now, hint);
  return { ca, cert, key: Buffer.from(key.export({ type: 'pkcs8', format: 'pem' })) };
}

interface Expiry {
  readonly sentence: string;
  /** Within two weeks. */
  readonly isSoon: boolean;
}

/** When the client certificate expires. */
export function expiryOf({ cert }: TlsCredentials): Date {
  return new X509Certificate(cert).validToDate;
}

/** When the certificate and the CA expire. */
export function expiriesOf({ ca, cert }: TlsCredentials, now: Date): Expiry[] {
  return Object.entries({ 'client certificate': cert, 'CA certificate': ca }).map(([what, pem]) => {
    const { validToDate } = new X509Certificate(pem);
    const days = Math.floor((validToDate.getTime() - now.getTime()) / DAY_MS);
    const sentence = `The ${what} for etcd expires in ${days} days, on ${validToDate.toISOString()}.`;
    return { sentence, isSoon: days < WARN_DAYS };
  });
}

/** A sentence for each that expires soon. */
export function certificateWarnings(credentials: TlsCredentials, now: Date): string[] {
  return expiriesOf(credentials, now).flatMap(({ sentence, isSoon }) => (isSoon ? [sentence] : []));
}

async function load(path: string, what: string, variable: string): Promise<Buffer> {
  return readNamed(path, what, `Mount the directory with etcd's certificates, or name the file with ${variable}.`);
}

interface Layout extends TlsFiles {
  readonly name: string;
}

/** Where installers put a client certificate for etcd; the first is the default. */
const LAYOUTS: readonly Layout[] = [
  layout('AKS Engine', '/etc/kubernetes/certs', 'ca.crt', 'etcdclient'),
  layout('kubeadm', '/etc/kubernetes/pki/etcd', 'ca.crt', 'healthcheck-client'),
  layout('k3s', '/var/lib/rancher/k3s/server/tls/etcd', 'server-ca.crt', 'client'),
  layout('RKE2', '/var/lib/rancher/rke2/server/tls/etcd', 'server-ca.crt', 'server-client'),
];

/**
 * The files of the one known layout that is on this host, or the default ones: where nothing is found, their absence is told.
 * @param named files that variables name; when all are named, nothing is looked for
 * @param root where the file system begins
 * @throws UsageError when there are several layouts and none of them is the default
 */
export async function findLayout(named: Partial<TlsFiles>, root = '/'): Promise<TlsFiles> {
  const [preset] = LAYOUTS;
  if (preset === undefined) throw new Error('there is no layout');
  if (named.ca !== undefined && named.cert !== undefined && named.key !== undefined) return preset;
  const found: Layout[] = [];
  for (const candidate of LAYOUTS) if (await isThere(candidate, root)) found.push(candidate);
  const [first, ...others] = found;
  if (first === undefined || first === preset) return preset;
  if (others.length === 0) return first;
  throw new UsageError(
    `There are client certificates of several installers on this host: ${found.map(({ name }) => name).join(', ')}.`,
    'Name the files with SNAPSHOT_ETCD_CA_FILE, _CERT_FILE and _KEY_FILE.',
  );
}

function layout(name: string, dir: string, ca: string, client: string): Layout {
  return { name, ca: `${dir}/${ca}`, cert: `${dir}/${client}.crt`, key: `${dir}/${client}.key` };
}

async function isThere({ ca, cert, key }: Layout, root: string): Promise<boolean> {
  const checks = [ca, cert, key].map(async (path) => access(join(root, path)));
  return (await Promise.allSettled(checks)).every(({ status }) => status === 'fulfilled');
}

import { X509Certificate } from 'node:crypto';
import type { TlsFiles } from '../config/config.ts';
import { UsageError } from '../errors.ts';
import { readNamed } from '../files.ts';
import { findCertificates } from '../installer-layouts.ts';
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
 * Reads the three files and checks their kinds, and that certificate and key match, before any request to etcd.
 * @throws UsageError naming the file and its variable
 */
export async function loadTls(named: Partial<TlsFiles>, now: Date): Promise<TlsCredentials> {
  const files = isComplete(named) ? named : { ...(await findCertificates()), ...named };
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

function isComplete(files: Partial<TlsFiles>): files is TlsFiles {
  return files.ca !== undefined && files.cert !== undefined && files.key !== undefined;
}

async function load(path: string, what: string, variable: string): Promise<Buffer> {
  return readNamed(path, what, `Mount the directory with etcd's certificates, or set ${variable}.`);
}

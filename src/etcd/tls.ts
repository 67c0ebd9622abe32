import { X509Certificate } from 'node:crypto';
import type { EtcdConfig, TlsFiles } from '../config/config.ts';
import { ConfigurationError, UsageError } from '../errors.ts';
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

export const RENEW_HINT = 'Renew it with `kubeadm certs renew`, or with the tool that issued it.';

const MOUNT_HINT =
  "Mount the directory with etcd's certificates, or set SNAPSHOT_ETCD_CA_FILE, _CERT_FILE and _KEY_FILE.";

/**
 * Reads the three files and checks their kinds, and that certificate and key match, before any request to etcd.
 * @throws UsageError naming each file that cannot be used, and its variable
 */
export async function loadTls(named: Partial<TlsFiles>, now: Date): Promise<TlsCredentials> {
  const paths = isComplete(named) ? named : { ...(await findCertificates()), ...named };
  const load = async <T>(
    name: keyof TlsFiles,
    what: string,
    parse: (bytes: Buffer, path: string, variable: string) => T,
  ): Promise<T> => {
    const variable = `SNAPSHOT_ETCD_${name.toUpperCase()}_FILE`;
    return parse(await readNamed(paths[name], what, MOUNT_HINT), paths[name], variable);
  };
  const files = [
    load('ca', 'CA file', certificatesIn),
    load('cert', 'client certificate', certificatesIn),
    load('key', 'client key', privateKeyIn),
  ] as const;
  const problems = (await Promise.allSettled(files)).flatMap((file) =>
    file.status === 'rejected' && file.reason instanceof UsageError ? [file.reason] : [],
  );
  if (problems.length > 1) throw together(problems);
  const [ca, cert, key] = await Promise.all(files);
  const certificate = new X509Certificate(cert);
  if (!certificate.checkPrivateKey(key)) {
    throw new UsageError(
      `The client key ${paths.key} does not belong to the client certificate ${paths.cert}.`,
      'Set SNAPSHOT_ETCD_CERT_FILE and SNAPSHOT_ETCD_KEY_FILE to a certificate and its own key.',
    );
  }
  const hint = `${RENEW_HINT} Check the clock of this host.`;
  assertValid(certificate, `client certificate ${paths.cert}`, now, hint);
  return { ca, cert, key: Buffer.from(key.export({ type: 'pkcs8', format: 'pem' })) };
}

/** All problems at once, as those of variables are. */
function together(problems: readonly UsageError[]): UsageError {
  const hints = new Set(problems.map(({ hint }) => hint));
  const parts = problems.map(({ message }) => message.replace(/^The /, 'the ').replace(/\.$/, ''));
  return new ConfigurationError(parts, [...hints].join(' '));
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

/** A warning about configured files that are not used. */
export function unusedFiles({ endpoints, unusedTls = [] }: EtcdConfig): [sentence: string, hint: string][] {
  const plain = endpoints.filter((endpoint) => endpoint.startsWith('http:'));
  const sentence = `Connections to ${plain.join(', ')} do not use TLS: ignoring ${unusedTls.join(', ')}.`;
  return unusedTls.length === 0 ? [] : [[sentence, 'Write the endpoint with https://.']];
}

function isComplete(files: Partial<TlsFiles>): files is TlsFiles {
  return files.ca !== undefined && files.cert !== undefined && files.key !== undefined;
}

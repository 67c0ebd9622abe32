import { X509Certificate, createPrivateKey } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { UsageError } from '../errors.ts';
import type { TlsFiles } from '../config.ts';

/** PEM bytes of the CA, the client certificate (with its chain) and its key. */
export interface TlsCredentials {
  readonly ca: Buffer;
  readonly cert: Buffer;
  readonly key: Buffer;
}

/**
 * Reads the three files and checks that they are what they should be and belong together, before anything is asked of etcd.
 * @throws UsageError naming the file and its variable
 */
export async function loadTls(files: TlsFiles): Promise<TlsCredentials> {
  const ca = await load(files.ca, 'CA file', 'SNAPSHOT_ETCD_CA_FILE');
  const cert = await load(files.cert, 'client certificate', 'SNAPSHOT_ETCD_CERT_FILE');
  const key = await load(files.key, 'client key', 'SNAPSHOT_ETCD_KEY_FILE');
  parse(files.ca, 'SNAPSHOT_ETCD_CA_FILE', 'a PEM certificate', () => new X509Certificate(ca));
  const certificate = parse(
    files.cert,
    'SNAPSHOT_ETCD_CERT_FILE',
    'a PEM certificate',
    () => new X509Certificate(cert),
  );
  const encrypted = key.includes('ENCRYPTED');
  const expected = encrypted ? 'a private key without a passphrase' : 'a PEM private key';
  const privateKey = parse(files.key, 'SNAPSHOT_ETCD_KEY_FILE', expected, () => createPrivateKey(key));
  if (!certificate.checkPrivateKey(privateKey)) {
    throw new UsageError(
      `The client key ${files.key} does not belong to the client certificate ${files.cert}.`,
      'Point SNAPSHOT_ETCD_CERT_FILE and SNAPSHOT_ETCD_KEY_FILE to a pair that was issued together.',
    );
  }
  return { ca, cert, key };
}

async function load(path: string, what: string, variable: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown';
    const why =
      code === 'ENOENT'
        ? 'does not exist'
        : code === 'EACCES'
          ? 'may not be read by this user'
          : `cannot be read (${code})`;
    throw new UsageError(
      `The ${what} ${path} ${why}.`,
      `Mount the directory with etcd's certificates, or name the file with ${variable}.`,
      error,
    );
  }
}

function parse<T>(path: string, variable: string, expected: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new UsageError(`${path} is not ${expected}.`, `Check ${variable}.`, error);
  }
}

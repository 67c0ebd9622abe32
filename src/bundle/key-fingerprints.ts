import { createHash, createHmac, createPublicKey, type KeyObject, X509Certificate } from 'node:crypto';
import type { BundleKeys } from '../snapshot/record.ts';
import type { ArchiveEntry } from './archive.ts';
import { encryptionKeysIn } from './encryption-config.ts';

/* What a snapshot's record says about the keys in its bundle: equal keys can be recognised, and none can be derived from it. */

/** Hexadecimal digits of an HMAC. */
const DIGITS = 16;

/** So many fit into a record. */
const MAX = { cas: 6, serviceAccount: 3, encryption: 8 };

const BLOCK = /-----BEGIN ([A-Z ]+)-----[^-]+-----END \1-----/g;

/** The public keys that service-account tokens are signed for: of kubeadm, k3s and RKE2, AKS Engine. */
const SERVICE_ACCOUNT = /(^|\/)(sa\.pub|server\/tls\/service(\.current)?\.key|kubernetes\/certs\/apiserver\.key)$/;

const TOKEN = /(^|\/)server\/token$/;

/** @param uploadId key of the HMACs */
export function fingerprintsOf(entries: readonly ArchiveEntry[], uploadId: string): BundleKeys {
  const files = entries.filter(({ type }) => type === 'File');
  const token = files.find(({ path }) => TOKEN.test(path));
  const hmac = (text: string): string => hmacOf(text, uploadId);
  const encryption = files
    .flatMap(({ content }) => encryptionKeysIn(textOf(content)) ?? [])
    .filter(({ provider, name }) => provider !== 'identity' && `${provider}${name}`.length <= 100)
    .map(({ provider, name, secret }) => ({ provider, name, hmac: hmac(secret ?? '') }));
  const serviceAccount = files
    .filter(({ path }) => SERVICE_ACCOUNT.test(path))
    .flatMap(({ content }) => keysIn(content, /PUBLIC KEY$|PRIVATE KEY$/).map(spkiSha256));
  return {
    cas: unique(authoritiesIn(files).flatMap(({ keys }) => keys)).slice(0, MAX.cas),
    serviceAccount: unique(serviceAccount).slice(0, MAX.serviceAccount),
    encryption: encryption.slice(0, MAX.encryption),
    ...(token !== undefined && { token: hmac(textOf(token.content).trim()) }),
  };
}

/** Truncated: it can be compared with that of an equal key of the same upload. */
export function hmacOf(secret: string, uploadId: string): string {
  return createHmac('sha256', uploadId).update(secret).digest('hex').slice(0, DIGITS);
}

/** Paths of certificates of authorities whose private keys are not among the files. */
export function authoritiesWithoutKey(entries: readonly ArchiveEntry[]): string[] {
  const files = entries.filter(({ type }) => type === 'File');
  const own = new Set(files.flatMap(({ content }) => keysIn(content, /PRIVATE KEY$/).map(spkiSha256)));
  return authoritiesIn(files)
    .filter(({ keys }) => !keys.some((key) => own.has(key)))
    .map(({ path }) => path);
}

interface Authority {
  readonly path: string;
  /** sha256 of the public keys of all its certificates. */
  readonly keys: readonly string[];
}

function authoritiesIn(files: readonly ArchiveEntry[]): Authority[] {
  return files.flatMap(({ path, content }) => {
    const keys = blocksIn(content, /^CERTIFICATE$/).flatMap((pem) => {
      const certificate = attempt(() => new X509Certificate(pem));
      return certificate?.ca === true ? [spkiSha256(certificate.publicKey)] : [];
    });
    return keys.length === 0 ? [] : [{ path, keys }];
  });
}

/** The public keys of all keys of a file. */
function keysIn(content: Buffer, kind: RegExp): KeyObject[] {
  return blocksIn(content, kind).flatMap((pem) => attempt(() => createPublicKey(pem)) ?? []);
}

function blocksIn(content: Buffer, kind: RegExp): string[] {
  if (!content.includes('-----BEGIN ')) return [];
  return [...textOf(content).matchAll(BLOCK)].flatMap(([pem, name = '']) => (kind.test(name) ? [pem] : []));
}

function spkiSha256(key: KeyObject): string {
  return createHash('sha256')
    .update(key.export({ type: 'spki', format: 'der' }))
    .digest('hex');
}

function textOf(content: Buffer): string {
  return content.toString('utf8');
}

function unique(values: readonly string[]): string[] {
  return [...new Set(values)];
}

/** Files have any content. */
function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { UsageError } from './errors.ts';
import { printable, quoteShell } from './text.ts';

/** What is often found in place of a certificate or a key, by its first bytes in hex or its text, and the command that converts it. */
const KINDS: readonly (readonly [pattern: RegExp, kind: string, command?: string])[] = [
  [/^\n/, 'empty'],
  [/^(fffe|feff)/, 'UTF-16 text', 'iconv -f UTF-16 -t UTF-8 FILE'],
  // DER: version 3 at its beginning; the object id of signed data; that of encrypted keys.
  [/^30.{2,10}02010330/, 'a PKCS#12 archive (.pfx)', 'openssl pkcs12 -in FILE -nodes'],
  [/^30.{0,72}2a864886f70d010702/, 'a PKCS#7 bundle', 'openssl pkcs7 -inform der -in FILE -print_certs'],
  [/^30.{0,100}2a864886f70d01050d/, 'an encrypted DER key', 'openssl pkey -inform der -in FILE'],
  [/-----BEGIN PKCS7/, 'a PKCS#7 bundle', 'openssl pkcs7 -in FILE -print_certs'],
  [/ENCRYPTED/, 'encrypted', 'openssl pkey -in FILE'],
  [/-----BEGIN [A-Z ]*CERTIFICATE REQUEST/, 'a certificate signing request, which is not signed yet'],
  [/-----BEGIN [A-Z ]*PRIVATE KEY/, 'a private key'],
  [/-----BEGIN [A-Z ]*CERTIFICATE/, 'a certificate'],
];

/** The first certificate of a file, PEM or DER. @throws UsageError with the kind of the file */
export function certificateIn(bytes: Buffer, path: string, variable: string): X509Certificate {
  return parse(bytes, path, variable, 'a PEM certificate', () => new X509Certificate(bytes));
}

/** All certificates of a file as PEM, the only format that gRPC accepts. @throws UsageError */
export function certificatesIn(bytes: Buffer, path: string, variable: string): Buffer {
  const first = certificateIn(bytes, path, variable);
  return isPem(bytes) ? bytes : Buffer.from(first.toString());
}

/** The private key of a file, PEM or DER. @throws UsageError with the kind of the file */
export function privateKeyIn(bytes: Buffer, path: string, variable: string): KeyObject {
  return parse(bytes, path, variable, 'a PEM private key without a passphrase', () => {
    if (isPem(bytes)) return createPrivateKey(bytes);
    for (const type of ['pkcs8', 'pkcs1'] as const) {
      try {
        return createPrivateKey({ key: bytes, format: 'der', type });
      } catch {
        // Try the next type.
      }
    }
    return createPrivateKey({ key: bytes, format: 'der', type: 'sec1' });
  });
}

/** @throws UsageError if a certificate has expired or is not valid yet */
export function assertValid(certificate: X509Certificate, what: string, now: Date, hint: string): void {
  const { validFromDate, validToDate } = certificate;
  if (validToDate >= now && validFromDate <= now) return;
  const [when, date] = validToDate < now ? ['expired on', validToDate] : ['is not valid before', validFromDate];
  throw new UsageError(`The ${what} ${when} ${date.toISOString()}.`, hint);
}

function parse<T>(bytes: Buffer, path: string, variable: string, expected: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    const text = `${bytes.toString('hex', 0, 64)}\n${bytes.toString('latin1')}`;
    const [, kind, command] = KINDS.find(([pattern]) => pattern.test(text)) ?? [];
    const is = kind === undefined ? '' : `: it is ${kind}`;
    const hint = command === undefined ? '' : `Convert it with: ${command.replace('FILE', () => quoteShell(path))}. `;
    throw new UsageError(`${printable(path)} is not ${expected}${is}.`, `${hint}Check ${variable}.`, error);
  }
}

function isPem(bytes: Buffer): boolean {
  return bytes.includes('-----BEGIN ');
}

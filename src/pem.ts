import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { UsageError } from './errors.ts';
import { printable } from './text.ts';

/** DER bytes of formats: an archive begins with version 3, signed data and encrypted keys with an object id. */
const PKCS12 = '\x02\x01\x03\x30';
const PKCS7 = '\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02';
const PBES = '\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0d';

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
  const expected = bytes.includes('ENCRYPTED') ? 'a private key without a passphrase' : 'a PEM private key';
  return parse(bytes, path, variable, expected, () => {
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
    const file = printable(path);
    const [kind, remedy] = kindOf(bytes, file) ?? [undefined, undefined];
    const is = kind === undefined ? '' : `: it is ${kind}`;
    const hint = remedy === undefined ? `Check ${variable}.` : `${remedy}, and check ${variable}.`;
    throw new UsageError(`${file} is not ${expected}${is}.`, hint, error);
  }
}

function isPem(bytes: Buffer): boolean {
  return bytes.includes('-----BEGIN ');
}

/** The kind of a file that should have a certificate or a key, and how to make a PEM file of it. */
function kindOf(bytes: Buffer, file: string): readonly [kind: string, remedy?: string] | undefined {
  const text = bytes.toString('latin1');
  const label = /-----BEGIN ([A-Z0-9 ]+)-----/.exec(text)?.[1];
  if (bytes.length === 0) return ['empty'];
  if (/^(\xff\xfe|\xfe\xff)/.test(text)) return ['UTF-16 text', 'Save it as UTF-8 without a byte order mark'];
  if (text.startsWith('\xfe\xed\xfe\xed')) {
    return [
      'a Java keystore',
      `Convert it: keytool -importkeystore -srckeystore ${file} -destkeystore new.p12 -deststoretype pkcs12`,
    ];
  }
  if (text.startsWith('\x30') && text.slice(2, 10).includes(PKCS12))
    return ['a PKCS#12 archive (.pfx)', `Convert it: openssl pkcs12 -in ${file} -nodes -out new.pem`];
  if (label === 'PKCS7' || text.slice(0, 40).includes(PKCS7)) {
    const format = label === undefined ? '-inform der ' : '';
    return ['a PKCS#7 bundle (.p7b)', `Convert it: openssl pkcs7 ${format}-in ${file} -print_certs -out new.pem`];
  }
  if (/ENCRYPTED/.test(text)) return ['encrypted', `Remove its passphrase: openssl pkey -in ${file} -out new.key`];
  if (text.slice(0, 60).includes(PBES)) {
    return ['an encrypted DER key', `Remove its passphrase: openssl pkey -inform der -in ${file} -out new.key`];
  }
  if (label?.endsWith('CERTIFICATE REQUEST')) return ['a certificate signing request (CSR), which is not signed yet'];
  if (label?.endsWith('PUBLIC KEY')) return ['a public key'];
  if (label?.endsWith('PRIVATE KEY')) return ['a private key'];
  if (label?.endsWith('CERTIFICATE')) return ['a certificate'];
  if (isCertificate(bytes)) return ['a DER certificate'];
  if (text.startsWith('\x30\x82') || text.startsWith('\x30\x81')) {
    return ['another DER file', `Show its content: openssl asn1parse -inform der -in ${file}`];
  }
  if (/^[A-Za-z0-9+/=\s]+$/.test(text)) {
    return [
      'base64 text without its first and last line',
      'Put the lines -----BEGIN …----- and -----END …----- around it',
    ];
  }
  return undefined;
}

function isCertificate(bytes: Buffer): boolean {
  try {
    return new X509Certificate(bytes).raw.length > 0;
  } catch {
    return false;
  }
}

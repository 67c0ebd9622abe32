import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { UsageError } from './errors.ts';

/** The first certificate of a PEM file. @throws UsageError */
export function certificateIn(pem: Buffer, path: string, variable: string): X509Certificate {
  return parse(path, variable, 'a PEM certificate', () => new X509Certificate(pem));
}

/** The private key of a PEM file. @throws UsageError */
export function privateKeyIn(pem: Buffer, path: string, variable: string): KeyObject {
  const expected = pem.includes('ENCRYPTED') ? 'a private key without a passphrase' : 'a PEM private key';
  return parse(path, variable, expected, () => createPrivateKey(pem));
}

/** @throws UsageError when a certificate is past its end, or not valid yet */
export function assertValid(certificate: X509Certificate, what: string, now: Date, hint: string): void {
  const { validFromDate, validToDate } = certificate;
  if (validToDate >= now && validFromDate <= now) return;
  const [when, date] = validToDate < now ? ['expired on', validToDate] : ['is not valid before', validFromDate];
  throw new UsageError(`The ${what} ${when} ${date.toISOString()}.`, hint);
}

function parse<T>(path: string, variable: string, expected: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new UsageError(`${path} is not ${expected}.`, `Check ${variable}.`, error);
  }
}

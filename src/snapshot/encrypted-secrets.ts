import { isLater, type KeyEntry } from './keys.ts';

/** Live Secrets that the API server stored in the same way. */
export interface SecretCount {
  /** Such as `aescbc`, `secretbox` or `kms`; `identity` for what is not encrypted; `unknown` for a form that is not known. */
  readonly provider: string;
  /** Of the provider's form: a key management service has `v1` and `v2`, others only `v1`; empty where there is no key. */
  readonly version: string;
  /** Name of the key; empty for `identity` and `unknown`. */
  readonly keyName: string;
  readonly count: number;
}

/** Under the default prefix of the API server. */
const PREFIX = '/registry/secrets/';

const MARK = Buffer.from('k8s:enc:');

/** Provider, version and name of the key. */
const FORM = /^k8s:enc:([a-z0-9]{1,32}):([a-z0-9]{1,32}):([^:]{1,253}):/;

/** What an encrypted value begins with. */
interface EncryptionPrefix extends Pick<SecretCount, 'provider' | 'version' | 'keyName'> {
  /** Bytes of it. */
  readonly length: number;
}

export function isEncryptedValue(value: Buffer): boolean {
  return value.subarray(0, MARK.length).equals(MARK);
}

/** Undefined where it is not known. @param value an encrypted one */
export function encryptionPrefix(value: Buffer): EncryptionPrefix | undefined {
  const [prefix, provider = '', version = '', name = ''] = FORM.exec(value.toString('latin1', 0, 400)) ?? [];
  if (prefix === undefined) return undefined;
  return { provider, version, keyName: Buffer.from(name, 'latin1').toString(), length: prefix.length };
}

/** Counts live Secrets by how they are encrypted, among entries in any order. */
export class SecretCounter {
  readonly #last = new Map<string, Pick<KeyEntry, 'main' | 'sub' | 'isTombstone'> & { readonly form: string }>();

  visit(entry: KeyEntry): void {
    const { keyText: key, main, sub, isTombstone } = entry;
    if (!key.startsWith(PREFIX) || !isLater(entry, this.#last.get(key))) return;
    this.#last.set(key, { main, sub, isTombstone, form: formOf(entry.value) });
  }

  /** The most frequent form first. */
  counts(): SecretCount[] {
    const live = [...this.#last.values()].filter(({ isTombstone }) => !isTombstone);
    return [...Map.groupBy(live, ({ form }) => form)]
      .toSorted(([a, one], [b, other]) => other.length - one.length || (a < b ? -1 : 1))
      .map(([form, { length: count }]) => {
        const [provider = '', version = '', keyName = ''] = form.split(':');
        return { provider, version, keyName, count };
      });
  }
}

/** For messages. */
export function providerText({ provider, version }: Pick<SecretCount, 'provider' | 'version'>): string {
  return provider === 'kms' ? `kms ${version}` : provider;
}

/** Provider, version and name of the key, separated by colons. */
function formOf(value: Buffer): string {
  if (!isEncryptedValue(value)) return 'identity';
  const known = encryptionPrefix(value);
  return known === undefined ? 'unknown' : `${known.provider}:${known.version}:${known.keyName}`;
}

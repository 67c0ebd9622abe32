import { at, list, parseDocument } from '../restore/pod-manifest.ts';

/** A key with which the API server encrypts Secrets. */
export interface EncryptionKey {
  /** Such as `aescbc`, `secretbox` or `kms`; `identity` reads what is not encrypted, and has no name. */
  readonly provider: string;
  /** What the provider writes: a key management service has `v1` and `v2`, which cannot read each other's; others have `v1`. */
  readonly version: string;
  readonly name: string;
  /** As it is written in the file; undefined for a key management service and for `identity`. */
  readonly secret: string | undefined;
}

/** Characters. A larger file is something else. */
const MAX_TEXT = 1024 * 1024;

/**
 * The keys for Secrets in an encryption configuration of the API server, in their order: it encrypts with the first one, and
 * decrypts with all.
 * @param text any text
 * @param resources `all` for the keys of every resource
 * @returns undefined when it is no encryption configuration
 */
export function encryptionKeysIn(text: string, resources: 'secrets' | 'all' = 'secrets'): EncryptionKey[] | undefined {
  if (text.length > MAX_TEXT || !/\bEncryptionConfig(uration)?\b/.test(text)) return undefined;
  const document = parseDocument(text);
  if (!/^EncryptionConfig(uration)?$/.test(String(at(document, 'kind')))) return undefined;
  const entries = list(at(document, 'resources'));
  // The first entry that has the resource counts.
  const secrets = entries.find((resource) =>
    list(at(resource, 'resources')).some((name) => ['secrets', '*.', '*.*'].includes(String(name))),
  );
  return (resources === 'all' ? entries : [secrets]).flatMap((entry) => list(at(entry, 'providers')).flatMap(keysOf));
}

function keysOf(entry: unknown): EncryptionKey[] {
  if (typeof entry !== 'object' || entry === null) return [];
  return Object.entries(entry).flatMap(([provider, settings]: [string, unknown]): EncryptionKey[] => {
    if (provider === 'identity') return [{ provider, version: '', name: '', secret: undefined }];
    const service = at(settings, 'name');
    if (provider === 'kms' && typeof service === 'string') {
      const version = at(settings, 'apiVersion') === 'v2' ? 'v2' : 'v1';
      return [{ provider, version, name: service, secret: undefined }];
    }
    return list(at(settings, 'keys')).flatMap((key) => {
      const [name, secret] = [at(key, 'name'), at(key, 'secret')];
      return typeof name === 'string' && typeof secret === 'string' ? [{ provider, version: 'v1', name, secret }] : [];
    });
  });
}

import { createDecipheriv } from 'node:crypto';
import { xsalsa20poly1305 } from '@noble/ciphers/salsa.js';
import type { EncryptionKey } from '../bundle/encryption-config.ts';
import { encryptionPrefix } from '../snapshot/encrypted-secrets.ts';
import { printable } from '../text.ts';
import { UnreadableValue } from './object-values.ts';

const [BLOCK, GCM_NONCE, GCM_TAG, SECRETBOX_NONCE] = [16, 12, 16, 24];

/**
 * What the API server encrypted.
 * @param key of etcd, which aesgcm authenticates
 * @param keys of the encryption configuration
 * @param isPlain whether bytes are what was encrypted: aescbc authenticates nothing
 * @throws UnreadableValue
 */
export function decrypt(
  value: Buffer,
  key: Buffer,
  keys: readonly EncryptionKey[],
  isPlain: (bytes: Buffer) => boolean,
): Buffer {
  const prefix = encryptionPrefix(value);
  if (prefix === undefined) throw new UnreadableValue('is encrypted in an unknown way');
  const { provider, version, keyName } = prefix;
  const title = printable(keyName);
  if (provider === 'kms') {
    throw new UnreadableValue(
      `is encrypted by key management service ${title} (kms ${version}), which only the API server can use`,
    );
  }
  const open = version === 'v1' ? PROVIDERS.get(provider) : undefined;
  if (open === undefined)
    throw new UnreadableValue(`is encrypted by provider ${provider} ${version}, which is not known`);
  if (keys.length === 0) throw new UnreadableValue(`is encrypted with key ${title} of ${provider}`);
  // Each resource of the configuration has a list of its own, and two keys can have the same name.
  const named = keys.filter((known) => known.provider === provider && known.name === keyName);
  if (named.length === 0)
    throw new UnreadableValue(
      `is encrypted with key ${title} of ${provider}, which is not in the encryption configuration`,
    );
  for (const { secret = '' } of named) {
    const plain = attempt(() => open(Buffer.from(secret, 'base64'), value.subarray(prefix.length), key));
    if (plain !== undefined && isPlain(plain)) return plain;
  }
  throw new UnreadableValue(
    `cannot be decrypted with key ${title} of ${provider}: it is another key, or the value is corrupt`,
  );
}

type Open = (secret: Buffer, data: Buffer, key: Buffer) => Buffer;

const PROVIDERS: ReadonlyMap<string, Open> = new Map<string, Open>([
  [
    'aescbc',
    (secret, data) => {
      const cipher = createDecipheriv(`aes-${secret.length * 8}-cbc`, secret, data.subarray(0, BLOCK));
      return Buffer.concat([cipher.update(data.subarray(BLOCK)), cipher.final()]);
    },
  ],
  [
    'aesgcm',
    (secret, data, key) => {
      const cipher = createDecipheriv(
        `aes-${(secret.length * 8) as 128 | 192 | 256}-gcm`,
        secret,
        data.subarray(0, GCM_NONCE),
      );
      cipher.setAAD(key).setAuthTag(data.subarray(-GCM_TAG));
      return Buffer.concat([cipher.update(data.subarray(GCM_NONCE, -GCM_TAG)), cipher.final()]);
    },
  ],
  [
    'secretbox',
    (secret, data) => {
      const cipher = xsalsa20poly1305(secret, data.subarray(0, SECRETBOX_NONCE));
      return Buffer.from(cipher.decrypt(data.subarray(SECRETBOX_NONCE)));
    },
  ],
]);

/** Undefined where it fails: a wrong key has a wrong size, or opens nothing. */
function attempt(open: () => Buffer): Buffer | undefined {
  try {
    return open();
  } catch {
    return undefined;
  }
}

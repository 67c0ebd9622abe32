import type { EncryptionKey } from '../bundle/encryption-config.ts';
import { providerText, type SecretCount } from '../snapshot/encrypted-secrets.ts';
import { counted, printable } from '../text.ts';

/** Keys that the API server of a restored cluster will have. */
export interface KnownKeys {
  readonly keys: readonly EncryptionKey[];
  /** Where they are from, for messages. */
  readonly where: string;
  /** They are in a file that the operator named; otherwise in the snapshot's own bundle. */
  readonly isGiven: boolean;
  /** A bundle of other files can have no encryption configuration, and then it says nothing. */
  readonly hasConfig: boolean;
}

/** Which Secrets the API server could not read with these keys, in sentences. */
export function unreadableSecrets(secrets: readonly SecretCount[], known: KnownKeys): string[] {
  const { keys, where } = known;
  return secrets
    .filter((secret) => !isReadable(secret, keys))
    .map((secret) => {
      const { provider, keyName, count } = secret;
      const what = counted(count, 'Secret');
      const [needs, are] = count === 1 ? ['needs', 'is'] : ['need', 'are'];
      if (provider === 'identity') return `${what} ${are} not encrypted, and ${where} has no provider identity.`;
      if (provider === 'unknown') return `${what} ${are} encrypted in an unknown way.`;
      return `${what} ${needs} key ${printable(keyName)} of ${providerText(secret)}, which ${where} does not have.`;
    });
}

/** How many Secrets the API server could read. */
export function readableCount(secrets: readonly SecretCount[], { keys }: KnownKeys): number {
  return totalCount(secrets.filter((secret) => isReadable(secret, keys)));
}

export function totalCount(secrets: readonly SecretCount[]): number {
  return secrets.reduce((sum, { count }) => sum + count, 0);
}

function isReadable({ provider, version, keyName }: SecretCount, keys: readonly EncryptionKey[]): boolean {
  // Without an encryption configuration the API server reads what is not encrypted.
  if (keys.length === 0) return provider === 'identity';
  return keys.some((key) => key.provider === provider && key.version === version && key.name === keyName);
}

import { UnsafeError } from '../errors.ts';
import type { KnownKeys } from '../restore/encryption-keys.ts';
import type { SnapshotSource } from '../snapshot/source.ts';
import { counted, printable } from '../text.ts';
import { type Check, ok, tried, warn } from './check.ts';

/** Whether an encryption configuration has the keys that the record of the newest snapshot names. */
export async function checkKeys(
  openNewest: () => Promise<SnapshotSource>,
  readConfig: () => Promise<KnownKeys>,
): Promise<Check[]> {
  const what = 'encryption keys';
  return tried(what, async () => {
    const { keys, where } = await readConfig();
    const { name, record } = await openNewest();
    const recorded = record?.bundleKeys?.encryption;
    if (record === undefined || recorded === undefined) {
      return warn(
        what,
        `The record of ${printable(name)} does not say which keys its Secrets need: it has no bundle.`,
        'Set SNAPSHOT_BUNDLE for backups, or run `etcd-snapshot drill --encryption-config FILE`.',
      );
    }
    const { hmacOf } = await import('../bundle/key-fingerprints.ts');
    const problems = recorded.flatMap(({ provider, name: keyName, hmac }) => {
      const found = keys.filter((key) => key.provider === provider && key.name === keyName);
      if (found.some(({ secret }) => hmacOf(secret ?? '', record.uploadId) === hmac)) return [];
      return [
        `key ${printable(keyName)} of ${provider}, which it ${found.length > 0 ? 'has with another value' : 'does not have'}`,
      ];
    });
    if (problems.length === 0)
      return ok(what, `${where} has ${counted(recorded.length, 'key')} of the newest snapshot.`);
    throw new UnsafeError(
      `${where} is not the encryption configuration of ${printable(name)}, which needs ${problems.join(', ')}.`,
      'Keep old keys in the configuration until no snapshot needs them. Extract that of the snapshot with `etcd-snapshot bundle`.',
    );
  });
}

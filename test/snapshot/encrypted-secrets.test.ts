import t from 'tap';
import { readableCount, unreadableSecrets } from '../../src/restore/encryption-keys.ts';
import { SecretCounter } from '../../src/snapshot/encrypted-secrets.ts';
import { keyEntry } from '../support/key-entry.ts';

function counted(entries: readonly (readonly [key: string, value: string | undefined])[]) {
  const counter = new SecretCounter();
  for (const [main, [key, value]] of entries.entries()) {
    counter.visit(keyEntry(key, value === undefined ? undefined : Buffer.from(value), main));
  }
  return counter.counts();
}

const SECRET = '/registry/secrets/default';

t.test('Secrets are counted by provider and key', async (t) => {
  const secrets = counted([
    [`${SECRET}/a`, 'k8s:enc:aescbc:v1:key1:xyz'],
    [`${SECRET}/b`, 'k8s:enc:aescbc:v1:key1:\u0000\ufffd'],
    [`${SECRET}/c`, 'k8s:enc:kms:v2:my-vault:xyz'],
    [`${SECRET}/d`, 'k8s\0plain'],
    [`${SECRET}/e`, 'k8s:enc:aescbc:v1:old:xyz'],
    [`${SECRET}/e`, 'k8s:enc:aescbc:v1:key2:xyz'],
    [`${SECRET}/f`, 'k8s:enc:aescbc:v1:key1:xyz'],
    [`${SECRET}/f`, undefined],
    [`${SECRET}/g`, 'k8s:enc:broken'],
    [`${SECRET}/h`, 'k8s:enc:kms:v1:my-vault:xyz'],
    [`${SECRET}/i`, 'k8s:enc:secretbox:v1:box:xyz'],
    [`${SECRET}/j`, 'k8s:enc:aesgcm:v1:gcm:xyz'],
    ['/registry/configmaps/default/a', 'k8s:enc:aescbc:v1:key1:xyz'],
  ]);
  t.strictSame(secrets, [
    { provider: 'aescbc', version: 'v1', keyName: 'key1', count: 2 },
    { provider: 'aescbc', version: 'v1', keyName: 'key2', count: 1 },
    { provider: 'aesgcm', version: 'v1', keyName: 'gcm', count: 1 },
    { provider: 'identity', version: '', keyName: '', count: 1 },
    { provider: 'kms', version: 'v1', keyName: 'my-vault', count: 1 },
    { provider: 'kms', version: 'v2', keyName: 'my-vault', count: 1 },
    { provider: 'secretbox', version: 'v1', keyName: 'box', count: 1 },
    { provider: 'unknown', version: '', keyName: '', count: 1 },
  ]);
  const key = (provider: string, name: string, version = 'v1') => ({ provider, version, name, secret: 'x' });
  const known = {
    where: 'FILE',
    isGiven: true,
    hasConfig: true,
    keys: [key('aescbc', 'key2'), key('kms', 'my-vault', 'v2')],
  };
  t.strictSame(unreadableSecrets(secrets, known), [
    '2 Secrets need key key1 of aescbc, which FILE does not have.',
    '1 Secret needs key gcm of aesgcm, which FILE does not have.',
    '1 Secret is not encrypted, and FILE has no provider identity.',
    '1 Secret needs key my-vault of kms v1, which FILE does not have.',
    '1 Secret needs key box of secretbox, which FILE does not have.',
    '1 Secret is encrypted in an unknown way.',
  ]);
  t.equal(readableCount(secrets, known), 2);
  t.equal(readableCount(secrets, { ...known, keys: [] }), 1, 'without a configuration');
  const hostile = counted([[`${SECRET}/a`, 'k8s:enc:aescbc:v1:\u001b[2J:xyz']]);
  t.strictSame(unreadableSecrets(hostile, known), [
    '1 Secret needs key \\u{1b}[2J of aescbc, which FILE does not have.',
  ]);
});

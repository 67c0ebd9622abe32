import { pathProblem } from '../files.ts';
import { LAYOUT_NAMES } from '../installer-layouts.ts';
import type { Needs, SealingConfig, SignatureConfig } from './config.ts';
import { nearest } from '../text.ts';
import type { Reader } from './environment.ts';

/* How snapshots are protected in the container: encryption, signatures, the bundle of keys. */

export function readSealing(reader: Reader, { writes = false, signs = writes }: Needs): SealingConfig | undefined {
  if (signs) reader.refuseEmpty('SNAPSHOT_ENCRYPTION_RECIPIENTS', 'SNAPSHOT_ENCRYPTION_RECIPIENTS_FILE');
  const isCompressed = reader.choice('SNAPSHOT_COMPRESSION', ['none', 'zstd']) === 'zstd';
  const recipients = reader.text('SNAPSHOT_ENCRYPTION_RECIPIENTS');
  const recipientsFile = reader.text('SNAPSHOT_ENCRYPTION_RECIPIENTS_FILE');
  const isEncrypted = (recipients ?? recipientsFile) !== undefined;
  if (!isCompressed && !isEncrypted) return undefined;
  const encoding = isEncrypted ? (isCompressed ? 'zstd+age' : 'age') : 'zstd';
  return { encoding, recipients, recipientsFile };
}

export function readIdentityFile(reader: Reader): string | undefined {
  reader.refuseEmpty('SNAPSHOT_ENCRYPTION_IDENTITY_FILE');
  return reader.text('SNAPSHOT_ENCRYPTION_IDENTITY_FILE');
}

export function readSignatures(reader: Reader, { writes = false, signs = writes }: Needs): SignatureConfig | undefined {
  reader.refuseEmpty(...(signs ? (['SNAPSHOT_SIGNING_KEY_FILE'] as const) : []), 'SNAPSHOT_VERIFICATION_KEYS_FILE');
  const signingKey = reader.text('SNAPSHOT_SIGNING_KEY_FILE');
  const verificationKeysFile = reader.text('SNAPSHOT_VERIFICATION_KEYS_FILE');
  if (writes && signingKey === undefined && verificationKeysFile !== undefined) {
    reader.problem(
      'SNAPSHOT_SIGNING_KEY_FILE',
      'is not set: with verification keys, an unsigned snapshot does not count',
    );
  }
  const signingKeyFile = signs ? signingKey : undefined;
  return (signingKeyFile ?? verificationKeysFile) === undefined ? undefined : { signingKeyFile, verificationKeysFile };
}

/** Layouts and absolute paths. */
export function readBundle(reader: Reader): string[] | undefined {
  reader.refuseEmpty('SNAPSHOT_BUNDLE');
  const items = reader
    .text('SNAPSHOT_BUNDLE')
    ?.split(',')
    .map((item) => item.trim());
  if (items === undefined) return undefined;
  const wrong = items.find((item) => !item.startsWith('/') && !LAYOUT_NAMES.some((layout) => layout === item));
  const meant = nearest(wrong ?? '', LAYOUT_NAMES);
  if (meant !== undefined) reader.problem('SNAPSHOT_BUNDLE', `has an unknown layout; the most similar one is ${meant}`);
  else if (wrong !== undefined || items.some((item) => pathProblem(item) !== undefined)) {
    reader.problem('SNAPSHOT_BUNDLE', `must be ${LAYOUT_NAMES.join(', ')}, or absolute paths, separated by commas`);
  }
  if (items.some((item) => /^\/[/.]*$/.test(item))) {
    reader.problem('SNAPSHOT_BUNDLE', 'contains the root directory: name the directories with keys');
  }
  const recipients = ['SNAPSHOT_ENCRYPTION_RECIPIENTS', 'SNAPSHOT_ENCRYPTION_RECIPIENTS_FILE'] as const;
  if (!recipients.some((variable) => reader.isSet(variable))) {
    reader.problem('SNAPSHOT_BUNDLE', 'contains private keys: it requires SNAPSHOT_ENCRYPTION_RECIPIENTS');
  }
  return items;
}

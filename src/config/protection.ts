import { pathProblem } from '../files.ts';
import { LAYOUT_NAMES } from '../installer-layouts.ts';
import type { Needs, SealingConfig, SignatureConfig } from './config.ts';
import type { Reader } from './environment.ts';

/* How snapshots are protected in the container: encryption, signatures, the bundle of keys. */

export function readSealing(reader: Reader): SealingConfig | undefined {
  const isCompressed = reader.choice('SNAPSHOT_COMPRESSION', ['none', 'zstd']) === 'zstd';
  const recipients = reader.text('SNAPSHOT_ENCRYPTION_RECIPIENTS');
  const recipientsFile = reader.text('SNAPSHOT_ENCRYPTION_RECIPIENTS_FILE');
  const isEncrypted = (recipients ?? recipientsFile) !== undefined;
  if (!isCompressed && !isEncrypted) return undefined;
  const encoding = isEncrypted ? (isCompressed ? 'zstd+age' : 'age') : 'zstd';
  return { encoding, recipients, recipientsFile };
}

export function readSignatures(reader: Reader, { writes = false, signs = writes }: Needs): SignatureConfig | undefined {
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
  const items = reader
    .text('SNAPSHOT_BUNDLE')
    ?.split(',')
    .map((item) => item.trim());
  if (items === undefined) return undefined;
  const wrong = items.find((item) => !item.startsWith('/') && !LAYOUT_NAMES.some((layout) => layout === item));
  if (wrong !== undefined || items.some((item) => pathProblem(item) !== undefined)) {
    reader.problem('SNAPSHOT_BUNDLE', `must be ${LAYOUT_NAMES.join(', ')}, or absolute paths, separated by commas`);
  }
  const recipients = ['SNAPSHOT_ENCRYPTION_RECIPIENTS', 'SNAPSHOT_ENCRYPTION_RECIPIENTS_FILE'] as const;
  if (!recipients.some((variable) => reader.isSet(variable))) {
    reader.problem('SNAPSHOT_BUNDLE', 'contains private keys: it requires SNAPSHOT_ENCRYPTION_RECIPIENTS');
  }
  return items;
}

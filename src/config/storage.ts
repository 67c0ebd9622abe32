import { isSameAccess, readAccess } from './azure.ts';
import type { AccessTier, Needs, StorageConfig } from './config.ts';
import type { Reader } from './environment.ts';

/**
 * A place for snapshots.
 * @param writes whether they are going to be stored there
 * @param otherContainers whether its container need not be set
 */
export function readPlace(reader: Reader, writes: boolean, otherContainers = false): StorageConfig {
  const container = reader.text('SNAPSHOT_AZURE_CONTAINER_NAME');
  return {
    ...readAccess(reader, writes),
    place: reader.place,
    container: container ?? (otherContainers ? '' : reader.missing('SNAPSHOT_AZURE_CONTAINER_NAME')),
    prefix: reader.text('SNAPSHOT_BLOB_PREFIX') ?? '',
    accessTier: readAccessTier(reader),
    maxUploadRate: reader.number('SNAPSHOT_MAX_UPLOAD_RATE'),
  };
}

const TIERS = { hot: 'Hot', cool: 'Cool', cold: 'Cold' } as const;
const TIER_NAMES = Object.keys(TIERS) as (keyof typeof TIERS)[];

function readAccessTier(reader: Reader): AccessTier | undefined {
  const variable = 'SNAPSHOT_ACCESS_TIER';
  if (reader.text(variable)?.toLowerCase() === 'archive') {
    reader.problem(variable, 'must not be archive: a snapshot there could not be read back');
    return undefined;
  }
  const name = reader.choice(variable, TIER_NAMES, new Map(TIER_NAMES.map((tier) => [tier, tier])));
  return name && TIERS[name];
}

/** The second place, if the command uses it. A copy there must not be lost together with the first place. */
export function readCopy(
  reader: Reader,
  { copies, allowsSameAccount = false }: Needs,
  first: StorageConfig | undefined,
): StorageConfig | undefined {
  const isAfterBackup = reader.choice('SNAPSHOT_COPY', ['off', 'after-backup']) === 'after-backup';
  const isUsed =
    copies === 'always' ||
    (copies === 'after backup' && isAfterBackup) ||
    (copies === 'if set' && (isAfterBackup || namesCopy(reader)));
  if (!isUsed || first === undefined) return undefined;
  const copy = readPlace(reader.at('copy'), true);
  const isSame = isSameAccess(first, copy);
  if (isSame && first.container === copy.container && first.prefix === copy.prefix) {
    reader.refuse('the second place (SNAPSHOT_COPY_…) is the same as the first');
  } else if (isSame && !allowsSameAccount) {
    reader.refuse(
      'the second place has the same endpoint and credential as the first, so that both can be lost at once' +
        ' (use another account and identity, or give --allow-same-account)',
    );
  }
  return copy;
}

/** Whether a second place is described; nothing of it is checked. */
export function namesCopy(reader: Reader): boolean {
  return reader.isSet('SNAPSHOT_COPY_AZURE_CONTAINER_NAME');
}

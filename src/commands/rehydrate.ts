import { StorageError } from '../errors.ts';
import type { Log } from '../log.ts';
import { bundleName } from '../snapshot/snapshot-name.ts';
import type { SnapshotSource } from '../snapshot/source.ts';
import type { BlobStore } from '../store/store.ts';
import { printable } from '../text.ts';

/**
 * Starts to move a snapshot and its bundle out of the archive tier, where they cannot be read.
 * @throws StorageError until both can be read: a later run continues
 */
export async function ensureOnline(store: BlobStore, { name, record }: SnapshotSource, log: Log): Promise<void> {
  const names = [name, ...(record?.bundleSha256 === undefined ? [] : [bundleName(name)])];
  const archived: string[] = [];
  let isStarted = false;
  for (const each of names) {
    const archive = (await store.find(each))?.archive;
    if (archive === undefined) continue;
    archived.push(printable(each));
    if (archive === 'rehydrating') continue;
    await store.rehydrate(each);
    isStarted = true;
    log.info('started rehydration', { name: each });
  }
  if (archived.length === 0) return;
  const verb = archived.length === 1 ? 'is' : 'are';
  throw new StorageError(
    'BlobArchived',
    `${archived.join(' and ')} ${verb} in the archive tier: rehydration ${isStarted ? 'was started' : 'is not finished'}. ` +
      'It usually takes less than an hour for less than 10 GB, and up to 15 hours.',
    'Run the same command again later: it continues as soon as the snapshot can be read.',
  );
}

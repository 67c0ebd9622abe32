import { createHash } from 'node:crypto';
import { Interrupted, StorageError } from '../errors.ts';
import type { VerifiedSnapshot } from '../snapshot/verify.ts';
import type { BlobStore } from '../store/store.ts';
import { type StagedUpload, WITHDRAW_MS } from '../store/upload.ts';

/**
 * Reads the whole stored blob back and compares its sha256 with that of etcd's stream.
 * A blob that reads back differently twice, or whose proof is interrupted by a signal, is withdrawn: what is visible is proven.
 * @throws StorageError
 */
export async function proveStored(
  store: BlobStore,
  upload: StagedUpload,
  name: string,
  etag: string,
  { facts }: VerifiedSnapshot,
): Promise<void> {
  try {
    // Once more before the blob is given up: the fault may be in the reading.
    if ((await sha256Of(store, name, etag, facts.size)) === facts.sha256) return;
    if ((await sha256Of(store, name, etag, facts.size)) === facts.sha256) return;
  } catch (error) {
    if (error instanceof Interrupted) await upload.withdraw(WITHDRAW_MS);
    throw error;
  }
  const withdrawn = await upload.withdraw(20_000);
  throw new StorageError(
    'ReadBackMismatch',
    `The stored blob ${name} reads back differently from what was sent${withdrawn ? ' and was removed' : ''}.`,
    withdrawn ? 'Run again; look for a proxy that changes data.' : `Delete ${name}: it is not a sound snapshot.`,
  );
}

async function sha256Of(store: BlobStore, name: string, etag: string, size: number): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of store.read(name, etag, size)) hash.update(piece);
  return hash.digest('hex');
}

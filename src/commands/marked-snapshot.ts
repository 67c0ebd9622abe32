import { ExitCode, UsageError, WorkerError } from '../errors.ts';
import { assertStored } from '../snapshot/operand-name.ts';
import { takenAtOf } from '../snapshot/snapshot-name.ts';
import { openBlob, type SnapshotSource } from '../snapshot/source.ts';
import type { StoredBlob } from '../store/catalogue.ts';
import type { BlobStore } from '../store/store.ts';
import { printable } from '../text.ts';

/** The snapshot that an operand names. @throws WorkerError (no such snapshot), UsageError for what cannot be marked, StorageError */
export async function findMarkable(store: BlobStore, operand: string): Promise<SnapshotSource> {
  const hint = 'Give a snapshot that `etcd-snapshot list` shows.';
  assertStored(operand);
  const source = await openBlob(store, operand);
  if (source.record !== undefined && takenAtOf(store.prefix, source.name) !== undefined) return source;
  const why = source.problem ?? 'it has no record, or another name than this tool gives';
  throw new UsageError(`${printable(source.name)} is no snapshot, and retention never deletes it: ${why}.`, hint);
}

/** @throws WorkerError (no such snapshot) */
export function assertStillThere(name: string, blobs: readonly StoredBlob[]): void {
  if (blobs.some((blob) => blob.name === name)) return;
  throw new WorkerError(
    ExitCode.noSuchSnapshot,
    `${printable(name)} was deleted while it was marked.`,
    'Choose another snapshot. To see them, run: etcd-snapshot list',
  );
}

/** The names of all blobs of a snapshot: those that `rewrap` stored, and their bundles. */
export function formsOf(prefix: string, name: string, blobs: readonly StoredBlob[]): string[] {
  const moment = takenAtOf(prefix, name)?.getTime();
  const forms = blobs.filter((blob) => blob.record && takenAtOf(prefix, blob.name)?.getTime() === moment);
  return forms.flatMap(({ name: form, bundle }) => (bundle === undefined ? [form] : [form, bundle.name]));
}

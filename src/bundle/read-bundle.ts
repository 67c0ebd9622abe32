import { ExitCode, VerificationError, WorkerError } from '../errors.ts';
import type { Identity } from '../sealed/age-header.ts';
import { unseal } from '../sealed/unseal.ts';
import type { SnapshotSource } from '../snapshot/source.ts';
import { assertOpens, assertReadable, type StoredForm } from '../snapshot/stored-form.ts';
import { bundleName } from '../snapshot/snapshot-name.ts';
import type { StoredBlob } from '../store/catalogue.ts';
import type { BlobStore } from '../store/store.ts';
import { printable } from '../text.ts';
import { type ArchiveEntry, unpack } from './archive.ts';

/** The opened bundle of a snapshot. */
export interface OpenedBundle {
  readonly name: string;
  /** Bytes of the blob. */
  readonly size: number;
  /** Of the blob. */
  readonly sha256: string;
  readonly entries: readonly ArchiveEntry[];
}

/**
 * Reads and checks the bundle that the record of a snapshot names.
 * @param identities undefined where none are known
 * @throws WorkerError (no such bundle); UsageError when it is encrypted for others; VerificationError when it is not what was
 *   stored; StorageError
 */
export async function openBundle(
  store: BlobStore,
  { name: snapshot, record, problem }: SnapshotSource,
  identities: readonly Identity[] | undefined,
): Promise<OpenedBundle> {
  const name = bundleName(snapshot);
  const { bundleSha256: sha256, recipients = [] } = record ?? {};
  if (sha256 === undefined) {
    throw noBundle(
      `The snapshot ${printable(snapshot)} has no bundle${record === undefined ? `: ${problem ?? 'it has no record'}` : ''}.`,
      'Set SNAPSHOT_BUNDLE for the backups, or use a snapshot that `etcd-snapshot list --json` shows with a bundle.',
    );
  }
  const { etag, size } = await findBundle(store, name);
  const read = (): AsyncIterable<Buffer> => store.read(name, etag, size);
  const form: StoredForm = { encoding: 'zstd+age', size, sha256, recipients, identities, read };
  assertReadable(name, form);
  if (identities !== undefined) assertOpens(identities, name, form);
  const expected = { name, encoding: form.encoding, size: undefined, storedSha256: sha256 };
  const entries = await unpack(name, unseal(read(), { ...expected, identities: identities ?? [] }));
  return { name, size, sha256, entries };
}

/**
 * Whether the bundle of a snapshot is stored as its record says. No key is needed.
 * @throws WorkerError (no such bundle); VerificationError; StorageError
 */
export async function assertBundleStored(store: BlobStore, snapshot: SnapshotSource): Promise<void> {
  const { bundleSha256 } = snapshot.record ?? {};
  if (bundleSha256 === undefined) return;
  const { name, etag, size } = await findBundle(store, bundleName(snapshot.name));
  if ((await store.sha256Of(name, etag, size)) === bundleSha256) return;
  throw new VerificationError(
    `The bundle ${printable(name)} is not the one that was stored with its snapshot.`,
    'Find out what changed it, or use another snapshot.',
  );
}

/** @throws WorkerError (no such bundle); StorageError */
async function findBundle(store: BlobStore, name: string): Promise<StoredBlob> {
  const blob = await store.find(name);
  if (blob !== undefined) return blob;
  throw noBundle(`The bundle ${printable(name)} is missing.`, 'Find out what deleted it, or use another snapshot.');
}

function noBundle(message: string, hint: string): WorkerError {
  return new WorkerError(ExitCode.noSuchSnapshot, message, hint);
}

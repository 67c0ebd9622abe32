import { createReadStream, existsSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { ExitCode, WorkerError } from './errors.ts';
import type { SnapshotRecord } from './snapshot/record.ts';
import type { BlobStore } from './store/store.ts';

/** A snapshot that can be read, wherever it is. */
export interface SnapshotSource {
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  readonly record: SnapshotRecord | undefined;
  /** All of its bytes, from the beginning; each call reads anew, and fails when it is no longer the same. */
  read(): AsyncIterable<Buffer>;
}

/** Whether an operand means a file of this machine: it looks like a path, or a file of that name is there. */
export function isFileName(operand: string): boolean {
  return /^\.{0,2}\//.test(operand) || existsSync(operand);
}

/** @throws WorkerError (no such snapshot) */
export async function openFile(path: string, signal: AbortSignal): Promise<SnapshotSource> {
  try {
    const file = await open(path);
    const { size } = await file.stat().finally(async () => file.close());
    return {
      name: path,
      size,
      record: undefined,
      read: () => createReadStream(path, { highWaterMark: 1024 * 1024, signal }),
    };
  } catch (error) {
    throw noSuchSnapshot(`The file ${path} cannot be read.`, 'Check the path and its permissions.', error);
  }
}

/** A blob by its name, with or without the prefix. @throws WorkerError (no such snapshot), StorageError */
export async function openBlob(store: BlobStore, name: string): Promise<SnapshotSource> {
  const blob = await store.find(name);
  if (blob === undefined) {
    throw noSuchSnapshot(
      `There is no snapshot ${name} in container ${store.containerName}.`,
      '`etcd-snapshot list` shows what there is; a path to a file begins with ./ or /.',
    );
  }
  const { etag, size, record } = blob;
  return { name: blob.name, size, record, read: () => store.read(blob.name, etag, size) };
}

function noSuchSnapshot(message: string, hint: string, cause?: unknown): WorkerError {
  return new WorkerError(ExitCode.noSuchSnapshot, message, hint, cause);
}

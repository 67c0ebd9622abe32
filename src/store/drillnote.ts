import type { ContainerClient } from '@azure/storage-blob';
import { codeOf } from './errors.ts';
import type { Requests } from './requests.ts';

/** That a stored snapshot was proven restorable, kept beside the snapshots so that anybody can see when it last was. */
export interface DrillNote {
  readonly at: Date;
  /** Name of the snapshot. */
  readonly snapshot: string;
  /** How long its recovery took, in milliseconds. */
  readonly recoveryMs: number;
}

/**
 * What the names of all notes begin with. Each drill writes a new one, for neither the role of a writer nor an immutability
 * policy lets a blob be overwritten. They are no snapshots, and no list shows them.
 */
export function drillNotePrefix(prefix: string): string {
  return `${prefix}etcd-snapshot-drills/`;
}

/** @throws StorageError */
export async function writeDrillNote(
  container: ContainerClient,
  prefix: string,
  requests: Requests,
  { at, snapshot, recoveryMs }: DrillNote,
): Promise<void> {
  const body = Buffer.from(`${JSON.stringify({ at, snapshot, recoveryMs })}\n`);
  const metadata = { at: at.toISOString(), snapshot: encodeURIComponent(snapshot), recoveryms: String(recoveryMs) };
  const blobHTTPHeaders = { blobContentType: 'application/json' };
  const conditions = { ifNoneMatch: '*' };
  const blob = container.getBlockBlobClient(`${drillNotePrefix(prefix)}${at.toISOString().replaceAll(':', '-')}.json`);
  try {
    await requests.send('noting the drill', (abortSignal) =>
      blob.upload(body, body.length, { metadata, blobHTTPHeaders, conditions, abortSignal }),
    );
  } catch (error) {
    // An earlier try arrived, and its answer was lost.
    if (codeOf(error) !== 'BlobAlreadyExists') throw error;
  }
}

/** Undefined when there was no drill yet. @throws StorageError */
export async function readDrillNote(
  container: ContainerClient,
  prefix: string,
  requests: Requests,
): Promise<DrillNote | undefined> {
  const metadata = await requests.send('looking for the last drill', async (abortSignal) => {
    let last: Record<string, string> | undefined;
    // In the order of their names, which is that of their times.
    for await (const blob of container.listBlobsFlat({
      prefix: drillNotePrefix(prefix),
      includeMetadata: true,
      abortSignal,
    })) {
      last = blob.metadata;
    }
    return last;
  });
  const at = new Date(metadata?.['at'] ?? '');
  const snapshot = decodeURIComponent(metadata?.['snapshot'] ?? '');
  const recoveryMs = Number(metadata?.['recoveryms']);
  return Number.isNaN(at.getTime()) || Number.isNaN(recoveryMs) ? undefined : { at, snapshot, recoveryMs };
}

import type { ContainerClient } from '@azure/storage-blob';
import { isMissing } from './gone.ts';
import type { Requests } from './requests.ts';

/** That a stored snapshot was proven restorable, kept beside the snapshots so that anybody can see when it last was. */
export interface DrillNote {
  readonly at: Date;
  /** Name of the snapshot. */
  readonly snapshot: string;
  /** How long its recovery took, in milliseconds. */
  readonly recoveryMs: number;
}

/** One blob, written anew by each drill. It is no snapshot, and no list shows it. */
export function drillNoteName(prefix: string): string {
  return `${prefix}etcd-snapshot-last-drill.json`;
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
  await requests.send('noting the drill', (abortSignal) =>
    container
      .getBlockBlobClient(drillNoteName(prefix))
      .upload(body, body.length, { metadata, blobHTTPHeaders, abortSignal }),
  );
}

/** Undefined when there was no drill yet. @throws StorageError */
export async function readDrillNote(
  container: ContainerClient,
  prefix: string,
  requests: Requests,
): Promise<DrillNote | undefined> {
  try {
    const { metadata } = await requests.send('looking for the last drill', (abortSignal) =>
      container.getBlobClient(drillNoteName(prefix)).getProperties({ abortSignal }),
    );
    const at = new Date(metadata?.['at'] ?? '');
    const snapshot = decodeURIComponent(metadata?.['snapshot'] ?? '');
    const recoveryMs = Number(metadata?.['recoveryms']);
    return Number.isNaN(at.getTime()) || Number.isNaN(recoveryMs) ? undefined : { at, snapshot, recoveryMs };
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

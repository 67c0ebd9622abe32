import type { ContainerClient } from '@azure/storage-blob';
import * as v from 'valibot';
import { CLOCK_SKEW_MS } from '../snapshot/inventory.ts';
import { Time } from '../snapshot/record.ts';
import { pagesOf } from './catalogue.ts';
import { codeOf } from './errors.ts';
import type { Requests } from './requests.ts';

/** A successful drill, stored next to the snapshots so that anybody can see when the last one was. */
export interface DrillNote {
  readonly at: Date;
  /** Name of the snapshot. */
  readonly snapshot: string;
  /** Duration of its recovery, in milliseconds. */
  readonly recoveryMs: number;
}

/**
 * The prefix of all notes. Each drill writes a new one, because the rights or an immutability policy can forbid overwriting. Notes
 * are no snapshots and are not listed.
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
  const options = {
    metadata,
    blobHTTPHeaders: { blobContentType: 'application/json' },
    conditions: { ifNoneMatch: '*' },
  };
  const blob = container.getBlockBlobClient(`${drillNotePrefix(prefix)}${metadata.at.replaceAll(':', '-')}.json`);
  try {
    await requests.send('recording the drill', (abortSignal) =>
      blob.upload(body, body.length, { ...options, abortSignal }),
    );
  } catch (error) {
    // An earlier try arrived, and its answer was lost.
    if (codeOf(error) !== 'BlobAlreadyExists') throw error;
  }
}

/** The last successful drill; undefined if there was none. Invalid notes are ignored. @throws StorageError */
export async function readDrillNote(
  container: ContainerClient,
  prefix: string,
  requests: Requests,
  now: Date,
): Promise<DrillNote | undefined> {
  let last: DrillNote | undefined;
  for await (const page of pagesOf(container, drillNotePrefix(prefix), 'looking for the last drill', requests)) {
    for (const { metadata } of page) {
      const note = v.safeParse(Note, metadata);
      if (!note.success) continue;
      const { at, snapshot, recoveryms: recoveryMs } = note.output;
      const isPast = at.getTime() <= now.getTime() + CLOCK_SKEW_MS;
      if (isPast && (last === undefined || at > last.at)) last = { at, snapshot, recoveryMs };
    }
  }
  return last;
}

const Note = v.object({
  at: Time,
  snapshot: v.pipe(v.string(), v.maxLength(8192), v.transform(decode), v.string(), v.minLength(1), v.maxLength(1024)),
  recoveryms: v.pipe(v.string(), v.regex(/^\d{1,12}(\.\d{1,20})?$/), v.transform(Number)),
});

/** Undefined for an invalid percent encoding. */
function decode(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

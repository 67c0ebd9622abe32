import type { ContainerClient } from '@azure/storage-blob';
import * as v from 'valibot';
import { CLOCK_SKEW_MS } from '../snapshot/inventory.ts';
import { Time } from '../snapshot/record.ts';
import { pagesOf } from './catalogue.ts';
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

/** The last drill that succeeded; undefined when there was none. Notes that say anything else are none. @throws StorageError */
export async function readDrillNote(
  container: ContainerClient,
  prefix: string,
  requests: Requests,
  now: Date,
): Promise<DrillNote | undefined> {
  let last: DrillNote | undefined;
  for await (const page of pagesOf(container, drillNotePrefix(prefix), 'looking for the last drill', requests)) {
    for (const { metadata } of page) {
      const note = parseDrillNote(metadata);
      const isPast = note !== undefined && note.at.getTime() <= now.getTime() + CLOCK_SKEW_MS;
      if (isPast && (last === undefined || note.at > last.at)) last = note;
    }
  }
  return last;
}

const Note = v.object({
  at: Time,
  snapshot: v.pipe(v.string(), v.maxLength(8192), v.transform(decoded), v.string(), v.minLength(1), v.maxLength(1024)),
  recoveryms: v.pipe(v.string(), v.regex(/^\d{1,12}(\.\d{1,20})?$/), v.transform(Number)),
});

/** The one parser of notes. Undefined for what is none. */
function parseDrillNote(metadata: unknown): DrillNote | undefined {
  const note = v.safeParse(Note, metadata);
  if (!note.success) return undefined;
  const { at, snapshot, recoveryms: recoveryMs } = note.output;
  return { at, snapshot, recoveryMs };
}

/** Undefined where a percent sign stands for nothing. */
function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

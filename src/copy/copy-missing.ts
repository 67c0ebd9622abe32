import { StorageError, VerificationError, type WorkerError } from '../errors.ts';
import type { Log, Warnings } from '../log.ts';
import type { StartProgress } from '../progress.ts';
import { hasOtherSize, isRecorded } from '../snapshot/inventory.ts';
import { keepsOrReleases } from '../snapshot/marks.ts';
import { bundleName } from '../snapshot/snapshot-name.ts';
import type { Listing, StoredBlob } from '../store/catalogue.ts';
import type { StoredEvent } from '../store/events.ts';
import type { BlobStore } from '../store/store.ts';
import { afterColon, firstOf } from '../text.ts';
import { type Copied, type CopiedBlob, copyBlob, type Places } from './copy-blob.ts';
import { copyEvents } from './copy-events.ts';
import { isDone, type Lack, lackOf, planCopies, type PlannedCopy } from './plan-copies.ts';

/** A snapshot that was copied, under its name in the first place. */
interface CopiedSnapshot {
  readonly name: string;
  /** Bytes of its blob. */
  readonly size: number;
  /** Whether this run copied its bundle. */
  readonly bundle: boolean;
}

/** What a run copied, and what it could not. */
export interface CopyResult extends Lack {
  readonly copied: readonly CopiedSnapshot[];
  /** How many marks were copied. */
  readonly marks: number;
  /** Snapshots that the second place had already. */
  readonly present: number;
  /** Names of those that an earlier run stored, and this one read back. */
  readonly readBack: readonly string[];
  /** Names of those that were deleted or replaced in the first place during the run. */
  readonly disappeared: readonly string[];
  /** Those that cannot be copied, each with a reason that follows its name. */
  readonly problems: readonly { readonly name: string; readonly problem: string }[];
  /** Those that cannot be read now, in one of the places. */
  readonly archived: readonly { readonly name: string; readonly place: 'first' | 'second' }[];
  /** What ended it before everything was tried. */
  readonly failure?: StorageError;
}

interface CopyOptions {
  readonly startProgress: StartProgress;
  readonly log: Log;
  readonly warnings: Warnings;
}

/** What the second place has; undefined where its container does not exist yet. @throws StorageError */
export async function listSecond(second: BlobStore): Promise<Listing | undefined> {
  try {
    return await second.listAll();
  } catch (error) {
    if (error instanceof StorageError && error.code === 'ContainerNotFound') return undefined;
    throw error;
  }
}

/**
 * Copies the snapshots that the second place lacks, the newest first, each with its bundle, and all marks. What cannot be copied
 * does not stop the rest.
 * @param listing of the first place
 * @param isWanted which snapshots are copied
 * @throws StorageError when the second place cannot be listed
 */
export async function copyMissing(
  places: Places,
  { blobs, events }: Listing,
  isWanted: (name: string) => boolean,
  { startProgress, log, warnings }: CopyOptions,
): Promise<CopyResult> {
  const { first, second } = places;
  const listed = await listSecond(second);
  const planned = planCopies({ prefix: first.prefix, blobs }, { prefix: second.prefix, blobs: listed?.blobs ?? [] });
  const there = new Set(planned.filter(isDone).map(({ snapshot }) => snapshot.name));
  const present = there.size;
  const copied: CopiedSnapshot[] = [];
  const [readBack, disappeared]: [string[], string[]] = [[], []];
  const archived: CopyResult['archived'][number][] = [];
  const problems = blobs.filter(({ name }) => isWanted(name)).flatMap(problemOf);
  let [marks, failure]: [number, StorageError | undefined] = [0, undefined];
  const marksHere = events.filter(keepsOrReleases);
  const copyOne = async (task: PlannedCopy): Promise<void> => {
    const { name, size, storedAt } = task.snapshot;
    const { blob, bundle } = await copySnapshot(places, task, startProgress);
    if (blob.result === 'disappeared') {
      disappeared.push(name);
      const hint = 'Ignore this if retention removed it.';
      warnings.add(`${name} was deleted or replaced during the run, and is skipped.`, hint);
      return;
    }
    problems.push(...problemIn(bundleName(name), bundle?.result), ...problemIn(name, blob.result));
    archived.push(...archivedIn(bundleName(name), bundle?.result), ...archivedIn(name, blob.result));
    if (blob.etag === undefined) return;
    const isNew = blob.result === 'copied' || bundle?.result === 'copied';
    if (isNew) {
      copied.push({ name, size, bundle: bundle?.result === 'copied' });
      log.info('copied snapshot', { name, size, container: second.containerName });
    }
    if (bundle !== undefined && bundle.etag === undefined) return;
    await second.noteCopy(task.blob.to, { etag: blob.etag, bundleEtag: bundle?.etag, originalStoredAt: storedAt });
    there.add(name);
    if (isNew) return;
    readBack.push(name);
    log.info('read back a copy of an earlier run', { name, container: second.containerName });
  };
  try {
    // Before the snapshots, so that retention in the second place keeps those with a mark from the beginning.
    if (listed !== undefined) marks = await copyEvents(places, marksHere, listed.events);
    for (const task of planned) {
      const { name } = task.snapshot;
      if (!there.has(name) && isWanted(name)) await copyOne(task);
    }
    // The container exists now, if there was anything to copy.
    if (listed === undefined && copied.length > 0) marks = await copyEvents(places, marksHere, []);
    // After the forms that they are about, which were compared with their records on the way.
    const isThere = ({ fields }: StoredEvent): boolean => there.has(`${first.prefix}${String(fields['form'])}`);
    const forms = events.filter((event) => event.kind === 'form' && isThere(event));
    if (forms.length > 0) await copyEvents(places, forms, listed?.events ?? []);
  } catch (error) {
    if (!(error instanceof StorageError)) throw error;
    failure = error;
  }
  const gone = new Set(disappeared);
  const left = planned.map(({ snapshot }) => snapshot).filter(({ name }) => !gone.has(name));
  const lack = lackOf(left, there, new Date());
  return { copied, marks, present, readBack, disappeared, problems, archived, ...lack, ...(failure && { failure }) };
}

/** The bundle becomes visible immediately before its snapshot, which must not be without its keys. */
async function copySnapshot(
  places: Places,
  { blob, bundle }: PlannedCopy,
  startProgress: StartProgress,
): Promise<{ readonly blob: CopiedBlob; readonly bundle: CopiedBlob | undefined }> {
  let ofBundle: CopiedBlob | undefined;
  const copyBundle = async (): Promise<void> => {
    if (bundle !== undefined) ofBundle ??= await copyBlob(places, bundle, startProgress);
  };
  const ofBlob = await copyBlob(places, blob, startProgress, copyBundle);
  if (ofBlob.result === 'present') await copyBundle();
  return { blob: ofBlob, bundle: ofBundle };
}

/** What the list shows: a blob that does not match its record, which is therefore no snapshot. */
function problemOf(blob: StoredBlob): CopyResult['problems'] {
  const { name, problem, signature } = blob;
  const isChanged = !isRecorded(blob) && problem !== undefined && (hasOtherSize(blob) || signature?.state === 'bad');
  return isChanged ? [{ name, problem: `does not match its record: ${problem}` }] : [];
}

function problemIn(name: string, result: Copied | undefined): CopyResult['problems'] {
  if (result === 'corrupt') return [{ name, problem: 'does not match its record' }];
  return result === 'conflict' ? [{ name, problem: 'is not what the second place has under its name' }] : [];
}

function archivedIn(name: string, result: Copied | undefined): CopyResult['archived'] {
  if (result === 'archived') return [{ name, place: 'first' }];
  return result === 'copyArchived' ? [{ name, place: 'second' }] : [];
}

/** Names in one message. */
const SHOWN = 5;

/** The error to end with, if something could not be copied: a blob that differs counts more than one that cannot be read. */
export function failureOf({ problems, archived, failure }: CopyResult): WorkerError | undefined {
  const inArchive = archived.map(({ name, place }) => `${name} is in the archive tier of the ${place} place`);
  const differing = problems.map(({ name, problem }) => `${name} ${problem}`);
  const parts = [...firstOf(differing, SHOWN), ...firstOf(inArchive, SHOWN)];
  if (parts.length === 0) return failure;
  const ended = failure === undefined ? [] : [afterColon(failure.message).replace(/\.$/, '')];
  const message = `Not everything could be copied: ${[...parts, ...ended].join('; ')}.`;
  const hints = [
    ...(problems.length > 0 ? [DIFFERS_HINT] : []),
    ...(['first', 'second'] as const)
      .filter((each) => archived.some(({ place }) => place === each))
      .map((each) => ARCHIVED_HINTS[each]),
    ...(failure === undefined ? [] : [failure.hint]),
  ];
  if (problems.length > 0) return new VerificationError(message, hints.join(' '), failure);
  return new StorageError(failure?.code ?? 'BlobArchived', message, hints.join(' '), failure);
}

const DIFFERS_HINT =
  'Run `etcd-snapshot verify NAME` without and with --from-copy, and find out who changed the blob. Nothing was overwritten.';
const ARCHIVED_HINTS = {
  first:
    'Run `etcd-snapshot restore NAME --rehydrate --download FILE`, which makes the snapshot readable again, and later `copy`.',
  second: 'Move the copy to another tier (az storage blob set-tier), and run `copy` again when it can be read.',
};

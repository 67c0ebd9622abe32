import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { ExitCode, UnsafeError, UsageError, VerificationError, WorkerError } from '../errors.ts';
import { openRegular, partsOf, piecesOf, type Place, whyUnreadable } from '../files.ts';
import type { Log } from '../log.ts';
import type { StartProgress } from '../progress.ts';
import type { StoredBlob } from '../store/catalogue.ts';
import type { BlobStore } from '../store/store.ts';
import { printable } from '../text.ts';
import { type FileKind, hintFor, recognize } from './file-kind.ts';
import type { Identity } from '../sealed/age-header.ts';
import { type ClusterIds, isUntrusted, laterThan, newestSnapshot, signatureProblem } from './inventory.ts';
import { hintAboutMissing } from './operand-name.ts';
import { passUnverified } from './passes.ts';
import { fileSizeOf, sealOf, type SnapshotRecord } from './record.ts';
import type { RecordSignature } from './signature-state.ts';
import { type Encoding, encodingOfName, isBundleName, isEncrypted } from './snapshot-name.ts';
import { assertOpens, encodingText, open, openedBytes, type StoredForm, storedFormOf } from './stored-form.ts';
import type { VerdictWithoutHash } from './verify/verdict.ts';
import type { SnapshotFacts } from './verify/verdict.ts';
import { SnapshotVerifier } from './verify/verifier.ts';

/** A snapshot that can be read, wherever it is. */
export interface SnapshotSource {
  readonly name: string;
  /** Bytes of the snapshot's file. */
  readonly size: number;
  /** Undefined where what is stored is the snapshot's file itself. */
  readonly stored: StoredForm | undefined;
  readonly record: SnapshotRecord | undefined;
  /** By its record, or else by its name in the container. Of a file of this machine: when it was last written to. Ages count from it. */
  readonly takenAt: Date;
  /** Of its record. */
  readonly signature?: RecordSignature | undefined;
  /** Why a stored snapshot has no record although it has metadata of this tool. */
  readonly problem?: string | undefined;
  /** Where a stored snapshot's bytes are the same as in an earlier run; undefined for a file of this machine. */
  readonly etag: string | undefined;
  /** It is verified without its sha256, as a copy of a member's database has none; never what is in the container. */
  readonly skipHashCheck: boolean;
  /** The bytes of its file from this one on, to the end; each call reads again, and fails when the snapshot has changed. */
  read(from?: number): AsyncIterable<Buffer>;
  /** Only the bytes at some places; undefined where that would need a request for each of them. */
  readonly readPlaces: ((places: Iterable<Place>) => AsyncIterable<Buffer>) | undefined;
  /** @throws UnsafeError when a file was written to since it was opened */
  assertUnchanged(): Promise<void>;
}

/**
 * Opening and reading throw WorkerError (no such snapshot); reading also the abort's reason.
 * @param options.skipHashCheck for files that have no sha256 at their end
 */
export async function openFile(
  path: string,
  signal: AbortSignal,
  { skipHashCheck = false } = {},
): Promise<SnapshotSource> {
  try {
    const { file, stats: opened } = await openRegular(path);
    await file.close();
    return {
      ...{ name: path, size: opened.size, stored: undefined, record: undefined, etag: undefined, skipHashCheck },
      takenAt: opened.mtime,
      read: (from) => pieces(path, signal, () => piecesOf(path, signal, from)),
      readPlaces: (places) => pieces(path, signal, () => partsOf(path, signal, places)),
      async assertUnchanged() {
        const found = await stat(path).catch((error: unknown) => {
          throw unreadable(path, error);
        });
        // Nobody can set the time of the last change (ctime).
        const isSame = (['dev', 'ino', 'size', 'mtimeMs', 'ctimeMs'] as const).every(
          (key) => found[key] === opened[key],
        );
        if (isSame) return;
        throw new UnsafeError(
          `${printable(path)} was changed while it was read.`,
          'If it is the database of a member, stop its etcd first, or give a copy of the file.',
        );
      },
    };
  } catch (error) {
    throw unreadable(path, error);
  }
}

/** Of a file. A piece is valid until the next one is taken. */
async function* pieces(
  path: string,
  signal: AbortSignal,
  read: () => AsyncIterable<Buffer>,
): AsyncGenerator<Buffer, void, void> {
  try {
    yield* read();
  } catch (error) {
    throw signal.aborted ? signal.reason : unreadable(path, error);
  }
}

/**
 * The same for a file that can also be a sealed snapshot: no record says so, but its first bytes do.
 * @param loadIdentities called if it is encrypted
 * @throws UsageError when no identity opens it
 */
export async function openFileOrSealed(
  path: string,
  signal: AbortSignal,
  loadIdentities: () => Promise<readonly Identity[] | undefined>,
  options: Parameters<typeof openFile>[2] = {},
): Promise<SnapshotSource> {
  const file = await openFile(path, signal, options);
  const { name } = file;
  const outer = await encodingOf(file);
  if (outer === undefined) return file;
  const form = { size: file.size, sha256: undefined, recipients: [], read: (from?: number) => file.read(from) };
  const identities = isEncrypted(outer) ? await loadIdentities() : undefined;
  let stored: StoredForm = { ...form, encoding: outer, identities };
  const isInside = async (): Promise<boolean> =>
    (await encodingOf({ read: () => openedBytes(name, stored) })) === 'zstd';
  if (isEncrypted(outer) && (await isInside())) stored = { ...stored, encoding: 'zstd+age' };
  // Its size is known only when it was unpacked once.
  let size = 0;
  for await (const piece of openedBytes(name, stored)) size += piece.length;
  return { ...file, ...open(name, stored, size) };
}

async function encodingOf(file: Pick<SnapshotSource, 'read'>): Promise<Encoding | undefined> {
  for await (const piece of file.read()) return recognize(piece)?.encoding;
  return undefined;
}

/** The same snapshot with identities that can open it. @throws UsageError when its record says that it is for others */
export function withIdentities(
  source: SnapshotSource,
  stored: StoredForm,
  identities: readonly Identity[],
): SnapshotSource {
  assertOpens(identities, source.name, stored);
  return { ...source, ...open(source.name, { ...stored, identities }, source.size) };
}

/**
 * Reads the stored bytes of an encrypted snapshot, which cannot be opened.
 * @throws VerificationError when they do not match the record: their sha256, or their beginning
 */
export async function verifyStored(
  source: SnapshotSource,
  stored: StoredForm,
  options: Pick<ReadOptions, 'startProgress'>,
): Promise<void> {
  const hash = createHash('sha256');
  let isAge: boolean | undefined;
  const push = (piece: Uint8Array): void => {
    isAge ??= recognize(piece)?.encoding === 'age';
    hash.update(piece);
  };
  const asStored = { ...source, size: stored.size, read: () => stored.read() };
  await passUnverified(asStored, `verifying ${source.name}`, options, { push });
  const isSame = hash.digest('hex') === stored.sha256;
  if (isSame && isAge === true) return;
  const problem = isSame ? 'its blob is not encrypted with age' : 'the sha256 of its blob does not match its record';
  const hint = 'Use another snapshot. To see them, run: etcd-snapshot list';
  throw invalidSnapshot(source, problem, undefined, hint);
}

/** The same sealed snapshot, whose stored bytes are in a file of this machine. */
export function storedInFile(
  source: SnapshotSource,
  stored: StoredForm,
  path: string,
  signal: AbortSignal,
): SnapshotSource {
  const read = (from?: number): AsyncIterable<Buffer> => pieces(path, signal, () => piecesOf(path, signal, from));
  return { ...source, ...open(source.name, { ...stored, read }, source.size) };
}

/** The error of a file of this machine that cannot be read. */
export function unreadable(path: string, error: unknown): WorkerError {
  if (error instanceof WorkerError) return error;
  const hint = 'Check the path and its permissions.';
  return noSuchSnapshot(`The file ${printable(path)} cannot be read: it ${whyUnreadable(error)}.`, hint, error);
}

/** A blob by its name, with or without the prefix. @throws WorkerError (no such snapshot), StorageError, VerificationError */
export async function openBlob(store: BlobStore, name: string): Promise<SnapshotSource> {
  if (isBundleName(name)) {
    throw new UsageError(
      `${printable(name)} is a bundle of keys, not a snapshot.`,
      'Give the name of its snapshot; `etcd-snapshot bundle` lists the keys.',
    );
  }
  const blob = await store.find(name);
  if (blob !== undefined) {
    assertTrusted(blob, store.requiresSignatures);
    return sourceOf(store, blob);
  }
  throw noSuchSnapshot(
    `There is no snapshot ${printable(name)} in container ${store.containerName}.`,
    `${await hintAboutMissing(store, name)}. To see the snapshots, run: etcd-snapshot list`,
  );
}

/** @throws VerificationError for a blob with a signature that forbids to use it */
function assertTrusted(blob: StoredBlob, areRequired: boolean): void {
  const problem = signatureProblem(blob, areRequired);
  if (problem === undefined) return;
  const isBad = blob.signature?.state === 'bad';
  throw new VerificationError(
    `${printable(blob.name)} is not trusted: ${problem}.`,
    isBad
      ? 'Use another snapshot, and find out who changed this one. To see them, run: etcd-snapshot list'
      : 'Use a signed snapshot, or add the key that signed this one to SNAPSHOT_VERIFICATION_KEYS_FILE. If you know where it comes from, run the command without that variable.',
  );
}

/**
 * The newest snapshot of the cluster: it has a record, so it was verified.
 * @throws WorkerError (no such snapshot), StorageError, UsageError when several clusters are possible
 */
export async function openNewest(
  store: BlobStore,
  wanted: ClusterIds & { readonly takenBefore?: Date | undefined },
  log: Log,
): Promise<SnapshotSource> {
  const { clusterId, takenBefore } = wanted;
  const isBefore = ({ takenAt }: StoredBlob): boolean =>
    takenBefore === undefined || (takenAt !== undefined && takenAt < takenBefore);
  const blobs = (await store.list()).filter(isBefore);
  const newest = newestSnapshot(blobs, wanted, new Date());
  if (newest !== undefined) {
    const later = laterThan(newest, blobs);
    if (later !== undefined) {
      log.warn(`${later.name} was stored after the newest snapshot ${newest.name} and has a higher revision.`, {
        hint: 'To use it, give its name. Check the clocks of the hosts that take snapshots.',
      });
    }
    const isNewer = (blob: StoredBlob): boolean => blob.takenAt !== undefined && blob.takenAt > newest.record.takenAt;
    for (const { name, problem } of blobs.filter((blob) => isUntrusted(blob) && isNewer(blob))) {
      log.warn(`ignoring ${name}, which is newer: ${problem}`);
    }
    return sourceOf(store, newest);
  }
  const before = takenBefore === undefined ? '' : `, taken before ${takenBefore.toISOString()}`;
  throw noSuchSnapshot(
    `There is no verified snapshot${clusterId === undefined ? '' : ` of cluster ${clusterId}`} in container ${store.containerName}${before}.`,
    store.requiresSignatures
      ? 'Run `etcd-snapshot list` to see why blobs do not count. Only those that a key in SNAPSHOT_VERIFICATION_KEYS_FILE verifies can be used.'
      : 'Run `etcd-snapshot list` to see the blobs. Give the name of a snapshot that has no record, or is dated in the future.',
  );
}

interface ReadOptions {
  readonly startProgress: StartProgress;
  /** Bytes of memory for the verifier. */
  readonly memoryBudget: number;
}

/** Verifies all of a snapshot. Throws what reading it throws. */
export async function readThrough(source: SnapshotSource, options: ReadOptions): Promise<VerdictWithoutHash> {
  const verifier = new SnapshotVerifier(options);
  await passUnverified(source, `verifying ${source.name}`, options, verifier);
  if (!source.skipHashCheck) return verifier.finish();
  // No checksum would show that the pages are of different times.
  await source.assertUnchanged();
  return verifier.finishWithoutHash();
}

/** What the operator should know of a file that was verified without its sha256, with a hint; undefined = nothing. */
export function checksumWarning(
  { name, skipHashCheck }: SnapshotSource,
  verdict: VerdictWithoutHash,
): readonly [sentence: string, hint: string] | undefined {
  if (!skipHashCheck || !verdict.ok || verdict.checksum === 'valid') return undefined;
  const [why, hint] =
    verdict.checksum === 'missing'
      ? ['the file has none', 'Prefer a file with a sha256: without it, a changed byte of a value cannot be detected.']
      : [
          'it does not match the file',
          'Use another snapshot if there is one: this file was changed after it was written.',
        ];
  return [`The sha256 of ${printable(name)} was not checked: ${why}.`, hint];
}

/**
 * The facts of a valid snapshot.
 * @param hint for an error without a better one
 * @throws VerificationError when it is corrupt, or does not match its record
 */
export function factsOf(source: SnapshotSource, verdict: VerdictWithoutHash, hint: string): SnapshotFacts {
  const { record } = source;
  const isRecorded = record === undefined || record.sha256 === verdict.report.sha256;
  if (verdict.ok && isRecorded) return verdict.snapshot.facts;
  if (verdict.ok) throw invalidSnapshot(source, 'its sha256 does not match its record', undefined, hint);
  throw invalidSnapshot(source, verdict.problems[0].message, verdict.kind, hint);
}

/** @param hint if there is no better one for `kind` */
export function invalidSnapshot(
  { name, etag, skipHashCheck }: SnapshotSource,
  problem: string,
  kind: FileKind | undefined,
  hint: string,
): VerificationError {
  const onCopy =
    'Make another copy, preferably with etcd stopped, or copy from another member: a copy made while etcd writes is often inconsistent.';
  const better = kind === undefined ? (skipHashCheck ? onCopy : hint) : hintFor(kind, name, etag !== undefined);
  return new VerificationError(`${printable(name)} is not a valid snapshot: ${problem}.`, better);
}

/** @throws VerificationError when name and record of a blob contradict each other */
function sourceOf(store: BlobStore, blob: StoredBlob): SnapshotSource {
  const { name, etag, size, record, signature, problem, takenAt = blob.storedAt } = blob;
  const seal = record && sealOf(record);
  if (record !== undefined && encodingOfName(name) !== seal?.encoding) {
    throw new VerificationError(
      `${printable(name)} is not a valid snapshot: its name does not match its record, which says ${encodingText(seal?.encoding)}.`,
      'Use another snapshot. To see them, run: etcd-snapshot list',
    );
  }
  const read = (from?: number): AsyncIterable<Buffer> => store.read(name, etag, size, from);
  return {
    ...{ name, record, takenAt, signature, problem, etag, skipHashCheck: false },
    ...(record === undefined || seal === undefined
      ? { size, stored: undefined, readPlaces: undefined, read }
      : open(name, { ...storedFormOf(seal), size, read }, fileSizeOf(record))),
    // Each read asks for this state of the blob.
    assertUnchanged: async () => {},
  };
}

function noSuchSnapshot(message: string, hint: string, cause?: unknown): WorkerError {
  return new WorkerError(ExitCode.noSuchSnapshot, message, hint, cause);
}

import type { ArchiveEntry } from '../bundle/archive.ts';
import type { StoredBundle } from '../bundle/upload-bundle.ts';
import type { Config } from '../config/config.ts';
import type { StartProgress } from '../progress.ts';
import type { Sealing } from '../sealed/sealing.ts';
import { fieldsOfSeal, parseMetadata, type SnapshotRecord, toMetadata, toolName } from '../snapshot/record.ts';
import { invalidSnapshot, type SnapshotSource } from '../snapshot/source.ts';
import type { Verdict, VerifiedSnapshot } from '../snapshot/verify/verdict.ts';
import type { BlobStore } from '../store/store.ts';
import { readBackStored } from './read-back.ts';
import { verifyAndStage } from './verify-and-stage.ts';

/** What a record says of a snapshot, whatever blob it is in. */
export type Description = Omit<SnapshotRecord, 'uploadId' | 'tool'>;

interface Content {
  readonly source: SnapshotSource;
  /** What the verifier finds, and what belongs to the new blob, is replaced. */
  readonly description: Description;
  /** The files of its bundle; undefined where it has none. */
  readonly bundle?: readonly ArchiveEntry[] | undefined;
}

interface Options {
  readonly config: Pick<Config, 'contentMd5' | 'readBack'>;
  /** Required where there is a bundle. */
  readonly sealing: Sealing | undefined;
  /** Bytes of memory for the verifier. */
  readonly memoryBudget: number;
  readonly startProgress: StartProgress;
  /** Of this program. */
  readonly version: string;
}

/**
 * The path of a backup, from a blob or a file instead of etcd: verifier, sealer, upload, bundle, commit, read-back.
 * @returns the sha256 of the blob
 * @throws VerificationError when it is corrupt, or does not match its record; StorageError, also where reading back is not permitted
 */
export async function storeSource(
  name: string,
  store: BlobStore,
  { source, description, bundle: files }: Content,
  options: Options,
): Promise<string> {
  const { config, sealing, memoryBudget, startProgress, version } = options;
  const uploadBundleOf = async (entries: readonly ArchiveEntry[]): Promise<StoredBundle> => {
    if (sealing === undefined) throw new Error('a bundle is always sealed');
    const { uploadBundle } = await import('../bundle/upload-bundle.ts');
    return uploadBundle(store, { name, upload }, entries, sealing, config.readBack);
  };
  const upload = store.startUpload(name, { isReadBack: config.readBack === 'full', contentMd5: config.contentMd5 });
  try {
    const progress = startProgress(`storing ${name}`, source.size);
    const { verdict, seal } = await verifyAndStage(source.read(), upload, { sealing, memoryBudget, progress });
    const snapshot = validSnapshot(source, description.sha256, verdict);
    const bundle = files && (await uploadBundleOf(files));
    const record = {
      ...description,
      ...countedIn(snapshot, description),
      ...fieldsOfSeal(seal),
      ...{ bundleSha256: bundle?.sha256, bundleKeys: bundle?.keys },
      bundleMissing: bundle && description.bundleMissing,
      ...{ uploadId: upload.uploadId, tool: toolName(version) },
    };
    const { problem } = parseMetadata(toMetadata(record));
    if (problem !== undefined) throw invalidSnapshot(source, problem, undefined, 'Use another snapshot.');
    const { etag } = await upload.commit(snapshot, record);
    const stored = { name, etag, upload, snapshot, seal, sealing };
    const { refusal } = await readBackStored(store, stored, config.readBack, startProgress);
    if (refusal !== undefined) throw refusal;
    return record.storedSha256 ?? record.sha256;
  } catch (error) {
    upload.abort();
    throw error;
  }
}

/** What the verifier found, because a record without a signature can say anything of it. */
function countedIn({ facts }: VerifiedSnapshot, { liveKeys }: Description): Partial<Description> {
  const { hash, revision, totalKeys, totalSize } = facts;
  // Undefined when there was no memory to count them.
  return { hash, revision, totalKeys, totalSize, liveKeys: facts.liveKeys ?? liveKeys };
}

/** @throws VerificationError when it is corrupt, or is not the one that is described */
function validSnapshot(source: SnapshotSource, sha256: string, verdict: Verdict): VerifiedSnapshot {
  const hint = `Run \`etcd-snapshot verify ${source.name}\` to see all problems.`;
  if (!verdict.ok) throw invalidSnapshot(source, verdict.problems[0].message, verdict.kind, hint);
  if (verdict.report.sha256 === sha256) return verdict.snapshot;
  throw invalidSnapshot(source, 'its sha256 does not match its record', undefined, hint);
}

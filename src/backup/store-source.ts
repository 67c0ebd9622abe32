import type { ArchiveEntry } from '../bundle/archive.ts';
import type { StoredBundle } from '../bundle/upload-bundle.ts';
import type { Config } from '../config/config.ts';
import type { StartProgress } from '../progress.ts';
import type { Sealing } from '../sealed/sealing.ts';
import { fieldsOfSeal, type SnapshotRecord, toolName } from '../snapshot/record.ts';
import { factsOf, type SnapshotSource } from '../snapshot/source.ts';
import type { Verdict, VerifiedSnapshot } from '../snapshot/verify/verdict.ts';
import type { BlobStore } from '../store/store.ts';
import { readBackStored } from './read-back.ts';
import { verifyAndStage } from './verify-and-stage.ts';

interface Content extends SnapshotSource {
  /** What is verified here, and what belongs to the new blob, is replaced. */
  readonly record: SnapshotRecord;
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
 * @throws VerificationError when it is corrupt, or does not match its record; StorageError, also where reading back is not permitted
 */
export async function storeSource(name: string, store: BlobStore, source: Content, options: Options): Promise<void> {
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
    const snapshot = validSnapshot(source, verdict);
    const bundle = source.bundle && (await uploadBundleOf(source.bundle));
    const record = {
      ...source.record,
      ...countedIn(snapshot, source.record),
      ...fieldsOfSeal(seal),
      ...{ bundleSha256: bundle?.sha256, bundleKeys: bundle?.keys },
      ...{ uploadId: upload.uploadId, tool: toolName(version) },
    };
    const { etag } = await upload.commit(snapshot, record);
    const stored = { name, etag, upload, snapshot, seal, sealing };
    const { refusal } = await readBackStored(store, stored, config.readBack, startProgress);
    if (refusal !== undefined) throw refusal;
  } catch (error) {
    upload.abort();
    throw error;
  }
}

/** What the verifier found, because a record without a signature can say anything of it. */
function countedIn({ facts }: VerifiedSnapshot, { liveKeys }: SnapshotRecord): Partial<SnapshotRecord> {
  const { hash, revision, totalKeys, totalSize } = facts;
  // Undefined when there was no memory to count them.
  return { hash, revision, totalKeys, totalSize, liveKeys: facts.liveKeys ?? liveKeys };
}

/** @throws VerificationError when it is corrupt, or does not match its record */
function validSnapshot(source: SnapshotSource, verdict: Verdict): VerifiedSnapshot {
  factsOf(source, verdict, `Run \`etcd-snapshot verify ${source.name}\` to see all problems.`);
  if (verdict.ok) return verdict.snapshot;
  throw new Error('a verdict that is not ok has no facts');
}

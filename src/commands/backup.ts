import { finishBackup } from '../backup/finish.ts';
import { findFreeName, findPrevious, makeRecord } from '../backup/make-record.ts';
import { markBackup } from '../backup/mark-backup.ts';
import { backupJson } from '../backup/outcome.ts';
import { readBackStored } from '../backup/read-back.ts';
import { streamFromFirstValidMember } from '../backup/stream-from-member.ts';
import type { Bundling } from '../bundle/store-bundle.ts';
import type { CopyAfterBackup } from '../copy/copy-after-backup.ts';
import type { Config } from '../config/config.ts';
import { ExitCode, UsageError, type WorkerError } from '../errors.ts';
import { connectAll } from '../etcd/connection.ts';
import { chooseMembers } from '../etcd/select-member.ts';
import { Warnings } from '../log.ts';
import { backupMetrics } from '../monitoring/metrics.ts';
import { Stopwatch } from '../progress.ts';
import type { KeepRequest } from '../retention/mark-snapshot.ts';
import type { Sealing } from '../sealed/sealing.ts';
import { blobSizeOf } from '../snapshot/record.ts';
import { humanSeconds, humanSize, statusTable } from '../text.ts';
import type { BlobStore } from '../store/store.ts';
import { type Arguments, type Context, openCopy, openStore, type Outcome, prepareSealing } from './command.ts';
import { readKeepRequest } from './keep-options.ts';

/**
 * The whole job: choose a member, stream its snapshot through the verifier into staged blocks, commit what passed, read back
 * what was stored, compare it with the earlier snapshots, apply retention. A step that cannot keep its promise throws, and
 * no later step happens.
 */
export async function backup(
  context: Context,
  { options }: Pick<Arguments, 'options'> = { options: {} },
): Promise<Outcome & { readonly name: string }> {
  const { config, log, signal, signatures, startProgress, version } = context;
  const keyId = signatures?.signingKeyId;
  const watch = new Stopwatch();
  const warnings = new Warnings(log);
  const keep = readKeep(options);

  const sealing = await prepareSealing(config.sealing, warnings);
  const bundling = await prepareBundling(config.bundle, sealing, warnings);
  const { configured, clientCertificateExpiresAt } = await connectAll(config.etcd, new Date(), warnings);
  const { candidates, ranks } = await watch.time('members', chooseMembers(configured, log, warnings));
  context.known.clusterId = candidates[0]?.status.clusterId;
  const store = await openStore(context);
  const { name, takenAt } = await watch.time('storage', findFreeName(store, sealing?.encoding, signal));

  const startUpload = () =>
    store.startUpload(name, { isReadBack: config.readBack === 'full', contentMd5: config.contentMd5 });
  const streaming = streamFromFirstValidMember(candidates, { ...context, startUpload, sealing, warnings });
  const streamed = await watch.time('stream', streaming);
  const { snapshot, upload } = streamed;
  const { facts } = snapshot;

  const previous = keyId === undefined ? {} : await findPrevious(store, streamed.source.clusterId, warnings);
  const storing = bundling?.store(store, { name, upload }, config.readBack);
  const bundle = storing && (await watch.time('bundle', storing));
  if (bundle?.stored !== undefined) log.info('stored bundle', { name: bundle.stored.name, files: bundle.files });
  const missing = bundle?.missing.length || undefined;
  const record = makeRecord(streamed, takenAt, version, previous, bundle?.stored, missing);
  const { etag } = await watch.time('commit', upload.commit(snapshot, record));
  const stored = { ...streamed, sealing, bundle, name, etag, committedAt: new Date() };
  log.info('stored snapshot', { name, size: facts.size, sha256: record.sha256 });

  const readBack = await watch.time('readBack', readBackStored(store, stored, config.readBack, startProgress));
  if (readBack.state === 'done') log.info('read back stored snapshot: the sha256 matches', { name });
  if (readBack.state === 'off') log.warn('stored snapshot is not read back (SNAPSHOT_READ_BACK=off)', { name });

  const marking = keep && (await watch.time('mark', markBackup(store, name, keep, log)));
  const finishing = finishBackup(store, { ...stored, marking }, readBack, config.retention, warnings, log);
  const { retention, anomalies, recovery, partialFailure: notFinished } = await watch.time('retention', finishing);
  const copying = startCopy(context, store, name, warnings, notFinished);
  const copied = copying && (await watch.time('copy', copying));
  const notCopied = copied?.partialFailure;
  if (notFinished !== undefined && notCopied !== undefined) warnings.add(notCopied.message, notCopied.hint);
  const partialFailure = notFinished ?? notCopied;

  const durationsMs = watch.durations();
  const done = {
    ...{ name, container: store.containerName, streamed, record, readBack, retention, anomalies, durationsMs },
    ...{ bundle, keyId, marking },
  };
  const success = `Backup ${name} uploaded successfully!`;
  const table = statusTable(facts);
  const storedSize = blobSizeOf(record);
  const asStored = storedSize === facts.size ? '' : ` (${humanSize(storedSize)} stored)`;
  return {
    name,
    text: partialFailure === undefined ? `${table}\n${success}` : table,
    json: { ...backupJson({ ...done, ranks, findings: warnings.sentences }), ...(copied && { copy: copied.json }) },
    summary: `${success} ${humanSize(facts.size)}${asStored}, revision ${record.revision}, ${humanSeconds(durationsMs.total)}`,
    measured: {
      ...copied?.measured,
      ...backupMetrics({
        facts,
        storedSize,
        ...done,
        isEncrypted: record.recipients !== undefined,
        isSigned: keyId !== undefined,
        isBundleComplete: bundle && bundle.problem === undefined,
        isReadBack: readBack.state === 'done',
        clientCertificateExpiresAt,
      }),
    },
    recovery,
    ...(partialFailure && { partialFailure }),
  };
}

/** @throws UsageError */
function readKeep({ keep, note }: Arguments['options']): KeepRequest | undefined {
  if (keep !== undefined) return readKeepRequest('--keep', keep, note);
  if (note === undefined) return undefined;
  throw new UsageError('--note is given without --keep.', 'Add --keep: a note belongs to a snapshot that is kept.');
}

/** Only a run with a bundle loads the code for it. */
async function prepareBundling(
  items: Config['bundle'],
  sealing: Sealing | undefined,
  warnings: Warnings,
): Promise<Bundling | undefined> {
  if (items === undefined || sealing === undefined) return undefined;
  const bundles = await import('../bundle/store-bundle.ts');
  return bundles.Bundling.prepare(items, sealing, warnings);
}

/** Only a run that copies loads the code for it. Where nothing is known of the stored blob, it is not copied. */
function startCopy(
  context: Context,
  first: BlobStore,
  name: string,
  warnings: Warnings,
  partialFailure: WorkerError | undefined,
): Promise<CopyAfterBackup> | undefined {
  if (context.config.copy === undefined) return undefined;
  if (partialFailure !== undefined && partialFailure.exitCode !== ExitCode.incomplete) return undefined;
  const copy = async (): Promise<CopyAfterBackup> => {
    const { copyAfterBackup } = await import('../copy/copy-after-backup.ts');
    return copyAfterBackup(first, async () => openCopy(context), name, { ...context, warnings });
  };
  return copy();
}

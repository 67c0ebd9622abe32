import { setTimeout as sleep } from 'node:timers/promises';
import { finishBackup } from '../backup/finish.ts';
import { makeRecord } from '../backup/make-record.ts';
import { readBackStored } from '../backup/read-back.ts';
import { streamFromFirstValidMember } from '../backup/stream-from-member.ts';
import { connectAll } from '../etcd/connection.ts';
import { chooseMembers } from '../etcd/select-member.ts';
import { Warnings } from '../log.ts';
import { backupMetrics } from '../monitoring/metrics.ts';
import { Stopwatch } from '../progress.ts';
import { retentionJson } from '../retention/apply.ts';
import { snapshotName } from '../snapshot/record.ts';
import type { BlobStore } from '../store/store.ts';
import { humanSeconds, humanSize, statusTable } from '../text.ts';
import { type Context, openStore, type Outcome } from './command.ts';

/**
 * The whole job: choose a member, stream its snapshot through the verifier into staged blocks, commit what passed, read back
 * what was stored, compare it with the earlier snapshots, apply retention. A step that cannot keep its promise throws, and
 * no later step happens.
 */
export async function backup(context: Context): Promise<Outcome & { readonly name: string }> {
  const { config, log, signal, startProgress, version } = context;
  const watch = new Stopwatch();
  const warnings = new Warnings(log);

  const { configured, clientCertificateExpiresAt } = await connectAll(config.etcd, new Date(), warnings);
  const { candidates, ranks } = await watch.time('members', chooseMembers(configured, log, warnings));
  const store = await openStore(context);
  const { name, takenAt } = await watch.time('storage', findFreeName(store, signal));

  const startUpload = () =>
    store.startUpload(name, { isReadBack: config.readBack === 'full', contentMd5: config.contentMd5 });
  const streaming = streamFromFirstValidMember(candidates, { ...context, startUpload, warnings });
  const streamed = await watch.time('stream', streaming);
  const { snapshot, upload } = streamed;
  const { facts } = snapshot;

  const record = makeRecord(streamed, takenAt, version);
  const { etag } = await watch.time('commit', upload.commit(snapshot, record));
  const stored = { ...streamed, name, etag, committedAt: new Date() };
  log.info('stored snapshot', { name, size: facts.size, sha256: record.sha256 });

  const readBack = await watch.time('readBack', readBackStored(store, stored, config.readBack, startProgress));
  if (readBack.state === 'done') log.info('read back stored snapshot: the sha256 matches', { name });
  if (readBack.state === 'off') log.warn('stored snapshot is not read back (SNAPSHOT_READ_BACK=off)', { name });

  const finishing = finishBackup(store, stored, readBack, config.retention, warnings, log);
  const { retention, anomalies, partialFailure } = await watch.time('retention', finishing);

  const durationsMs = watch.durations();
  const success = `Backup ${name} uploaded successfully!`;
  const table = statusTable(facts);
  const isReadBack = readBack.state === 'done';
  return {
    name,
    text: partialFailure === undefined ? `${table}\n${success}` : table,
    json: {
      name,
      container: store.containerName,
      size: facts.size,
      sha256: record.sha256,
      hash: record.hash,
      revision: record.revision,
      totalKeys: record.totalKeys,
      liveKeys: record.liveKeys,
      totalSize: record.totalSize,
      etcdVersion: record.etcdVersion,
      clusterId: record.clusterId,
      memberId: record.memberId,
      endpoint: streamed.source.endpoint,
      takenAt,
      durationsMs,
      readBack: readBack.state,
      retention: retentionJson(retention),
      anomalies,
      hashKV: streamed.comparison ?? null,
      members: ranks,
      attempts: streamed.attempts,
      spilledBytes: streamed.spilledBytes,
      findings: warnings.sentences,
    },
    summary: `${success} ${humanSize(facts.size)}, revision ${record.revision}, ${humanSeconds(durationsMs.total)}`,
    measured: backupMetrics({ facts, durationsMs, isReadBack, retention, anomalies, clientCertificateExpiresAt }),
    ...(partialFailure && { partialFailure }),
  };
}

const NAME_TRIES = 5;

/**
 * A name for a snapshot taken now. Names have a resolution of one second: if another worker has this one, the next one is tried. The
 * commit checks it again, and fails if none was free for several seconds.
 * @throws StorageError
 */
async function findFreeName(store: BlobStore, signal: AbortSignal): Promise<{ name: string; takenAt: Date }> {
  for (let tries = 1; ; tries++) {
    const takenAt = new Date();
    const name = snapshotName(store.prefix, takenAt);
    if ((await store.isFree(name)) || tries === NAME_TRIES) return { name, takenAt };
    // The next request fails with the reason of an abort.
    await sleep(1000 - takenAt.getMilliseconds(), undefined, { signal }).catch(() => {});
  }
}

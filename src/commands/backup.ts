import { streamFromFirstValidMember } from '../backup/attempts.ts';
import { compareAndRetain } from '../backup/finish.ts';
import { findFreeName } from '../backup/free-name.ts';
import { proveStored } from '../backup/read-back.ts';
import { connectAll } from '../etcd/connect.ts';
import { chooseMembers } from '../etcd/select-member.ts';
import { Warnings } from '../log.ts';
import { backupMetrics } from '../monitoring/metrics.ts';
import { toolName } from '../snapshot/record.ts';
import { Stopwatch } from '../stopwatch.ts';
import { humanSeconds, humanSize } from '../text.ts';
import { type Context, openStore, type Outcome } from './command.ts';
import { retentionJson, statusTable } from './tables.ts';

/**
 * The whole job: choose a member, stream its snapshot through the verifier into staged blocks, commit what passed, read back
 * what was stored, compare it with the earlier ones, apply retention. Every step throws where it cannot keep its promise, and
 * then nothing later happens.
 */
export async function backup(context: Context): Promise<Outcome> {
  const { config, log, signal, startProgress, memoryBudget, version } = context;
  const { hashKvMaxSize, spoolDir, spoolReserve } = config;
  const watch = new Stopwatch();

  const findings = new Warnings(log);

  const { configured, clientCertificateExpiresAt } = await connectAll(config.etcd, new Date(), findings);
  const { candidates, standings } = await watch.time('members', chooseMembers(configured, log, findings));
  const store = await openStore(context);
  const { name, takenAt } = await watch.time('storage', findFreeName(store, signal));

  const startUpload = () => store.startUpload(name, config.readBack === 'full');
  const options = {
    startUpload,
    hashKvMaxSize,
    spoolDir,
    spoolReserve,
    memoryBudget,
    startProgress,
    log,
    findings,
    signal,
  };
  const streamed = await watch.time('stream', streamFromFirstValidMember(candidates, options));
  const { source, snapshot, members, upload, comparison, attempts, spilledBytes, suspicions } = streamed;

  const { facts } = snapshot;
  const { uploadId } = upload;
  const { version: etcdVersion, clusterId, memberId, endpoint } = source;
  const record = { ...facts, members, etcdVersion, clusterId, memberId, takenAt, uploadId, tool: toolName(version) };
  const { etag } = await watch.time('commit', upload.commit(snapshot, record));
  log.info('the snapshot is stored', { name, size: record.size, sha256: record.sha256 });

  const stored = { name, etag, upload, snapshot };
  const proof = await watch.time('readBack', proveStored(store, stored, config.readBack, startProgress));
  const { readBack } = proof;
  if (readBack === 'done') log.info('the stored blob reads back as it was sent', { name });
  if (readBack === 'off') log.warn('the stored blob is not read back, as SNAPSHOT_READ_BACK=off demands', { name });

  const fresh = { name, etag, uploadId, proof, suspicions };
  const compared = compareAndRetain(store, fresh, config.retention, findings, log);
  const { anomalies, retention, partialFailure } = await watch.time('retention', compared);

  const { size, sha256, hash, revision, totalKeys, liveKeys, totalSize } = record;
  const durationsMs = watch.durations();
  const table = statusTable(facts);
  const success = `Backup ${name} uploaded successfully!`;
  return {
    text: partialFailure === undefined ? `${table}\n${success}` : table,
    json: {
      ...{ name, container: store.containerName, size, sha256, hash, revision, totalKeys, liveKeys, totalSize },
      ...{ etcdVersion, clusterId, memberId, endpoint, takenAt, durationsMs, readBack },
      retention: retentionJson(retention),
      anomalies,
      hashKV: comparison ?? null,
      members: standings,
      attempts,
      spilledBytes,
      findings: findings.sentences,
    },
    summary: `${success} ${humanSize(size)}, revision ${revision}, ${humanSeconds(durationsMs.total)}`,
    measured: backupMetrics({ facts, durationsMs, readBack, retention, anomalies, clientCertificateExpiresAt }),
    ...(partialFailure && { partialFailure }),
  };
}

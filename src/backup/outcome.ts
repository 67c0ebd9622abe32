import { backupMetrics, type Sample } from '../monitoring/metrics.ts';
import { retentionJson } from '../retention/apply.ts';
import type { SnapshotRecord } from '../snapshot/record.ts';
import type { StreamedSnapshot } from './attempts.ts';
import type { PostBackupResult } from './finish.ts';
import type { ReadBack } from './read-back.ts';

/** What a backup that was stored knows at its end. */
interface FinishedBackup {
  readonly name: string;
  readonly container: string;
  readonly record: SnapshotRecord;
  readonly streamed: StreamedSnapshot;
  readonly readBack: ReadBack;
  readonly result: PostBackupResult;
  /** Of each phase, and in `total`. */
  readonly durationsMs: Readonly<Record<string, number>>;
  /** How each endpoint ranked as a source. */
  readonly ranks: readonly object[];
  readonly warnings: readonly string[];
}

/** The document of `backup --json`. */
export function backupJson(backup: FinishedBackup): object {
  const { name, container, record, streamed, readBack, result, durationsMs, ranks, warnings } = backup;
  return {
    name,
    container,
    size: streamed.snapshot.facts.size,
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
    takenAt: record.takenAt,
    durationsMs,
    readBack: readBack.state,
    retention: retentionJson(result.retention),
    anomalies: result.anomalies,
    hashKV: streamed.comparison ?? null,
    members: ranks,
    attempts: streamed.attempts,
    spilledBytes: streamed.spilledBytes,
    findings: warnings,
  };
}

export function backupSamples(backup: FinishedBackup, clientCertificateExpiresAt: Date | null): Sample[] {
  const { streamed, readBack, result, durationsMs } = backup;
  return backupMetrics({
    facts: streamed.snapshot.facts,
    durationsMs,
    readBack: readBack.state,
    retention: result.retention,
    anomalies: result.anomalies,
    clientCertificateExpiresAt,
  });
}

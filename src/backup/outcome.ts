import type { BundleResult } from '../bundle/store-bundle.ts';
import { retentionJson } from '../retention/apply.ts';
import { keptJson } from '../snapshot/marks.ts';
import type { SnapshotRecord } from '../snapshot/record.ts';
import type { Marking } from './mark-backup.ts';
import type { PostBackupResult } from './finish.ts';
import type { ReadBack } from './read-back.ts';
import type { StreamedSnapshot } from './stream-from-member.ts';

interface DoneBackup extends Pick<PostBackupResult, 'retention' | 'anomalies'> {
  readonly name: string;
  readonly container: string;
  readonly streamed: StreamedSnapshot;
  readonly record: SnapshotRecord;
  readonly readBack: ReadBack;
  /** Of the key that signed the record; undefined where it is unsigned. */
  readonly keyId: string | undefined;
  /** Of each step, and `total`. */
  readonly durationsMs: Readonly<Record<string, number>>;
  readonly ranks: readonly object[];
  /** Sentences of all warnings. */
  readonly findings: readonly string[];
  /** Undefined where none is configured. */
  readonly bundle: BundleResult | undefined;
  /** Undefined where none was asked for. */
  readonly marking: Marking | undefined;
}

/** The result of a backup for `--json` (docs/json.md). */
export function backupJson(done: DoneBackup): object {
  const { record, streamed } = done;
  return {
    name: done.name,
    container: done.container,
    size: streamed.snapshot.facts.size,
    sha256: record.sha256,
    encoding: record.encoding,
    storedSize: record.storedSize,
    storedSha256: record.storedSha256,
    recipients: record.recipients,
    signature: { state: done.keyId === undefined ? 'unsigned' : 'valid', keyId: done.keyId ?? null },
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
    durationsMs: done.durationsMs,
    readBack: done.readBack.state,
    retention: retentionJson(done.retention),
    anomalies: done.anomalies,
    hashKV: streamed.comparison ?? null,
    members: done.ranks,
    attempts: streamed.attempts,
    spilledBytes: streamed.spilledBytes,
    findings: done.findings,
    ...(done.bundle && { bundle: bundleJson(done.bundle) }),
    ...(done.marking && { kept: 'kept' in done.marking ? keptJson(done.marking.kept) : null }),
  };
}

function bundleJson({ stored, files, missing, skipped, changed, authoritiesWithoutKey }: BundleResult): object {
  return {
    name: stored?.name ?? null,
    size: stored?.size ?? null,
    sha256: stored?.sha256 ?? null,
    keys: stored?.keys ?? null,
    ...{ files, missing, skipped, changed, authoritiesWithoutKey },
  };
}

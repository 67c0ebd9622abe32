import { ExitCode } from '../errors.ts';
import type { SnapshotFacts } from '../snapshot/verify/verdict.ts';

/**
 * Every metric; all are gauges. The table in docs/monitoring.md is made from this one. A Pushgateway replaces the metrics of
 * the names that are pushed and leaves all others: therefore each name belongs to one command, and what only a success knows
 * has a name that a failure does not push.
 */
export const METRICS = {
  etcd_snapshot_backup_last_run_timestamp_seconds: { help: 'When the last backup run ended, successfully or not.' },
  etcd_snapshot_backup_last_run_exit_code: { help: 'Exit code of the last backup run.' },
  etcd_snapshot_backup_last_success_timestamp_seconds: {
    help: 'When a backup run last ended with its snapshot stored and verified (exit code 0 or 3).',
  },
  etcd_snapshot_backup_duration_seconds: { help: 'How long the last successful backup run took.' },
  etcd_snapshot_backup_phase_duration_seconds: {
    help: 'How long each phase of the last successful backup run took.',
    label: 'phase',
  },
  etcd_snapshot_backup_size_bytes: { help: 'Size of the last stored snapshot.' },
  etcd_snapshot_backup_stored_size_bytes: {
    help: 'Size of its blob, which is smaller where snapshots are compressed.',
  },
  etcd_snapshot_backup_revision: { help: "etcd's revision in the last stored snapshot." },
  etcd_snapshot_backup_keys: { help: 'Keys in the last stored snapshot, with all their versions.' },
  etcd_snapshot_backup_live_keys: {
    help: 'Live keys in the last stored snapshot; NaN when there was not enough memory to count them.',
  },
  etcd_snapshot_backup_verification_ok: {
    help: '1 when the last snapshot passed its verification, 0 when it failed (exit code 11).',
  },
  etcd_snapshot_backup_read_back_ok: {
    help: '1 when the last stored snapshot was read back and is identical, 0 when the read-back is off.',
  },
  etcd_snapshot_backup_encrypted: { help: '1 when the last stored snapshot is encrypted, 0 when it is not.' },
  etcd_snapshot_backup_signed: { help: '1 when the record of the last stored snapshot is signed, 0 when it is not.' },
  etcd_snapshot_backup_bundle_complete: {
    help: '1 when the bundle of the last stored snapshot is stored and has all listed files, 0 when not; NaN without SNAPSHOT_BUNDLE.',
  },
  etcd_snapshot_backup_retention_state: {
    help: '1 for the state in which retention ended in the last successful run, 0 for the others.',
    label: 'state',
  },
  etcd_snapshot_backup_snapshots_kept: {
    help: 'Snapshots of this cluster after the last successful run; NaN when they could not be counted.',
  },
  etcd_snapshot_backup_snapshots_removed: { help: 'Snapshots that retention deleted in the last successful run.' },
  etcd_snapshot_backup_anomalies: {
    help: 'Anomalies of the last stored snapshot compared with earlier ones and other members.',
  },
  etcd_snapshot_client_certificate_expiry_timestamp_seconds: {
    help: 'When the client certificate for etcd expires; NaN without TLS.',
  },
  etcd_snapshot_drill_last_run_timestamp_seconds: { help: 'When the last drill ended, successfully or not.' },
  etcd_snapshot_drill_last_run_exit_code: { help: 'Exit code of the last drill.' },
  etcd_snapshot_drill_last_success_timestamp_seconds: { help: 'When a drill last restored a snapshot successfully.' },
  etcd_snapshot_drill_recovery_duration_seconds: {
    help: 'How long download, verification, restore and start took in the last successful drill.',
  },
  etcd_snapshot_drill_phase_duration_seconds: {
    help: 'How long each phase of the last successful drill took.',
    label: 'phase',
  },
  etcd_snapshot_copy_last_run_timestamp_seconds: { help: 'When the last run of `copy` ended, successfully or not.' },
  etcd_snapshot_copy_last_run_exit_code: { help: 'Exit code of the last run of `copy`.' },
  etcd_snapshot_copy_last_success_timestamp_seconds: { help: 'When a run of `copy` last copied everything.' },
  etcd_snapshot_copy_missing: {
    help: 'Snapshots that the second place lacked, or that were not read back there, after the last run of `copy`, or the last backup that copies; NaN when that failed.',
  },
  etcd_snapshot_copy_lag_seconds: {
    help: 'By how much the newest copy was older than the newest snapshot then; without any copy, the age of the oldest snapshot.',
  },
  etcd_snapshot_copy_differing: {
    help: 'Blobs that did not match their record, or whose copy was another blob, in the last run of `copy`, or the last backup that copies; NaN when that failed.',
  },
  etcd_snapshot_import_last_run_timestamp_seconds: {
    help: 'When the last run of `import` ended, successfully or not.',
  },
  etcd_snapshot_import_last_run_exit_code: { help: 'Exit code of the last run of `import`.' },
  etcd_snapshot_import_last_success_timestamp_seconds: {
    help: 'When a run of `import` last ended with all files stored, or stored before.',
  },
  etcd_snapshot_import_stored: { help: 'Snapshots that the last run of `import` stored.' },
  etcd_snapshot_import_newest_timestamp_seconds: {
    help: 'When the newest valid file that the last run of `import` found was taken; NaN without any.',
  },
  etcd_snapshot_report_timestamp_seconds: { help: 'When the report was made.', label: 'etcd_cluster' },
  etcd_snapshot_report_reachable: {
    help: '1 when the container of the cluster could be read, 0 when not; then nothing else is known of it.',
    label: 'etcd_cluster',
  },
  etcd_snapshot_report_late: {
    help: '1 when the newest valid snapshot is older than twice the objective, or there is none.',
    label: 'etcd_cluster',
  },
  etcd_snapshot_report_newest_valid: {
    help: '0 when there is a newer snapshot than the newest valid one.',
    label: 'etcd_cluster',
  },
  etcd_snapshot_report_drilled: {
    help: '1 when a drill succeeded within --drill-within.',
    label: 'etcd_cluster',
  },
  etcd_snapshot_report_newest_timestamp_seconds: {
    help: 'When the newest valid snapshot was taken.',
    label: 'etcd_cluster',
  },
  etcd_snapshot_report_newest_size_bytes: { help: 'Its size.', label: 'etcd_cluster' },
  etcd_snapshot_report_newest_keys: { help: 'Its live keys.', label: 'etcd_cluster' },
  etcd_snapshot_report_usual_interval_seconds: {
    help: 'Time that usually passes between two snapshots.',
    label: 'etcd_cluster',
  },
  etcd_snapshot_report_objective_held: {
    help: '1 when no time without a snapshot was longer than the objective within 30 days.',
    label: 'etcd_cluster',
  },
  etcd_snapshot_report_gaps: {
    help: 'Times without a snapshot within 90 days that were more than twice the usual one.',
    label: 'etcd_cluster',
  },
  etcd_snapshot_report_drill_timestamp_seconds: { help: 'When a drill last succeeded.', label: 'etcd_cluster' },
  etcd_snapshot_report_drill_recovery_seconds: { help: 'How long its recovery took.', label: 'etcd_cluster' },
  etcd_snapshot_report_snapshots: { help: 'Valid snapshots of the cluster.', label: 'etcd_cluster' },
  etcd_snapshot_report_stored_bytes: { help: 'Bytes of all blobs of the cluster.', label: 'etcd_cluster' },
  etcd_snapshot_report_copies_missing: {
    help: 'Snapshots that the second place lacks, or that were not read back there; of the configured container only.',
    label: 'etcd_cluster',
  },
  etcd_snapshot_report_copy_lag_seconds: {
    help: 'By how much its newest copy is older than its newest snapshot; without any copy, the age of the oldest snapshot.',
    label: 'etcd_cluster',
  },
  etcd_snapshot_report_keep_end_timestamp_seconds: {
    help: 'When the first of its kept snapshots is no longer kept.',
    label: 'etcd_cluster',
  },
  etcd_snapshot_report_exceptions: {
    help: 'Exceptions of the cluster, such as anomalies, gaps and blobs that do not count.',
    label: 'etcd_cluster',
  },
  etcd_snapshot_build_info: {
    help: 'Version of the worker that pushed last; the value is always 1.',
    label: 'version',
  },
} as const satisfies Record<`etcd_snapshot_${string}`, { readonly help: string; readonly label?: string }>;

type MetricName = keyof typeof METRICS;

/**
 * The values of metrics; of one with a label, by the value of the label. NaN for what is not known this time: without a sample the
 * value of an earlier run would stay.
 */
export type Samples = { readonly [metric in MetricName]?: number | Readonly<Record<string, number>> };

const RETENTION_STATES = ['applied', 'off', 'held', 'incomplete'];

interface StoredBackup {
  readonly facts: Pick<SnapshotFacts, 'size' | 'revision' | 'totalKeys' | 'liveKeys'>;
  /** Bytes of the blob. */
  readonly storedSize: number;
  /** Of each phase, and in `total`. */
  readonly durationsMs: Readonly<Record<string, number>>;
  readonly isReadBack: boolean;
  readonly isEncrypted: boolean;
  readonly isSigned: boolean;
  /** Undefined where no bundle is configured. */
  readonly isBundleComplete: boolean | undefined;
  readonly retention: { readonly state: string; readonly kept: number | null; readonly removed: readonly string[] };
  readonly anomalies: readonly string[];
  readonly clientCertificateExpiresAt: Date | null;
}

export function backupMetrics(backup: StoredBackup): Samples {
  const { facts, storedSize, durationsMs, isReadBack, isEncrypted, isSigned, isBundleComplete } = backup;
  const { retention, anomalies, clientCertificateExpiresAt } = backup;
  return {
    etcd_snapshot_backup_duration_seconds: (durationsMs['total'] ?? NaN) / 1000,
    etcd_snapshot_backup_phase_duration_seconds: phases(durationsMs),
    etcd_snapshot_backup_size_bytes: facts.size,
    etcd_snapshot_backup_stored_size_bytes: storedSize,
    etcd_snapshot_backup_revision: facts.revision,
    etcd_snapshot_backup_keys: facts.totalKeys,
    etcd_snapshot_backup_live_keys: facts.liveKeys ?? NaN,
    etcd_snapshot_backup_verification_ok: 1,
    etcd_snapshot_backup_read_back_ok: Number(isReadBack),
    etcd_snapshot_backup_encrypted: Number(isEncrypted),
    etcd_snapshot_backup_signed: Number(isSigned),
    etcd_snapshot_backup_bundle_complete: isBundleComplete === undefined ? NaN : Number(isBundleComplete),
    etcd_snapshot_backup_retention_state: Object.fromEntries(
      RETENTION_STATES.map((state) => [state, Number(state === retention.state)]),
    ),
    etcd_snapshot_backup_snapshots_kept: retention.kept ?? NaN,
    etcd_snapshot_backup_snapshots_removed: retention.removed.length,
    etcd_snapshot_backup_anomalies: anomalies.length,
    etcd_snapshot_client_certificate_expiry_timestamp_seconds: secondsOf(clientCertificateExpiresAt),
  };
}

/** Of a drill that succeeded. */
export function drillMetrics(recoveryMs: number, durationsMs: Readonly<Record<string, number>>): Samples {
  return {
    etcd_snapshot_drill_recovery_duration_seconds: recoveryMs / 1000,
    etcd_snapshot_drill_phase_duration_seconds: phases(durationsMs),
  };
}

/** @param compared undefined where the second place could not be compared */
export function copyMetrics(compared?: {
  readonly missing: number;
  readonly lagSeconds: number;
  readonly problems: readonly object[];
}): Samples {
  const { missing = NaN, lagSeconds = NaN, problems } = compared ?? {};
  return {
    etcd_snapshot_copy_missing: missing,
    etcd_snapshot_copy_lag_seconds: lagSeconds,
    etcd_snapshot_copy_differing: problems?.length ?? NaN,
  };
}

/** @param newest when the newest valid file was taken */
export function importMetrics(stored: number, newest: Date | undefined): Samples {
  return { etcd_snapshot_import_stored: stored, etcd_snapshot_import_newest_timestamp_seconds: secondsOf(newest) };
}

function phases(durationsMs: Readonly<Record<string, number>>): Record<string, number> {
  const entries = Object.entries(durationsMs).filter(([phase]) => phase !== 'total');
  return Object.fromEntries(entries.map(([phase, ms]) => [phase, ms / 1000]));
}

/** How a run ended. */
export interface End {
  /** The commands whose end is reported. */
  readonly command: 'backup' | 'drill' | 'copy' | 'import';
  readonly exitCode: number;
  readonly at: Date;
  /** The error without its hint, or the result, in one line. */
  readonly message: string;
  readonly hint?: string | undefined;
  /** Undefined where the run did not get so far. */
  readonly clusterId?: string | undefined;
  /** What a successful run ended, as a sentence: failures, or a gap. */
  readonly recovery?: string | undefined;
  /** What the command measured; it counts only where the end is a success. */
  readonly measured: Samples;
  /** Of this program. */
  readonly version: string;
}

/** A stored and verified snapshot is a success, also where retention could not do all of its work. */
export function isSuccess({ exitCode }: End): boolean {
  return exitCode === ExitCode.done || exitCode === ExitCode.incomplete;
}

/** What is pushed at the end of a run: of one that failed only that, when and how, so that the last success stays. */
export function metricsOf(end: End): Samples {
  const { command, exitCode, measured, version } = end;
  const at = secondsOf(end.at);
  return {
    [`etcd_snapshot_${command}_last_run_timestamp_seconds`]: at,
    [`etcd_snapshot_${command}_last_run_exit_code`]: exitCode,
    etcd_snapshot_build_info: { [version]: 1 },
    ...(isSuccess(end) && { [`etcd_snapshot_${command}_last_success_timestamp_seconds`]: at, ...measured }),
    // What the second place lacks, and what was imported, is known also where a snapshot is corrupt.
    ...((command === 'copy' || command === 'import') && measured),
    ...(command === 'backup' && exitCode === ExitCode.verification && { etcd_snapshot_backup_verification_ok: 0 }),
  };
}

function secondsOf(date: Date | null | undefined): number {
  return date === null || date === undefined ? NaN : date.getTime() / 1000;
}

/** Prometheus' text format, version 0.0.4. */
export function exposition(samples: Samples): string {
  return (Object.keys(samples) as MetricName[])
    .map((metric) => {
      const { help, label }: { readonly help: string; readonly label?: string } = METRICS[metric];
      const values = samples[metric] ?? NaN;
      const lines =
        typeof values === 'number'
          ? [`${metric} ${values}`]
          : Object.entries(values).map(([of, value]) => `${metric}{${label}=${JSON.stringify(of)}} ${value}`);
      return [`# HELP ${metric} ${help}`, `# TYPE ${metric} gauge`, ...lines, ''].join('\n');
    })
    .join('');
}

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
  etcd_snapshot_backup_revision: { help: "etcd's revision in the last stored snapshot." },
  etcd_snapshot_backup_keys: { help: 'Keys in the last stored snapshot with all their versions.' },
  etcd_snapshot_backup_live_keys: {
    help: 'Keys in the last stored snapshot that a client can get; NaN when there was no memory to count them.',
  },
  etcd_snapshot_backup_verification_ok: {
    help: '1 when the last snapshot passed its verification, 0 when it failed (exit code 11).',
  },
  etcd_snapshot_backup_read_back_ok: {
    help: '1 when the last stored snapshot was read back and is the same, 0 when reading back is off.',
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
  etcd_snapshot_build_info: { help: 'The worker that pushed last: always 1.', label: 'version' },
} as const satisfies Record<`etcd_snapshot_${string}`, { readonly help: string; readonly label?: string }>;

type MetricName = keyof typeof METRICS;

export interface Sample {
  readonly metric: MetricName;
  /** NaN for what is not known this time: without a sample the value of an earlier run would stay. */
  readonly value: number;
  /** The value of the metric's own label, where it has one. */
  readonly label?: string;
}

const RETENTION_STATES = ['applied', 'off', 'held', 'incomplete'];

/** The commands whose end is reported. */
type Reporting = 'backup' | 'drill';

interface BackupResult {
  readonly facts: Pick<SnapshotFacts, 'size' | 'revision' | 'totalKeys' | 'liveKeys'>;
  /** Of each phase, and in `total`. */
  readonly durationsMs: Readonly<Record<string, number>>;
  readonly readBack: string;
  readonly retention: {
    readonly state: string;
    readonly kept: number | null;
    readonly removed: readonly string[];
  };
  readonly anomalies: readonly string[];
  readonly clientCertificateExpiresAt: Date | null;
}

/** Of a stored backup. */
export function backupMetrics(result: BackupResult): Sample[] {
  const { facts, durationsMs, readBack, retention, anomalies, clientCertificateExpiresAt } = result;
  return [
    { metric: 'etcd_snapshot_backup_duration_seconds', value: (durationsMs['total'] ?? NaN) / 1000 },
    ...phases('etcd_snapshot_backup_phase_duration_seconds', durationsMs),
    { metric: 'etcd_snapshot_backup_size_bytes', value: facts.size },
    { metric: 'etcd_snapshot_backup_revision', value: facts.revision },
    { metric: 'etcd_snapshot_backup_keys', value: facts.totalKeys },
    { metric: 'etcd_snapshot_backup_live_keys', value: facts.liveKeys ?? NaN },
    { metric: 'etcd_snapshot_backup_verification_ok', value: 1 },
    { metric: 'etcd_snapshot_backup_read_back_ok', value: readBack === 'done' ? 1 : 0 },
    ...RETENTION_STATES.map((state) => ({
      metric: 'etcd_snapshot_backup_retention_state' as const,
      value: state === retention.state ? 1 : 0,
      label: state,
    })),
    { metric: 'etcd_snapshot_backup_snapshots_kept', value: retention.kept ?? NaN },
    { metric: 'etcd_snapshot_backup_snapshots_removed', value: retention.removed.length },
    { metric: 'etcd_snapshot_backup_anomalies', value: anomalies.length },
    {
      metric: 'etcd_snapshot_client_certificate_expiry_timestamp_seconds',
      value: secondsOf(clientCertificateExpiresAt),
    },
  ];
}

/** Of a drill that succeeded. */
export function drillMetrics(recoveryMs: number, durationsMs: Readonly<Record<string, number>>): Sample[] {
  return [
    { metric: 'etcd_snapshot_drill_recovery_duration_seconds', value: recoveryMs / 1000 },
    ...phases('etcd_snapshot_drill_phase_duration_seconds', durationsMs),
  ];
}

function phases(metric: MetricName, durationsMs: Readonly<Record<string, number>>): Sample[] {
  return Object.entries(durationsMs)
    .filter(([phase]) => phase !== 'total')
    .map(([label, ms]) => ({ metric, value: ms / 1000, label }));
}

/** How a run ended. */
export interface End {
  readonly command: Reporting;
  readonly exitCode: number;
  readonly at: Date;
  /** What the command measured; it counts only where the end is a success. */
  readonly measured: readonly Sample[];
  /** Of this program. */
  readonly version: string;
}

/** A stored and verified snapshot is a success, also where retention could not do all of its work. */
export function isSuccess({ exitCode }: End): boolean {
  return exitCode === ExitCode.done || exitCode === ExitCode.retentionIncomplete;
}

/** What is pushed at the end of a run: of one that failed only that, when and how, so that the last success stays. */
export function metricsOf(end: End): Sample[] {
  const { command, exitCode, measured, version } = end;
  const at = secondsOf(end.at);
  return [
    { metric: `etcd_snapshot_${command}_last_run_timestamp_seconds`, value: at },
    { metric: `etcd_snapshot_${command}_last_run_exit_code`, value: exitCode },
    { metric: 'etcd_snapshot_build_info', value: 1, label: version },
    ...(isSuccess(end)
      ? [{ metric: `etcd_snapshot_${command}_last_success_timestamp_seconds` as const, value: at }, ...measured]
      : []),
    ...(command === 'backup' && exitCode === ExitCode.verification
      ? [{ metric: 'etcd_snapshot_backup_verification_ok' as const, value: 0 }]
      : []),
  ];
}

function secondsOf(date: Date | null): number {
  return date === null ? NaN : date.getTime() / 1000;
}

/** Prometheus' text format, version 0.0.4, in which all samples of a metric must be together. */
export function exposition(samples: readonly Sample[]): string {
  return [...Map.groupBy(samples, ({ metric }) => metric)]
    .map(([metric, group]) => {
      const definition: { readonly help: string; readonly label?: string } = METRICS[metric];
      const lines = group.map(({ label = '', value }) => {
        const labels = definition.label === undefined ? '' : `{${definition.label}=${JSON.stringify(label)}}`;
        return `${metric}${labels} ${value}\n`;
      });
      return `# HELP ${metric} ${definition.help}\n# TYPE ${metric} gauge\n${lines.join('')}`;
    })
    .join('');
}

import t from 'tap';
import { exposition, metricsOf } from '../../src/monitoring/metrics.ts';

t.test('the text for Prometheus', (t) => {
  const at = new Date(1_700_000_000_500);
  const end = { command: 'backup', exitCode: 11, at, message: 'no', measured: {}, version: '1"\\2\n' } as const;
  t.equal(
    exposition(metricsOf(end)),
    [
      '# HELP etcd_snapshot_backup_last_run_timestamp_seconds When the last backup run ended, successfully or not.',
      '# TYPE etcd_snapshot_backup_last_run_timestamp_seconds gauge',
      'etcd_snapshot_backup_last_run_timestamp_seconds 1700000000.5',
      '# HELP etcd_snapshot_backup_last_run_exit_code Exit code of the last backup run.',
      '# TYPE etcd_snapshot_backup_last_run_exit_code gauge',
      'etcd_snapshot_backup_last_run_exit_code 11',
      '# HELP etcd_snapshot_build_info Version of the worker that pushed last; the value is always 1.',
      '# TYPE etcd_snapshot_build_info gauge',
      'etcd_snapshot_build_info{version="1\\"\\\\2\\n"} 1',
      '# HELP etcd_snapshot_backup_verification_ok 1 when the last snapshot passed its verification, 0 when it failed (exit code 11).',
      '# TYPE etcd_snapshot_backup_verification_ok gauge',
      'etcd_snapshot_backup_verification_ok 0',
      '',
    ].join('\n'),
  );
  t.end();
});

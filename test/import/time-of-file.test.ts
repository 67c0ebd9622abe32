import t from 'tap';
import { timeInName, whyNoTime } from '../../src/import/time-of-file.ts';

/** 2026-01-02T03:04:05Z. */
const UNIX = 1_767_323_045;

t.test('the time in the names that programs and scripts give to snapshots', (t) => {
  const names = {
    'k3s, RKE2': [`etcd-snapshot-server1-${UNIX}`, `on-demand-ip-10-0-0-5-${UNIX}.zip`, `etcd-snapshot-${UNIX}`],
    'a node whose name looks like a date': [`etcd-snapshot-rack-20250101-120000-${UNIX}`],
    'talosctl in a script': [`etcd-${UNIX}.snapshot`, `db.snapshot.${UNIX}`],
    'talos-backup': ['prod-2026-01-02T03:04:05Z.snap', 'prod-2026-01-02T04:04:05+01:00.snap.age'],
    'this program': ['kubernetes-etcd-snapshot_20260102_030405.db', 'kubernetes-etcd-snapshot_20260102_030405.db.zst'],
    OpenShift: ['snapshot_2026-01-02_030405.db'],
    scripts: [
      ...['etcd-snapshot-2026-01-02_03:04:05_UTC.db', 'etcd-backup-20260102-030405.db', 'etcd-20260102030405.db.gz'],
      ...['snapshot.20260102T030405Z', '2026-01-02T03-04-05.snap', 'etcd-2026-01-01T22:04:05-0500.db'],
    ],
  };
  for (const [who, files] of Object.entries(names)) {
    for (const name of files)
      t.equal(timeInName(`/backup/2020-01-01/${name}`)?.getTime(), UNIX * 1000, `${who}: ${name}`);
  }
  t.equal(timeInName('etcd-backup-202601020304.db')?.toISOString(), '2026-01-02T03:04:00.000Z', 'without seconds');
  t.end();
});

t.test('what is no time', (t) => {
  const names = [
    ...['db.snapshot', 'snapshot.db', 'etcd-backup-2026-01-02.db', 'backup-20260102.db', 'etcd-2026-13-02_03-04-05'],
    ...['snap-20260230-030405.db', 'snap-20260102-250000.db', 'snapshot-1767323045000', '20260102030405123456.db'],
  ];
  for (const name of names) t.equal(timeInName(`/backup-${UNIX}/${name}`), undefined, name);
  t.end();
});

t.test('why a name has no time', (t) => {
  for (const [name, why] of [
    ['db.snapshot', 'has no time in its name'],
    ['etcd-backup-2026-01-02.db', 'has no time in its name'],
    ['20261301-030405.db', 'has an invalid time in its name'],
    ['snap-20260102-250000.db.gz', 'has an invalid time in its name'],
    ['snap-9999999999', 'has a time in the future in its name'],
    ['snap-1764000000123.zip', 'has a time in its name that is not in seconds'],
  ] as const) {
    t.equal(timeInName(name), undefined, name);
    t.equal(whyNoTime(`/backup-9999999999/${name}`), why, name);
  }
  t.end();
});

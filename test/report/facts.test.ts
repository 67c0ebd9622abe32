import t from 'tap';
import { worstFirst } from '../../src/report/facts.ts';
import { reportJson } from '../../src/report/report-json.ts';
import { reportTable } from '../../src/report/report-table.ts';
import { reportMetrics } from '../../src/report/report-metrics.ts';
import { nameOf } from '../support/catalogue.ts';
import { blob, DAY, drill, HOUR, NOW, reported, series, unread } from '../support/fleet.ts';

const MINUTE = HOUR / 60;

/** Hours before now at which snapshots were taken. */
function taken(...hours: readonly number[]) {
  return hours.map((hour) => blob(hour * HOUR));
}

function every(hours: number, count: number, from = hours) {
  return Array.from({ length: count }, (_, index) => from + index * hours);
}

t.test('a cluster in order', (t) => {
  const { state, problems, exceptions, facts } = reported('c', series(30, 6 * HOUR));
  t.equal(state, 'ok');
  t.strictSame([problems, exceptions], [[], []]);
  t.match(facts, {
    clusterId: 'c1',
    snapshots: 30,
    usual: 6 * HOUR,
    gaps: [],
    objective: { objective: 6 * HOUR, held: true },
    newest: { size: 4128, keys: 800, revision: 1000, hasBundle: false, signature: { state: 'unsigned' } },
    lastDrill: { recoveryMs: 12_300 },
    lastVerification: { by: 'backup' },
  });
  t.equal(facts?.newest?.takenAt, NOW.getTime() - 6 * HOUR);
  t.end();
});

t.test('the usual distance is the median of the last twenty, and a day with fewer than three snapshots', (t) => {
  t.equal(reported('c', []).facts?.usual, DAY);
  t.equal(reported('c', taken(1)).facts?.usual, DAY);
  t.equal(reported('c', taken(1, 2)).facts?.usual, DAY);
  t.equal(reported('c', taken(1, 3, 5)).facts?.usual, 2 * HOUR);
  t.equal(reported('c', taken(...every(1, 21), ...every(24, 60, 48))).facts?.usual, HOUR);
  t.equal(reported('c', taken(...every(6, 20), 120.1, 120.2)).facts?.usual, 6 * HOUR, 'some by hand change nothing');
  t.end();
});

t.test('late: older than twice the objective, or nothing there', (t) => {
  const state = (hours: number, objective?: number): string =>
    reported('c', taken(...every(6, 30, hours)), [drill(HOUR)], { objective }).state;
  t.equal(state(12), 'ok');
  t.equal(state(12.1), 'late');
  t.equal(state(12.1, 7 * HOUR), 'ok');
  t.equal(state(3, HOUR), 'late');
  t.match(reported('c', []), { state: 'late', problems: [{ state: 'late', message: 'There is no valid snapshot.' }] });
  t.match(reported('c', taken(...every(6, 30, 80))).problems, [
    { message: 'The newest snapshot is 3d 8h old, more than twice the objective of 6h.' },
  ]);
  t.end();
});

t.test('drilled: within the time, never is not', (t) => {
  const ofDrills = (...drills: ReturnType<typeof drill>[]) => reported('c', series(9, HOUR), drills);
  t.equal(ofDrills(drill(14 * DAY)).state, 'ok');
  t.match(ofDrills(drill(14 * DAY + 1), drill(90 * DAY)), {
    state: 'not-drilled',
    problems: [{ message: 'The last drill succeeded 14d ago, not within 14d.' }],
  });
  t.match(ofDrills(), { state: 'not-drilled', problems: [{ message: 'No drill has succeeded yet.' }] });
  t.match(ofDrills(drill(MINUTE)).facts?.lastVerification, { by: 'drill' }, 'a drill verifies, too');
  t.end();
});

t.test('a drill of another cluster, or of what never was a snapshot, proves nothing', (t) => {
  const own = series(5, 6 * HOUR);
  const other = [blob(40 * HOUR, { metadata: { clusterid: 'abc' } })];
  const stateOf = (blobs: Parameters<typeof reported>[1], name: string): string =>
    reported('c', blobs, [drill(HOUR, 1, name)]).state;
  const gone = (ago: number): string => nameOf(new Date(NOW.getTime() - ago));
  t.equal(stateOf(own, own[2]?.name ?? ''), 'ok');
  t.equal(stateOf(own, gone(9 * DAY)), 'ok', 'retention removed it');
  t.equal(stateOf([...own, ...other], other[0]?.name ?? ''), 'not-drilled');
  t.equal(stateOf([...own, ...other], gone(9 * DAY)), 'not-drilled', 'perhaps one of the other cluster');
  t.equal(stateOf([...own, ...other], gone(7 * HOUR)), 'ok');
  t.equal(stateOf(own, 'nothing-of-the-kind'), 'not-drilled');
  t.end();
});

t.test('a newer blob that is no valid snapshot', (t) => {
  const good = series(9, 6 * HOUR);
  const stateWith = (...more: ReturnType<typeof blob>[]): string => reported('c', [...good, ...more]).state;
  const bad = { metadata: { livekeys: 'x' } };
  t.equal(stateWith(blob(HOUR, bad)), 'invalid');
  t.equal(stateWith(blob(7 * HOUR, bad)), 'ok', 'an older one is an exception only');
  t.equal(stateWith(blob(HOUR, { metadata: { tool: undefined, uploadid: undefined } })), 'invalid', 'without a record');
  t.equal(
    stateWith(blob(-400 * DAY, { ...bad, storedAt: new Date(NOW.getTime() - 8 * HOUR) })),
    'ok',
    'dated in the future',
  );
  t.equal(stateWith(blob(HOUR, { name: 'notes.txt', metadata: { tool: undefined, uploadid: undefined } })), 'ok');
  t.match(reported('c', [...good, blob(HOUR, bad)]).problems, [
    {
      state: 'invalid',
      message: /^The newest snapshot kubernetes-.*120000\.db is not valid: its record is not well-formed/,
    },
  ]);
  t.match(reported('c', [blob(HOUR, bad)]).problems, [{ state: 'invalid' }, { state: 'late' }]);
  t.end();
});

t.test('gaps are times of more than twice the usual distance', (t) => {
  const gapsOf = (...hours: readonly number[]): number[] =>
    reported('c', taken(...hours)).facts?.gaps.map(({ from, to }) => (to - from) / HOUR) ?? [];
  t.strictSame(gapsOf(...every(6, 10), ...every(6, 10, 72)), [], 'exactly twice is none');
  t.strictSame(gapsOf(...every(6, 10), ...every(6, 10, 73)), [13]);
  t.strictSame(gapsOf(...every(6, 10, 20)), [20], 'also since the newest one');
  t.strictSame(gapsOf(...every(6, 400), ...every(6, 400, 2400 + 13)), [], 'before the 90 days');
  t.end();
});

t.test('what retention thins out is no gap, and a gap between dense days is one', (t) => {
  const thinned = [...every(6, 28), ...every(24, 14, 192), ...every(168, 8, 700)];
  t.match(reported('c', taken(...thinned)), { exceptions: [], facts: { gaps: [], objective: { held: true } } });
  const outage = [...every(6, 10), ...every(6, 12, 90), ...every(24, 14, 192)];
  t.match(reported('c', taken(...outage)).facts?.gaps, [{ from: NOW.getTime() - 90 * HOUR }], 'but this is');
  const daily = every(24, 30);
  t.match(reported('c', taken(...daily)).facts, { usual: DAY, gaps: [], objective: { held: true } });
  t.end();
});

t.test('a signed record says what came before it, also when that was removed', (t) => {
  const named = (hours: number): string => {
    const at = new Date(NOW.getTime() - hours * HOUR).toISOString().replaceAll(/\D/g, '');
    return `kubernetes-etcd-snapshot_${at.slice(0, 8)}_${at.slice(8, 14)}.db`;
  };
  const thinned = every(24, 30).map((hour) => blob(hour * HOUR, { metadata: { previous: named(hour + 6) } }));
  t.match(reported('c', thinned).facts, { usual: 6 * HOUR, gaps: [{ to: NOW.getTime() }] });
  const lost = blob(480.5 * HOUR, { metadata: { previous: named(500) } });
  t.match(reported('c', [...thinned, lost]).facts?.gaps, [{ to: NOW.getTime() }, { from: NOW.getTime() - 500 * HOUR }]);
  t.end();
});

t.test('the objective over 30 days, with a tenth of tolerance', (t) => {
  const of = (objective: number, ...hours: readonly number[]) =>
    reported('c', taken(...hours), [drill(HOUR)], { objective }).facts?.objective;
  t.match(of(6 * HOUR, ...every(6.5, 60)), { held: true, longest: { to: NOW.getTime() } });
  t.match(of(6 * HOUR, ...every(6.7, 60)), { held: false });
  t.match(of(6 * HOUR, ...every(6, 60), ...every(6, 60, 400)), { held: false }, 'a gap 15 days ago');
  t.match(of(6 * HOUR, ...every(6, 140), ...every(6, 60, 900)), { held: true }, 'a gap 36 days ago');
  t.match(of(6 * HOUR, ...every(6, 20)), { since: NOW.getTime() - 120 * HOUR }, 'since it is known');
  t.match(reported('c', taken(...every(6, 9), ...every(6, 9, 100))).exceptions, [
    'The objective of 6h between snapshots was missed within 30 days: none for 1d 22h after 2026-11-20 09:00 UTC.',
  ]);
  t.end();
});

t.test('exceptions: anomalies, other clusters, blobs that do not count, more gaps', (t) => {
  const { exceptions, facts } = reported('c', [
    blob(HOUR, { metadata: { livekeys: '9' } }),
    ...series(20, 6 * HOUR),
    blob(300 * HOUR, { metadata: { clusterid: 'c9' } }),
    blob(301 * HOUR, { metadata: { sha256: '<script>\u202e' } }),
    blob(-9 * DAY),
  ]);
  t.match(exceptions, [
    'The newest snapshot is suspicious: the number of keys fell from 800 to 9.',
    'Snapshots of another cluster are in the same place: c9.',
    /^Snapshots that are dated in the future /,
    /^Blobs that do not count as snapshots .*sha256 is not a sha256/,
  ]);
  t.match(facts?.anomalies, ['the number of keys fell from 800 to 9']);
  const gaps = reported('c', taken(...every(6, 9), ...every(6, 9, 100), ...every(6, 9, 250))).exceptions;
  t.match(gaps[1], /^1 more gap within 90 days, the longest 1d 22h after /);
  t.end();
});

t.test('previous ids make one history, and a former cluster with the same id none', (t) => {
  const before = every(6, 9, 60).map((hour) => blob(hour * HOUR, { metadata: { clusterid: 'c0' } }));
  const now = taken(...every(6, 9));
  t.equal(reported('c', [...now, ...before]).facts?.snapshots, 9);
  const retention = { rules: {} as never, previousClusterIds: ['c0'] };
  t.equal(reported('c', [...now, ...before], [drill(HOUR)], { retention }).facts?.snapshots, 18);
  const former = every(6, 9, 60).map((hour) => blob(hour * HOUR, { metadata: { revision: '5000' } }));
  t.equal(reported('c', [...now, ...former]).facts?.snapshots, 9);
  t.end();
});

t.test('kept snapshots, with their notes, and when the first of them ends', (t) => {
  const until = new Date('2027-02-26T00:00:00Z');
  const [newest, older, oldest] = series(4, 6 * HOUR);
  if (newest === undefined || older === undefined || oldest === undefined) throw new Error('no snapshot');
  const first = { ...newest, kept: { until, note: 'before 1.36' } };
  t.match(reported('c', [first, older]).facts?.kept, [{ name: newest.name, until, note: 'before 1.36' }]);
  const later = { ...older, kept: { until: new Date('2028-01-01T00:00:00Z'), note: undefined } };
  const forever = { ...oldest, kept: { until: undefined, note: undefined } };
  const endOf = (blobs: Parameters<typeof reported>[1]): unknown => {
    const clusters = [reported('c', blobs)];
    const report = { clusters, generatedAt: 0, objective: undefined, drillWithin: 0, version: '1' };
    return reportMetrics({ ...report, otherContainers: undefined }).etcd_snapshot_report_keep_end_timestamp_seconds;
  };
  t.strictSame(endOf([later, first, forever]), { c: until.getTime() / 1000 });
  t.strictSame(endOf([newest, forever]), {}, 'none ends');
  t.end();
});

t.test('the worst first, and a container that cannot be read is the worst', (t) => {
  const clusters = worstFirst([
    reported('fine', series(9, 6 * HOUR)),
    reported('undrilled', series(9, 6 * HOUR), []),
    unread('gone'),
    reported('late', taken(...every(6, 9, 99))),
    reported('broken', [...series(9, 6 * HOUR), blob(HOUR, { metadata: { livekeys: 'x' } })]),
  ]);
  t.strictSame(
    clusters.map(({ place }) => place.name),
    ['gone', 'broken', 'late', 'undrilled', 'fine'],
  );
  const report = { clusters, generatedAt: NOW.getTime(), objective: undefined, drillWithin: 14 * DAY, version: '1' };
  const json = JSON.parse(JSON.stringify(reportJson({ ...report, otherContainers: undefined }))) as {
    clusters: object[];
  };
  t.match(json, { generatedAt: NOW.toISOString(), objectiveSeconds: null, drillWithinSeconds: 14 * 86_400 });
  t.match(json.clusters[0], { name: 'gone', state: 'unreachable', reachable: false });
  t.match(json.clusters[4], {
    state: 'ok',
    usualSeconds: 21_600,
    gaps: [],
    kept: [],
    copies: null,
    immutability: { policy: true, legalHold: false },
    lastDrill: { recoverySeconds: 12.3 },
    objective: { seconds: 21_600, held: true },
  });
  t.end();
});

t.test('the table has a column with notes where snapshots are kept', (t) => {
  const [newest, ...older] = series(4, 6 * HOUR);
  if (newest === undefined) throw new Error('no snapshot');
  const keptWith = (note: string) => reported('kept', [{ ...newest, kept: { until: undefined, note } }, ...older]);
  const tableOf = (...clusters: ReturnType<typeof reported>[]): string => {
    const report = { clusters, generatedAt: NOW.getTime(), objective: undefined, drillWithin: 14 * DAY, version: '1' };
    return reportTable({ ...report, otherContainers: undefined });
  };
  const plain = reported('plain', older);
  const table = tableOf(keptWith('before 1.36'), plain, unread('gone'));
  t.match(table, /RECOVERY {2}KEPT\nkept .* 1: before 1\.36\nplain .* -\ngone .* -\n/);
  t.match(tableOf(keptWith('x'.repeat(99))), `1: ${'x'.repeat(24)}…`);
  t.notMatch(tableOf(plain), 'KEPT');
  t.end();
});

t.test('the strip is kept only for the page', (t) => {
  const blobs = series(30, 6 * HOUR);
  t.equal(reported('c', blobs).facts?.strip.at.length, 30);
  t.equal(reported('c', blobs, [drill(HOUR)], { hasStrip: false }).facts?.strip.at.length, 0);
  t.end();
});

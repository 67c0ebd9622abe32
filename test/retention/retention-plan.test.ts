import t from 'tap';
import type { RetentionRules } from '../../src/config/config.ts';
import { decideRetention, type Decision, PERIODS, planRetention } from '../../src/retention/retention-plan.ts';
import type { CataloguedBlob } from '../../src/snapshot/inventory.ts';
import type { SnapshotRecord } from '../../src/snapshot/record.ts';
import { snapshotName } from '../../src/snapshot/snapshot-name.ts';
import { NUMBER_OF, PERIOD_RULES } from '../support/promises.ts';
import { Random } from '../support/random.ts';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const NOW = new Date('2026-11-24T13:00:00Z');

const NO_RULES: RetentionRules = {
  last: undefined,
  hourly: undefined,
  daily: undefined,
  weekly: undefined,
  monthly: undefined,
  yearly: undefined,
  within: undefined,
};

/** That is no snapshot. */
function blob(name: string, storedAt: Date): CataloguedBlob {
  return { name, etag: `"${name}"`, size: 5, storedAt, record: undefined, problem: undefined };
}

function snapshot(taken: number | string, clusterId = 'c1', more: Partial<CataloguedBlob> = {}): CataloguedBlob {
  const takenAt = new Date(taken);
  const record = { clusterId, takenAt, revision: 1, members: [] as SnapshotRecord['members'] } as SnapshotRecord;
  return { ...blob(`${clusterId}@${takenAt.toISOString()}`, takenAt), record, ...more };
}

/** The decisions by name, which must be one for each snapshot, with a reason. */
function decide(
  catalogue: readonly CataloguedBlob[],
  rules: Partial<RetentionRules>,
  clusterIds = ['c1'],
): Record<string, Decision<CataloguedBlob>> {
  const decisions = decideRetention(catalogue, clusterIds, { ...NO_RULES, ...rules }, NOW);
  if (decisions.length !== catalogue.length) throw new Error('not every snapshot has one decision');
  if (decisions.some(({ reasons }) => reasons.length === 0)) throw new Error('not every decision has a reason');
  return Object.fromEntries(decisions.map((decision) => [decision.snapshot.name, decision]));
}

function removed(...args: Parameters<typeof decide>): string[] {
  const decisions = Object.values(decide(...args));
  return decisions.flatMap(({ keep, snapshot }) => (keep ? [] : [snapshot.name])).toSorted();
}

/** The reasons for each moment; those that go are marked. */
function reasons(rules: Partial<RetentionRules>, ...moments: string[]): string[] {
  const snapshots = moments.map((moment) => snapshot(`${moment}Z`));
  const decisions = decide(snapshots, rules);
  return snapshots.map(({ name }) => `${decisions[name]?.keep ? '' : '- '}${decisions[name]?.reasons.join(', ')}`);
}

t.test('of the forms of one snapshot the last one counts', (t) => {
  const formed = (hour: string, form: number, state: 'unsigned' | 'valid' = 'unsigned'): CataloguedBlob => {
    const taken = snapshot(`2026-11-24T${hour}Z`);
    const name = snapshotName('', new Date(`2026-11-24T${hour}Z`), 'age', form);
    const record = { ...taken.record, sha256: hour } as SnapshotRecord;
    return { ...taken, name, record, signature: { state, keyId: null } };
  };
  const [a1, a2, a3] = [1, 2, 3].map((form) => formed('12:00', form));
  const [b1, b2] = [formed('06:00', 1, 'valid'), formed('06:00', 2)];
  const c = formed('03:00', 2);
  if (a1 === undefined || a2 === undefined || a3 === undefined) throw new Error('three forms');
  const newest = snapshot('2026-11-24T13:00Z');
  const all = [newest, a1, a2, a3, b1, b2, c];
  t.strictSame(removed(all, {}), [], 'nothing without a rule');
  t.strictSame(removed(all, { last: 9 }), [a1.name, a2.name].toSorted(), 'none without a signature for a signed one');
  t.match(decide(all, { last: 9 })[a1.name], { reasons: [`superseded by ${a3.name}`] });
  t.strictSame(removed(all, { last: 1 }), [a1, a2, a3, b1, b2, c].map(({ name }) => name).toSorted());
  const b3 = formed('06:00', 3, 'valid');
  const signedFirst = decide([newest, b1, b3, { ...b2, name: b2.name.replace('-r2', '-r9') }], { last: 9 });
  t.match(
    signedFirst[b1.name],
    { reasons: [`superseded by ${b3.name}`] },
    'a later one without a signature changes nothing',
  );
  t.match(signedFirst[b3.name], { keep: true });
  const forged = decide([a1, a3, c], { last: 1 });
  t.match(forged[a1.name], { keep: true, reasons: ['newest'] }, 'all forms of the newest stay: the last can be forged');
  t.match(forged[c.name], { keep: false }, 'and count as one');
  t.match(
    decide([a1, { ...a2, record: undefined }], { last: 1 })[a1.name],
    { keep: true },
    'a blob that does not count',
  );
  const other = { ...a2, record: { ...a2.record, sha256: 'x' } as SnapshotRecord };
  t.strictSame(removed([a1, other], { last: 2 }), [], 'another snapshot of the same second');
  t.end();
});

t.test('what cannot be decided by dates and counts stays', (t) => {
  const at = (taken: string, stored: string, revision: number, more: Partial<SnapshotRecord> = {}): CataloguedBlob => {
    const one = snapshot(`${taken}Z`, 'c1', { storedAt: new Date(`${stored}Z`) });
    return { ...one, record: { ...(one.record as SnapshotRecord), revision, ...more } };
  };
  const dated = at('2026-11-24T12:00', '2026-11-24T12:00', 6);
  const behind = at('2026-11-22T12:30', '2026-11-24T12:30', 7);
  t.strictSame(removed([dated, behind], { within: 3600 }), [], 'newer data of a host whose clock is behind');
  t.match(decide([dated, behind], { within: 3600 })[behind.name], { reasons: ['stored later'] });
  const same = at('2026-11-22T12:30', '2026-11-24T12:30', 6);
  t.strictSame(removed([dated, same], { within: 3600 }), [same.name]);
  const bundle = { name: 'b', etag: 'e', size: 1, isLeased: false };
  const whole = { ...at('2026-11-20T12:00', '2026-11-20T12:00', 1), bundle };
  const older = { ...at('2026-11-19T12:00', '2026-11-19T12:00', 1), bundle };
  const partly = { ...at('2026-11-21T12:00', '2026-11-21T12:00', 1, { bundleMissing: 1 }), bundle };
  const all = [dated, partly, whole, older];
  t.strictSame(removed(all, { last: 1 }), [partly.name, older.name].toSorted());
  t.match(decide(all, { last: 1 })[whole.name], { reasons: ['newest with a complete bundle'] });
  t.end();
});

t.test('every reason, in short words', (t) => {
  t.strictSame(
    reasons({ last: 2, daily: 2 }, '2026-11-24T12:00', '2026-11-24T06:00', '2026-11-23T18:00', '2026-11-23T12:00'),
    ['newest, last 2, daily 2026-11-24', 'last 2', 'daily 2026-11-23', '- not kept by last 2, daily 2'],
  );
  t.strictSame(
    reasons({ hourly: 1, weekly: 1, monthly: 1, yearly: 1, within: 36 * 3600 }, '2026-11-24T12:00', '2026-11-23T00:00'),
    [
      'newest, hourly 2026-11-24T12, weekly 2026-W48, monthly 2026-11, yearly 2026, within 36h',
      '- not kept by hourly 1, weekly 1, monthly 1, yearly 1, within 36h',
    ],
    'within is less than, as restic counts',
  );
  t.strictSame(
    reasons({ monthly: 3 }, '2026-11-24T12:00', '2026-10-20T12:00', '2026-10-10T12:00', '2026-10-01T12:00'),
    ['newest, monthly 2026-11', 'monthly 2026-10', '- not kept by monthly 3', 'oldest monthly'],
    'while there are fewer months than asked for, the oldest stays as well',
  );
  t.end();
});

t.test('ISO weeks', (t) => {
  for (const [day, week] of [
    ['2020-12-31', '2020-W53'],
    ['2021-01-03', '2020-W53'],
    ['2021-01-04', '2021-W01'],
    ['2024-12-29', '2024-W52'],
    ['2024-12-30', '2025-W01'],
    ['2026-11-24', '2026-W48'],
    ['2027-01-01', '2026-W53'],
  ] as const) {
    t.equal(PERIODS.weekly(new Date(`${day}T23:59:59.999Z`)), week, day);
  }
  t.end();
});

t.test('without a rule nothing is deleted', (t) => {
  const five = [1, 2, 3, 4, 5].map((day) => snapshot(NOW.getTime() - day * DAY));
  t.strictSame(removed(five, {}), []);
  t.ok(Object.values(decide(five, {})).every(({ reasons }) => reasons[0] === 'no rule is set'));
  t.end();
});

t.test('foreign blobs neither go nor count', (t) => {
  const five = [1, 2, 3, 4, 5].map((day) => snapshot(NOW.getTime() - day * DAY));
  const notes = blob('notes.txt', NOW);
  const foreign = [notes, snapshot(NOW.getTime(), 'c2'), snapshot(0, 'c2')];
  t.strictSame(removed([...foreign, ...five], { last: 4 }), [five[4]?.name]);
  t.strictSame(removed(foreign, { last: 1 }), []);
  const { 'notes.txt': unrecorded, [foreign[1]?.name ?? '']: other } = decide([...foreign, ...five], { last: 4 });
  t.match([unrecorded, other], [{ reasons: ['no record'] }, { reasons: ['of another cluster'] }]);
  t.end();
});

t.test('a snapshot dated in the future stays, and does not push out good ones', (t) => {
  const good = [1, 2, 3].map((day) => snapshot(NOW.getTime() - day * DAY));
  // By our clock, and by that of the service: ours may be the one that is wrong.
  const ahead = snapshot('2027-01-01T00:00:00Z');
  const misdated = snapshot('2026-11-24T12:00:00Z', 'c1', { storedAt: new Date('2026-11-20T12:00:00Z') });
  const catalogue = [...good, ahead, misdated];
  t.strictSame(removed(catalogue, { last: 2, within: 2 * 86_400 }), [good[2]?.name]);
  t.match(decide(catalogue, { last: 2 })[ahead.name], { keep: true, reasons: ['dated in the future'] });
  const plan = planRetention(catalogue, { rules: NO_RULES, previousClusterIds: [] }, NOW);
  t.equal(plan.current, good[0], 'nor is it the newest');
  t.same(new Set(plan.futureDated), new Set([ahead, misdated]));
  t.strictSame(
    removed([snapshot(NOW.getTime() + 4 * 60_000), ...good], { last: 1 }).length,
    3,
    'clocks differ a little',
  );
  t.end();
});

t.test('two workers that have just stored a snapshot never delete both', (t) => {
  const at = NOW.getTime();
  for (const [apart, dated] of [
    [0, 0],
    [0, 240_000],
    [0, -240_000],
    [1000, 0],
    [1000, 240_000],
    [1000, -240_000],
    [1000, -10 * 365 * DAY],
    [60_000, 240_000],
  ] as const) {
    const first = snapshot(at + dated, 'c1', { storedAt: new Date(at) });
    const second = snapshot(at + apart + 1, 'c1', { storedAt: new Date(at + apart) });
    const gone = [first, second].flatMap((fresh) => {
      const record = fresh.record as SnapshotRecord;
      const rules = { ...NO_RULES, last: 1 };
      const decisions = decideRetention([first, second], ['c1'], rules, new Date(at + apart), { ...fresh, record });
      return decisions.flatMap(({ keep, snapshot: { name } }) => (keep ? [] : [name]));
    });
    t.ok(new Set(gone).size < 2, `${apart} ms apart, dated ${dated} ms off`);
  }
  t.end();
});

t.test('previous cluster ids make one history with this cluster', (t) => {
  const earlier = [5, 6, 7].map((day) => snapshot(NOW.getTime() - day * DAY, 'c0'));
  const own = [1, 2].map((day) => snapshot(NOW.getTime() - day * DAY));
  t.strictSame(removed([...earlier, ...own], { last: 3 }), []);
  t.strictSame(removed([...earlier, ...own], { last: 3 }, ['c1', 'c0']), [earlier[2]?.name, earlier[1]?.name]);
  const { anomalies, otherClusterIds, current } = planRetention(
    [...earlier, ...own],
    { rules: NO_RULES, previousClusterIds: ['c9'] },
    NOW,
  );
  t.match({ anomalies, otherClusterIds, current }, { anomalies: [], otherClusterIds: ['c0'], current: own[0] });
  // Whatever the other id does: this cluster keeps its own newest.
  const alive = [0, 0.5].map((day) => snapshot(NOW.getTime() - day * DAY, 'c0'));
  t.match(decide([...alive, ...own], { last: 1 }, ['c1', 'c0'])[own[0]?.name ?? ''], { reasons: ['newest'] });
  t.end();
});

t.test('two years with a backup every six hours: each rule holds what it promises, every time', (t) => {
  const rules = { last: 5, hourly: 9, daily: 14, weekly: 8, monthly: 12, yearly: 2, within: 3 * 86_400 };
  const most = rules.last + rules.hourly + rules.daily + rules.weekly + rules.monthly + rules.yearly + 12 + 1;
  const random = new Random(7);
  const newestOf = new Map(PERIOD_RULES.map((rule) => [rule, new Map<number, string>()]));
  const ever: CataloguedBlob[] = [];
  let there: CataloguedBlob[] = [];
  const broken = new Set<string>();
  for (let at = Date.UTC(2024, 10, 20); at < NOW.getTime(); at += 6 * HOUR) {
    // Now and then nothing runs for some days.
    if (random.below(200) === 0) at += random.below(20) * DAY;
    const latest = snapshot(Math.min(at + random.below(HOUR), NOW.getTime()));
    ever.push(latest);
    for (const [rule, newest] of newestOf)
      newest.set(NUMBER_OF[rule](latest.record?.takenAt.getTime() ?? 0), latest.name);
    const gone = removed([...there, latest], rules);
    there = [...there, latest].filter(({ name }) => !gone.includes(name));

    const names = new Set(there.map(({ name }) => name));
    const promised = (rule: string, wanted: readonly string[]): void => {
      if (wanted.some((name) => !names.has(name))) broken.add(`${rule} at ${latest.name}`);
    };
    const since = Number(latest.record?.takenAt) - rules.within * 1000;
    promised(
      'last',
      ever.slice(-rules.last).map(({ name }) => name),
    );
    promised(
      'within',
      ever.filter(({ record }) => Number(record?.takenAt) > since).map(({ name }) => name),
    );
    for (const [rule, newest] of newestOf) {
      promised(rule, [...newest.values()].slice(-rules[rule]));
      if (newest.size < rules[rule]) promised(`oldest ${rule}`, [ever[0]?.name ?? '']);
    }
    if (there.length > most) broken.add(`${there.length} are left at ${latest.name}`);
  }
  t.strictSame([...broken].slice(0, 5), []);
  t.ok(ever.length > 2000, `${ever.length} backups, ${there.length} left`);
  t.end();
});

t.test('a former cluster with the same id: what it left stays, and counts for nothing', (t) => {
  const MINUTE = 60_000;
  const at = (ago: number, revision: number, names: string[] = ['a', 'b'], storedAgo = ago): CataloguedBlob => {
    const takenAt = new Date(NOW.getTime() - ago);
    const members = names.map((name, index) => ({ id: `m${index}`, name, peerURLs: [], isLearner: false }));
    const record = { clusterId: 'c1', takenAt, revision, members } as unknown as SnapshotRecord;
    const storedAt = new Date(NOW.getTime() - storedAgo);
    return { ...blob(`${revision}@${ago / MINUTE}`, storedAt), record };
  };
  const ids = (blobs: readonly CataloguedBlob[], clusterIds?: string[]): string[] =>
    removed(blobs, { last: 1 }, clusterIds).map((name) => name.split('@')[0] ?? '');

  const growing = [at(HOUR, 30), at(2 * HOUR, 20), at(3 * HOUR, 10)];
  t.strictSame(ids(growing), ['10', '20'], 'one history');
  const rebuilt = [at(HOUR, 6), at(2 * HOUR, 5), at(3 * HOUR, 900), at(4 * HOUR, 4), at(5 * HOUR, 3)];
  t.strictSame(ids(rebuilt), ['5'], 'revisions that begin again');
  t.match(decide(rebuilt, { last: 4 })['900@180'], { keep: true, reasons: ['of a former cluster with this id'] });
  t.notOk(decide(rebuilt, { last: 1 })['5@120']?.keep);
  t.strictSame(ids(rebuilt, ['c1', 'c1']), ['3', '4', '5', '900'], 'unless its id is listed as an earlier one');

  const renamed = [at(HOUR, 30, ['x', 'y']), at(2 * HOUR, 20, ['x', 'y']), at(3 * HOUR, 10), at(4 * HOUR, 5)];
  t.strictSame(ids(renamed), ['20'], 'the same members under other names');
  const one = [at(HOUR, 30, ['x', 'b']), at(2 * HOUR, 20), at(3 * HOUR, 10, ['a'])];
  t.strictSame(ids(one), ['10', '20'], 'one member under another name');
  const joined = [at(HOUR, 30, ['a', 'b', 'c']), at(2 * HOUR, 20, ['a', '']), at(3 * HOUR, 10, ['a'])];
  t.strictSame(ids(joined), ['10', '20'], 'members that join, also before they have a name');

  const overlapping = [at(HOUR, 29), at(HOUR + 4 * MINUTE, 30), at(2 * HOUR, 10)];
  t.strictSame(
    ids(overlapping),
    ['10', '30'],
    'two runs at the same time, of which one asked a member that was behind',
  );
  const slowClock = [at(HOUR, 20), at(2 * HOUR, 30, ['a', 'b'], MINUTE), at(3 * HOUR, 10)];
  t.strictSame(ids(slowClock), ['10'], 'a host whose clock is slow: it was stored later, and has newer data');

  const imported = (ago: number, revision: number): CataloguedBlob => {
    const { record, ...rest } = at(ago, revision, ['a', 'b'], 0);
    return { ...rest, record: { ...record, imported: 'etcd-snapshot-m1' } as SnapshotRecord };
  };
  const between = [at(HOUR, 30, ['x', 'y']), at(2 * HOUR, 20, []), at(3 * HOUR, 10), at(4 * HOUR, 5)];
  t.strictSame(ids(between), ['20'], 'other names, with unknown members between them');
  const filled = [at(HOUR, 30), imported(2 * HOUR, 20), at(3 * HOUR, 10), imported(4 * HOUR, 5)];
  t.strictSame(ids(filled), ['10', '20', '5'].toSorted(), 'old snapshots that were imported later');
  const misdated = [at(HOUR, 30), imported(2 * HOUR, 5), at(3 * HOUR, 20), at(4 * HOUR, 10)];
  t.strictSame(ids(misdated), ['10', '20', '5'].toSorted(), 'the wrong date of a file');
  const ofBoth = [at(HOUR, 6), at(2 * HOUR, 5), at(3 * HOUR, 900), imported(4 * HOUR, 800)];
  t.strictSame(ids(ofBoth), ['5'], 'what is older than the former cluster belongs to it');
  t.end();
});

t.test('a snapshot with a mark stays, takes no place of another one, and says why', (t) => {
  const days = ['01', '02', '03', '04', '05', '06'].map((day) => `2026-11-${day}T12:00:00Z`);
  const kept = { until: new Date('2027-02-26T12:00:00Z'), note: 'before 1.36' };
  const marked = (...which: number[]): CataloguedBlob[] =>
    days.map((day, index) => snapshot(day, 'c1', which.includes(index) ? { kept } : {}));
  const left = (rules: Partial<RetentionRules>, ...which: number[]): string =>
    Object.values(decide(marked(...which), rules))
      .map(({ keep, reasons: [reason = ''] }) => (keep ? (reason.startsWith('kept') ? 'K' : 'k') : '-'))
      .join('');
  t.equal(left({ last: 2 }, 1, 4), '-K-kKk');
  t.equal(left({ last: 2 }, 5), '---kkk', 'the newest one, which is named as such');
  t.equal(left({ daily: 2 }, 5, 4), '--kkKk');
  t.equal(left({ within: 36 * 3600 }, 5), '---kkk', 'the time counts from the newest one without a mark');
  t.equal(left({ yearly: 2 }, 0), 'Kk---k', 'the oldest one without a mark is kept as the oldest');
  t.equal(left({}, 0), 'kkkkkk');
  const decisions = decide(marked(1, 5), { last: 1 });
  t.strictSame(decisions[`c1@${new Date(days[1] ?? '').toISOString()}`]?.reasons, [
    'kept until 2027-02-26: before 1.36',
  ]);
  t.strictSame(decisions[`c1@${new Date(days[5] ?? '').toISOString()}`]?.reasons, [
    'newest',
    'kept until 2027-02-26: before 1.36',
  ]);
  const ofEarlier = snapshot('2026-10-01T00:00:00Z', 'c0', { kept });
  t.strictSame(removed([ofEarlier, ...marked()], { last: 6 }, ['c1', 'c0']), [], 'of a previous cluster id');
  const form = (number: number): CataloguedBlob => {
    const takenAt = new Date('2026-11-01T06:00:00Z');
    return { ...snapshot(takenAt.getTime()), name: snapshotName('', takenAt, 'age', number), kept };
  };
  t.strictSame(removed([form(1), form(2), ...marked()], { last: 6 }), [], 'and its earlier forms');
  t.end();
});

import t from 'tap';
import type { RetentionRules } from '../../src/config.ts';
import { PERIODS } from '../../src/snapshot/period.ts';
import { planRetention } from '../../src/snapshot/plan.ts';
import type { SnapshotRecord } from '../../src/snapshot/record.ts';
import { type CataloguedSnapshot, decideRetention, type Decision } from '../../src/snapshot/retention.ts';
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

function snapshot(
  taken: number | string,
  clusterId = 'c1',
  more: Partial<CataloguedSnapshot> = {},
): CataloguedSnapshot {
  const takenAt = new Date(taken);
  const record = { clusterId, takenAt } as SnapshotRecord;
  return { name: `${clusterId}@${takenAt.toISOString()}`, storedAt: takenAt, record, ...more };
}

/** The decisions by name, which must be one for each snapshot, with a reason. */
function decide(
  catalogue: readonly CataloguedSnapshot[],
  rules: Partial<RetentionRules>,
  clusterIds = ['c1'],
): Record<string, Decision<CataloguedSnapshot>> {
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

t.test('no rule, nothing goes', (t) => {
  const five = [1, 2, 3, 4, 5].map((day) => snapshot(NOW.getTime() - day * DAY));
  t.strictSame(removed(five, {}), []);
  t.ok(Object.values(decide(five, {})).every(({ reasons }) => reasons[0] === 'no rule is set'));
  t.end();
});

t.test('foreign blobs neither go nor count', (t) => {
  const five = [1, 2, 3, 4, 5].map((day) => snapshot(NOW.getTime() - day * DAY));
  const notes = { name: 'notes.txt', storedAt: NOW, record: undefined };
  const foreign = [notes, snapshot(NOW.getTime(), 'c2'), snapshot(0, 'c2')];
  t.strictSame(removed([...foreign, ...five], { last: 4 }), [five[4]?.name]);
  t.strictSame(removed(foreign, { last: 1 }), []);
  const { 'notes.txt': unrecorded, [foreign[1]?.name ?? '']: other } = decide([...foreign, ...five], { last: 4 });
  t.match([unrecorded, other], [{ reasons: ['no record'] }, { reasons: ['of another cluster'] }]);
  t.end();
});

t.test('a snapshot from the future stays, and does not push out good ones', (t) => {
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

t.test('named earlier lives make one history with this cluster', (t) => {
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

/** The number of a period, by arithmetic of its own. */
const NUMBER_OF: Record<keyof typeof PERIODS, (ms: number) => number> = {
  hourly: (ms) => Math.floor(ms / HOUR),
  daily: (ms) => Math.floor(ms / DAY),
  // The first of January 1970 was a Thursday.
  weekly: (ms) => Math.floor((Math.floor(ms / DAY) + 3) / 7),
  monthly: (ms) => new Date(ms).getUTCFullYear() * 12 + new Date(ms).getUTCMonth(),
  yearly: (ms) => new Date(ms).getUTCFullYear(),
};
const PERIOD_RULES = ['hourly', 'daily', 'weekly', 'monthly', 'yearly'] as const;

/** What must be removed, straight from what each rule promises; slow, and as unlike the product as possible. */
function oracle(
  catalogue: readonly CataloguedSnapshot[],
  rules: RetentionRules,
  [id = '', ...ids]: string[],
): string[] {
  const history = catalogue.flatMap(({ name, record, storedAt }) => {
    const at = record?.takenAt.getTime() ?? Infinity;
    const isMember = record !== undefined && [id, ...ids].includes(record.clusterId);
    const isAhead = at - storedAt.getTime() > 300_000 || at - NOW.getTime() > 300_000;
    return isMember && !isAhead ? [{ name, at, isOwn: record.clusterId === id }] : [];
  });
  return history
    .filter((one) => {
      const newer = history.filter(({ at, name }) => at > one.at || (at === one.at && name > one.name));
      const isPromised = [
        one.isOwn && !newer.some(({ isOwn }) => isOwn),
        newer.length < (rules.last ?? 0),
        history.every(({ at }) => at - one.at < (rules.within ?? 0) * 1000),
        ...PERIOD_RULES.map((rule) => {
          const period = (moment: { at: number }): number => NUMBER_OF[rule](moment.at);
          const newerPeriods = new Set(newer.map(period));
          const allPeriods = new Set(history.map(period));
          const isOldest = newer.length === history.length - 1;
          const count = rules[rule] ?? 0;
          if (newerPeriods.size < count && !newerPeriods.has(period(one))) return true;
          return isOldest && allPeriods.size < count;
        }),
      ];
      return Object.values(rules).some((value) => value !== undefined) && !isPromised.includes(true);
    })
    .map(({ name }) => name)
    .toSorted();
}

/** Up to two years with gaps, several clusters, wrong clocks, and more than one in the same second. */
function randomHistory(random: Random): CataloguedSnapshot[] {
  const step = random.of([HOUR / 3, HOUR, 6 * HOUR, DAY, 5 * DAY]);
  let at = NOW.getTime();
  return Array.from({ length: 1 + random.below(100) }, (_, index) => {
    at -= random.below(20) === 0 ? random.below(60) * DAY : random.below(4) === 0 ? 0 : random.below(2 * step);
    const clusterId = random.of(['c1', 'c1', 'c1', 'c0', 'c2']);
    const name = `${random.below(1000)}-${index}`;
    if (random.below(15) === 0) return { name, storedAt: new Date(at), record: undefined };
    const skew = random.below(15) === 0 ? random.below(2000) * HOUR : 0;
    const storedAt = random.below(2) === 0 ? new Date(at) : NOW;
    return snapshot(Math.floor((at + skew) / 1000) * 1000, clusterId, { name, storedAt });
  });
}

function randomRules(random: Random): RetentionRules {
  const count = (most: number): number | undefined => (random.below(3) > 0 ? undefined : 1 + random.below(most));
  return {
    last: count(20),
    hourly: count(30),
    daily: count(20),
    weekly: count(10),
    monthly: count(12),
    yearly: count(3),
    within: random.below(4) > 0 ? undefined : 3600 * (1 + random.below(1000)),
  };
}

t.test('random histories: what the rules promise stays, and nothing else', (t) => {
  let removals = 0;
  for (let seed = 1; seed <= 600; seed++) {
    const random = new Random(seed);
    const history = randomHistory(random);
    const rules = randomRules(random);
    const ids = random.of([['c1'], ['c1', 'c0']]);
    const gone = removed(history, rules, ids);
    removals += gone.length;
    const rest = history.filter(({ name }) => !gone.includes(name));
    const interrupted = history.filter(({ name }) => !gone.includes(name) || random.below(2) === 0);
    const shuffled = history.map((item) => ({ item, key: random.below(1e9) })).toSorted((a, b) => a.key - b.key);

    const more = { ...rules };
    const rule = random.of(['last', ...PERIOD_RULES, 'within'] as const);
    more[rule] = (more[rule] ?? 0) + 1 + random.below(rule === 'within' ? 1e7 : 10);
    const goneWithMore = removed(history, more, ids);
    const hadRules = Object.values(rules).some((value) => value !== undefined);

    const failures = [
      ...(same(gone, oracle(history, rules, ids)) ? [] : ['not what the rules promise']),
      ...(same(
        gone,
        removed(
          shuffled.map(({ item }) => item),
          rules,
          ids,
        ),
      )
        ? []
        : ['the order matters']),
      ...(same([], removed(rest, rules, ids)) ? [] : ['a second time deletes more']),
      ...(removed(interrupted, rules, ids).every((name) => gone.includes(name))
        ? []
        : ['an interrupted one changes it']),
      ...(!hadRules || goneWithMore.every((name) => gone.includes(name)) ? [] : [`more ${rule} deletes more`]),
    ];
    if (failures.length > 0) t.fail(`seed ${seed}: ${failures.join(', ')}`, { rules });
  }
  t.ok(removals > 5000, `${removals} removals were looked at`);
  t.end();
});

function same(a: readonly string[], b: readonly string[]): boolean {
  return a.join() === b.join();
}

t.test('two years with a backup every six hours: each rule holds what it promises, every time', (t) => {
  const rules = { last: 5, hourly: 9, daily: 14, weekly: 8, monthly: 12, yearly: 2, within: 3 * 86_400 };
  const most = rules.last + rules.hourly + rules.daily + rules.weekly + rules.monthly + rules.yearly + 12 + 1;
  const random = new Random(7);
  const newestOf = new Map(PERIOD_RULES.map((rule) => [rule, new Map<number, string>()]));
  const ever: CataloguedSnapshot[] = [];
  let there: CataloguedSnapshot[] = [];
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

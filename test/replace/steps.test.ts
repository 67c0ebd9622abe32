import t from 'tap';
import { Deadline } from '../../src/commands/replace-member.ts';
import { UnsafeError } from '../../src/errors.ts';
import type { MemberStatus } from '../../src/etcd/messages.ts';
import {
  type ClusterHealth,
  judge,
  type Probe,
  quorumInWords,
  quorumOf,
  spareOf,
} from '../../src/etcd/cluster-health.ts';
import { readReplacement, settingsInWords, settingsOf } from '../../src/replace/replacement.ts';
import { describeSteps, looksRemoved, nextStep } from '../../src/replace/steps.ts';
import { Random } from '../support/random.ts';

interface Fake {
  readonly id: string;
  name: string;
  readonly url: string;
  isLearner: boolean;
  isUp: boolean;
  isCorrupt: boolean;
  version: string;
}

function fake(number: number, change: Partial<Fake> = {}): Fake {
  const id = `a${number.toString(16).padStart(15, '0')}`;
  const url = `https://10.0.0.${number}:2380`;
  const sound = { isLearner: false, isUp: true, isCorrupt: false, version: '3.5.30' };
  return { id, name: `m${number}`, url, ...sound, ...change };
}

/** What a survey of such members would find; the first one that is up leads. */
function survey(members: readonly Fake[]): ClusterHealth {
  const voters = members.filter(({ isLearner }) => !isLearner);
  const up = voters.filter(({ isUp }) => isUp);
  const works = up.length >= quorumOf(voters.length, 0).needed;
  const alarms = members.filter(({ isCorrupt }) => isCorrupt).map(({ id }) => ({ memberId: id, alarm: 'CORRUPT' }));
  const probe = (member: Fake): Probe => {
    const { id, name, url, isLearner, isUp, version } = member;
    const clientURLs = name === '' ? [] : [url.replace('2380', '2379')];
    const status: MemberStatus = {
      ...{ endpoint: url, clusterId: 'c', memberId: id, version, isLeader: works && member === up[0], isLearner },
      ...{ hasLeader: works, dbSize: 1, dbSizeInUse: 1, revision: 1, raftTerm: 1, raftIndex: 9, raftAppliedIndex: 9 },
      ...{ alarms, errors: works ? [] : ['etcdserver: no leader'] },
    };
    return {
      member: { id, name, peerURLs: [url], clientURLs, isLearner },
      status: isUp ? status : undefined,
      failures: isUp ? [] : ['silent'],
      isAlive: isUp,
    };
  };
  return judge(members.map(probe));
}

function request(failed: string, name: string, url: string, asVoter = false): ReturnType<typeof readReplacement> {
  return readReplacement(failed, { name, 'peer-urls': url, voter: asVoter });
}

const NEW = 'https://10.0.0.9:2380';

t.test('the quorum in words', (t) => {
  for (const [voters, healthy, words] of [
    [1, 1, '1 member, 1 healthy, quorum 1: one failure stops the cluster'],
    [2, 2, '2 members, 2 healthy, quorum 2: one failure stops the cluster'],
    [3, 3, '3 members, 3 healthy, quorum 2: the cluster tolerates 1 failure'],
    [3, 2, '3 members, 2 healthy, quorum 2: one more failure stops the cluster'],
    [5, 4, '5 members, 4 healthy, quorum 3: the cluster tolerates 1 more failure'],
    [5, 5, '5 members, 5 healthy, quorum 3: the cluster tolerates 2 failures'],
    [3, 0, '3 members, 0 healthy, quorum 2: quorum is lost, 2 members must come back before the cluster works again'],
    [3, 1, '3 members, 1 healthy, quorum 2: the cluster works, but too few of its members can be reached from here'],
  ] as const) {
    t.equal(quorumInWords(quorumOf(voters, healthy)), words);
  }
  t.end();
});

t.test('a request that cannot be carried out is refused before anything is asked', (t) => {
  for (const [failed, options, message] of [
    ['m1', { 'peer-urls': NEW }, /needs --name/],
    ['m1', { name: 'm9' }, /needs --peer-urls/],
    ['m1', { name: 'm1', 'peer-urls': NEW }, /the same name/],
    ['', { name: 'm9', 'peer-urls': NEW }, /is empty/],
    ['m1', { name: 'a,b', 'peer-urls': NEW }, /Invalid --name/],
    ['m1', { name: 'm9', 'peer-urls': '10.0.0.1:2380' }, /--peer-urls must be a URL that begins with http/],
    ['m1', { name: 'm9', 'peer-urls': `${NEW},` }, /--peer-urls must be a URL/],
    ['m1', { name: 'm9', 'peer-urls': `${NEW}/x` }, /protocol, host and port only/],
    ['m1', { name: 'm9', 'peer-urls': NEW, 'data-dir': 'here' }, /not an absolute path/],
    ['m1', { name: 'm9', 'peer-urls': NEW, 'data-dir': '/var/$(x)' }, /not an absolute path/],
    ['m1', { name: 'm9', 'peer-urls': NEW, 'client-urls': 'here' }, /--client-urls must be a URL/],
    ['m1', { name: 'm9', 'peer-urls': 'http://0.0.0.0:2380' }, /--peer-urls must be an address at which/],
    ['m1', { name: 'm9', 'peer-urls': `${NEW},https://[::]:2380` }, /--peer-urls must be an address at which/],
    ['m1', { name: 'm9', 'peer-urls': 'https://[::ffff:0.0.0.0]:2380' }, /--peer-urls must be an address at which/],
    ['m1', { name: 'm9', 'peer-urls': NEW, 'client-urls': 'http://[0::0]:2379' }, /--client-urls must be an address/],
  ] as const) {
    t.throws(() => readReplacement(failed, options), { exitCode: 2, message });
  }
  t.end();
});

t.test('the settings, in every form', (t) => {
  const options = { name: 'm9', 'peer-urls': 'https://etcd-9.example.com', 'client-urls': 'https://[fd00::9]:2379' };
  const replacement = readReplacement('m3', { ...options, 'data-dir': '/var/lib/etcddisk/m9' });
  const members = survey([fake(1), fake(2), fake(9, { name: '', url: 'https://etcd-9.example.com:2380' })]).members;
  const settings = settingsOf(replacement, members);
  t.strictSame(settings, {
    name: 'm9',
    'data-dir': '/var/lib/etcddisk/m9',
    'initial-advertise-peer-urls': 'https://etcd-9.example.com:2380',
    // etcd refuses to listen at a name.
    'listen-peer-urls': 'https://0.0.0.0:2380',
    'initial-cluster': 'm1=https://10.0.0.1:2380,m2=https://10.0.0.2:2380,m9=https://etcd-9.example.com:2380',
    'initial-cluster-state': 'existing',
    'advertise-client-urls': 'https://[fd00::9]:2379',
    'listen-client-urls': 'https://[fd00::9]:2379',
  });
  const words = settingsInWords(settings);
  for (const line of [
    '  install -d -m 700 -o etcd -g etcd /var/lib/etcddisk/m9',
    '  ETCD_INITIAL_CLUSTER_STATE="existing"',
    '  Environment="ETCD_DATA_DIR=/var/lib/etcddisk/m9"',
    '    - --listen-peer-urls=https://0.0.0.0:2380',
  ]) {
    t.ok(words.split('\n').includes(line), line);
  }
  t.match(words, /^ {2}--name m9 --data-dir \S+ .*--initial-cluster m1=\S+ --initial-cluster-state existing /m);
  t.end();
});

t.test('no name or URL of another member becomes a command', (t) => {
  const replacement = readReplacement('m3', { name: 'm9', 'peer-urls': NEW });
  const [good] = survey([fake(1)]).members;
  for (const change of [
    { name: 'm1; touch /tmp/x #' },
    { name: 'm1" "ETCD_FORCE_NEW_CLUSTER=true' },
    { name: '$(reboot)' },
    { name: 'm1\nETCD_X=1' },
    { name: '-m' },
    { name: '\u202em' },
    { name: 'a,b' },
    { name: 'a=b' },
    { peerURLs: ['https://10.0.0.1:2380\ntouch /tmp/y'] },
    { peerURLs: ['https://$(reboot):2380'] },
    { peerURLs: ["https://a';reboot;':2380"] },
    { peerURLs: [] },
  ]) {
    const refusal = { name: 'UnsafeError', exitCode: 20, message: /The settings cannot contain/ };
    t.throws(() => settingsOf(replacement, [{ ...good!, ...change }]), refusal, JSON.stringify(change));
  }
  const odd = { ...good!, name: 'máster~1@x', peerURLs: ['https://[fe80::1%25eth0]:2380'] };
  const isPossible = URL.canParse('https://[fe80::1%25eth0]:2380');
  if (isPossible) t.match(settingsInWords(settingsOf(replacement, [odd])), '%%25eth0');
  const words = settingsInWords(settingsOf(replacement, [{ ...odd, peerURLs: ['https://h1:2380'] }]));
  t.match(words, `  --name m9 --data-dir /var/lib/etcd/m9 `);
  t.match(words, `--initial-cluster 'máster~1@x=https://h1:2380,m9=${NEW}'`);
  t.match(words, `Environment="ETCD_INITIAL_CLUSTER=máster~1@x=https://h1:2380,m9=${NEW}"`);
  const elsewhere = readReplacement('m3', { name: 'm9', 'peer-urls': NEW }, '/var/lib/etcddisk');
  t.equal(elsewhere.dataDir, '/var/lib/etcddisk/m9');
  t.end();
});

t.test('a member that is corrupt is replaced although it runs, unless it leads', (t) => {
  const wanted = request('m2', 'm9', NEW);
  const members = [fake(1), fake(2, { isCorrupt: true }), fake(3)];
  t.match(nextStep(survey(members), wanted, false), { kind: 'remove', member: { name: 'm2' } });
  const leads = [fake(2, { isCorrupt: true }), fake(1), fake(3)];
  t.throws(() => nextStep(survey(leads), wanted, false), { exitCode: 20, message: /is the leader/ });
  t.end();
});

t.test('what does not fit the cluster', (t) => {
  const sound = [fake(1), fake(2), fake(3)];
  const failed = [fake(1), fake(2), fake(3, { isUp: false })];
  for (const [members, wanted, message] of [
    [sound, request('m7', 'm9', NEW), /There is no member m7 in the cluster of m1 /],
    [sound, request('m3', 'm9', NEW), /m3 \(a0+3\) is healthy/],
    [failed, request('m3', 'm2', NEW), /The name m2 belongs to member m2/],
    [failed, request('m3', 'm9', fake(2).url), /The peer URL .* belongs to member m2/],
    [failed, request('m3', 'm9', `${NEW},${fake(2).url}`), /belongs to member m2/],
    [[fake(1), fake(2), fake(9)], request('m3', 'm8', NEW), /belongs to member m9/],
  ] as const) {
    t.throws(() => nextStep(survey(members), wanted, false), { exitCode: 20, message });
  }
  t.match(nextStep(survey(failed), request('m3', 'm9', fake(3).url), false), { kind: 'remove' }, 'its own URL is free');
  t.end();
});

t.test('other members that have failed', (t) => {
  const five = [fake(1), fake(2), fake(3), fake(4, { isUp: false }), fake(5, { isUp: false })];
  t.throws(() => nextStep(survey(five), request('m4', 'm9', NEW), false), {
    exitCode: 20,
    message: /m5 \(a0+5\) is unreachable too, .*5 members, 3 healthy, quorum 3: one more failure stops the cluster/,
    hint: /member remove a0+5/,
  });
  const started = [fake(1), fake(2), fake(3, { isUp: false }), fake(4, { name: '', isUp: false }), fake(5)];
  t.throws(() => nextStep(survey(started), request('m3', 'm9', NEW), false), { message: /never started/ });
  t.match(nextStep(survey(started.toSpliced(2, 1)), request(fake(4).id, 'm9', NEW), false), { kind: 'remove' });
  const twins = [fake(1), fake(2), fake(3, { name: 'm2', isUp: false })];
  t.throws(() => nextStep(survey(twins), request('m2', 'm9', NEW), false), { message: /Two members have the name m2/ });
  t.match(nextStep(survey(twins), request(fake(3).id, 'm9', NEW), false), { kind: 'remove' });
  t.end();
});

t.test('a voting member is added at once only where the cluster goes on without it', (t) => {
  const rest = [fake(1), fake(2)];
  t.match(nextStep(survey(rest), request('m3', 'm9', NEW, true), true), { kind: 'add' });
  t.throws(() => nextStep(survey([fake(1)]), request('m2', 'm9', NEW, true), true), {
    exitCode: 20,
    message: /would leave 2 members, 1 healthy, quorum 2/,
  });
  t.match(nextStep(survey([fake(1)]), request('m2', 'm9', NEW), true), { kind: 'add' });
  const old = [fake(1, { version: '3.3.25' }), fake(2), fake(3, { isUp: false })];
  t.throws(() => nextStep(survey(old), request('m3', 'm9', NEW), false), {
    message: /3\.3\.25, which has no learners/,
  });
  t.match(nextStep(survey(old), request('m3', 'm9', NEW, true), false), { kind: 'remove' });
  t.end();
});

t.test('an earlier run removed the member', async (t) => {
  const [even, odd] = [survey([fake(1), fake(2)]), survey([fake(1), fake(2), fake(3)])];
  const { id } = fake(7);
  const looks = async (cluster: ClusterHealth, failed: string, ids: readonly string[]): Promise<boolean> =>
    looksRemoved(cluster, failed, async () => ids);
  t.ok(await looks(odd, id, [id]));
  t.ok(await looks(odd, id.toUpperCase(), [id]));
  t.notOk(await looks(even, id, [fake(8).id]));
  t.ok(await looks(even, 'm7', [id]), 'names are not stored, but one member is missing');
  t.notOk(await looks(even, 'm7', []));
  const unused = async (): Promise<never> => t.fail('no snapshot is needed') as never;
  t.notOk(await looksRemoved(odd, 'm7', unused), 'no member is missing');
});

t.test('the plan says what each step does to the quorum', (t) => {
  const cluster = survey([fake(1), fake(2), fake(3, { isUp: false })]);
  const learner = request('m3', 'm9', NEW);
  t.strictSame(describeSteps(nextStep(cluster, learner, false), cluster, learner), [
    `remove member m3 (${fake(3).id}): 2 members, 2 healthy, quorum 2`,
    `add m9 at ${NEW} as a learner, which has no vote yet: 2 members, 2 healthy, quorum 2`,
    'start the etcd of m9 with its settings',
    'wait until m9 has the data of the cluster and is healthy',
    'promote m9 to a voting member: 3 members, 3 healthy, quorum 2',
  ]);
  const voter = request('m3', 'm9', NEW, true);
  t.strictSame(describeSteps(nextStep(cluster, voter, false), cluster, voter).slice(1, 3), [
    `add m9 at ${NEW} as a voting member: 3 members, 2 healthy, quorum 2`,
    'start the etcd of m9 with its settings',
  ]);
  t.end();
});

t.test('no sequence of failures and commands, right or wrong, loses quorum by a step', async (t) => {
  const ends: Record<string, number> = {};
  for (let seed = 0; seed < 2_000; seed++) {
    const random = new Random(seed);
    const members = Array.from({ length: 1 + random.below(5) }, (_, index) => fake(index + 1));
    const removed: string[] = [];
    let next = 10;
    for (let act = 0; act < 40; act++) {
      const member = random.of(members);
      const chance = random.below(10);
      if (chance === 0) member.isUp = false;
      else if (chance === 1) member.isUp = member.name !== '';
      else if (chance === 2)
        Object.assign(member, { name: member.name || `m${parseInt(member.id.slice(1), 16)}`, isUp: true });
      else if (chance === 3) member.isCorrupt = random.below(4) === 0;
      else if (chance < 6) {
        const failed = random.of([member.id, member.name || 'm0', `m${random.below(15)}`, 'abcdefabcdef']);
        await count(failed, random.of([next, next, 1 + random.below(5)]));
      } else {
        // Most operators run the same command again.
        await count(removed.at(-1) ?? member.id, next);
      }
    }

    async function count(failed: string, number: number): Promise<void> {
      const kind = await command(failed, number, random.below(3) === 0);
      ends[kind] = (ends[kind] ?? 0) + 1;
      if (kind === 'done') next++;
    }

    async function command(failed: string, number: number, asVoter: boolean): Promise<string> {
      const { name, url } = fake(number);
      if (failed === name) return 'usage';
      const cluster = survey(members);
      try {
        const wanted = request(failed, name, url, asVoter);
        const wasRemoved = await looksRemoved(cluster, failed, async () => removed);
        const step = nextStep(cluster, wanted, wasRemoved);
        if (step.kind === 'remove') {
          const index = members.findIndex(({ id }) => id === step.member.id);
          const [gone] = members.splice(index, 1);
          removed.push(step.member.id);
          if (gone === undefined || (gone.isUp && !gone.isCorrupt)) t.fail(`seed ${seed}: a sound member is removed`);
        } else if (step.kind === 'add') {
          members.push(fake(number, { name: '', isUp: false, isLearner: !asVoter }));
        } else if (step.kind === 'promote') {
          const promoted = members.find(({ id }) => id === step.member.id);
          if (promoted !== undefined) promoted.isLearner = false;
        }
        if (votes(members) < 0) t.fail(`seed ${seed}: ${step.kind} lost the quorum`);
        if (members.filter(({ isLearner }) => isLearner).length > 1) t.fail(`seed ${seed}: two learners`);
        return step.kind;
      } catch (error) {
        if (!(error instanceof UnsafeError)) throw error;
        return 'refused';
      }
    }
  }
  t.comment(JSON.stringify(ends));
  for (const kind of ['remove', 'add', 'start', 'promote', 'done', 'refused']) t.ok((ends[kind] ?? 0) > 50, kind);
});

t.test('the deadline retries temporary errors, and only after a step', async (t) => {
  const { signal } = new AbortController();
  const lost = new UnsafeError('no quorum', '');
  const deadline = new Deadline(signal, 10_000);
  await t.rejects(deadline.retryOrThrow(lost), lost, 'a refusal before anything was done');
  deadline.renew();
  t.equal(await deadline.retryOrThrow(lost), undefined);
  await t.rejects(deadline.retryOrThrow(new TypeError('a bug')), TypeError);
  const none = new Deadline(signal, -1);
  none.renew();
  await t.rejects(none.retryOrThrow(lost), lost, 'the time is over');
});

/** How many more failures the voting members survive; negative when quorum is lost. */
function votes(members: readonly Fake[]): number {
  const voters = members.filter(({ isLearner }) => !isLearner);
  return spareOf(quorumOf(voters.length, voters.filter(({ isUp }) => isUp).length));
}

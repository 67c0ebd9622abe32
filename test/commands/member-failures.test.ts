import { join } from 'node:path';
import t, { type Test } from 'tap';
import { Azurite } from '../support/azurite.ts';
import { makeAuthority } from '../support/certificates.ts';
import { EtcdCluster, findEtcd } from '../support/etcd.ts';
import { collect, mustRun, temporaryFolder } from '../support/process.ts';
import { type Tamper, TcpProxy } from '../support/tcp-proxy.ts';
import { until } from '../support/until.ts';
import { startWorker } from '../support/worker.ts';

interface Result {
  readonly name: string;
  readonly sha256: string;
  readonly totalSize: number;
  readonly memberId: string;
  readonly endpoint: string;
  readonly members: { endpoint: string; standing: string; reason: string }[];
  readonly attempts: { endpoint: string; memberId: string; failure?: string; readTransactionSeconds: number }[];
  readonly findings: string[];
  readonly anomalies: string[];
}

const dir = temporaryFolder('campaign');
const [authority, azurite] = await Promise.all([
  makeAuthority(join(dir, 'certs')),
  Azurite.start(join(dir, 'azurite')),
]);
t.teardown(async () => azurite.stop());
const versions = findEtcd();
let [clusters, count] = [0, 0];

/** Three TLS members, each behind a proxy, and some 10 MB of data: more than a block. */
class Field {
  readonly cluster: EtcdCluster;
  readonly proxies: readonly TcpProxy[];
  readonly #container: string;

  private constructor(cluster: EtcdCluster, proxies: readonly TcpProxy[], container: string) {
    this.cluster = cluster;
    this.proxies = proxies;
    this.#container = container;
  }

  /** The versions take turns, so that each campaign is run on all of them. */
  static async prepare(t: Test, flags: string[] = []): Promise<Field> {
    const tools = versions[clusters++ % versions.length];
    if (tools === undefined) throw new Error('no etcd');
    const folder = join(dir, `cluster-${clusters}`);
    const cluster = await EtcdCluster.start({ tools, dir: folder, size: 3, tls: authority, flags });
    t.teardown(async () => cluster.stop());
    t.comment(`etcd ${tools.version}`);
    await cluster.fill(200, 50_000);
    return Field.behind(t, cluster);
  }

  /** New proxies, for a test that leaves the cluster as it is. */
  static async behind(t: Test, cluster: EtcdCluster, tamper?: Tamper): Promise<Field> {
    const proxies = await Promise.all(cluster.members.map(async ({ endpoint }) => TcpProxy.start(endpoint, tamper)));
    t.teardown(async () => Promise.all(proxies.map(async (proxy) => proxy.stop())));
    return new Field(cluster, proxies, `campaign-${++count}`);
  }

  get endpoints(): string[] {
    return this.proxies.map(({ url }) => url);
  }

  /** Runs a backup; `meanwhile` is called, with a proxy's index, once some of the stream has passed there and the rest waits. */
  async backup(
    t: Test,
    meanwhile: (index: number) => Promise<void> | void = () => {},
    endpoints = this.endpoints,
    code = 0,
  ): Promise<Result> {
    const worker = startWorker(['--json'], {
      ...this.cluster.variables,
      ...azurite.variables(this.#container),
      SNAPSHOT_ETCD_ENDPOINTS: endpoints.join(','),
    });
    const ended = collect(worker);
    const isOver = (): boolean => worker.exitCode !== null || worker.signalCode !== null;
    for (const proxy of this.proxies) proxy.holdAfter = proxy.passed + 1_000_000;
    const waiting = (): number => this.proxies.findIndex(({ passed, holdAfter }) => passed > holdAfter);
    await until(() => isOver() || waiting() >= 0);
    if (waiting() >= 0) await meanwhile(waiting());
    for (const proxy of this.proxies) proxy.holdAfter = Infinity;
    const { code: actual, stdout, stderr } = await ended;
    t.equal(actual, code, stderr);
    const result = JSON.parse(stdout) as Result;
    t.ok(await this.#isSound(result), 'what is stored is a sound snapshot');
    t.ok(result.attempts.every(({ readTransactionSeconds }) => readTransactionSeconds > 0));
    t.equal(result.attempts.at(-1)?.memberId, result.memberId);
    return result;
  }

  async #isSound({ name, totalSize }: Result): Promise<boolean> {
    const file = join(dir, `${this.#container}.db`);
    await azurite.container(this.#container).getBlobClient(name).downloadToFile(file);
    const status = ['snapshot', 'status', file, '-w', 'json'];
    const { snapshotTool } = this.cluster.tools;
    return JSON.parse(await mustRun(snapshotTool, status, { ETCDCTL_API: '3' })).totalSize === totalSize;
  }
}

/** The first member failed for this reason, and another one gave the snapshot. */
function failedOver(t: Test, { attempts, findings }: Result, failure: RegExp): void {
  t.equal(attempts.length, 2);
  t.match(attempts[0]?.failure, failure);
  t.not(attempts[0]?.endpoint, attempts[1]?.endpoint);
  t.ok(findings.some((finding) => failure.test(finding)));
}

// They wait most of the time.
t.jobs = 6;

t.test('one after the other: members that stop', async (t) => {
  const { cluster } = await Field.prepare(t);
  await t.test('a member is paused in mid-stream', async (t) => {
    const field = await Field.behind(t, cluster);
    let paused = -1;
    const result = await field.backup(t, (index) => {
      paused = index;
      field.cluster.members[index]?.daemon.signal('SIGSTOP');
    });
    field.cluster.members[paused]?.daemon.signal('SIGCONT');
    failedOver(t, result, /made no progress for 30 s/);
  });

  await t.test('a member is killed in mid-stream', async (t) => {
    const field = await Field.behind(t, cluster);
    const result = await field.backup(t, (index) => field.cluster.members[index]?.daemon.signal('SIGKILL'));
    failedOver(t, result, /connection broke|connection refused/);
  });
});

t.test('at the same time: networks that fail', async (t) => {
  t.jobs = 5;
  const { cluster } = await Field.prepare(t);
  for (const [how, ...directions] of [
    ['both ways', 'to client', 'to server'],
    ['towards the worker', 'to client'],
  ] as const) {
    t.test(`the network to a member falls silent ${how}`, async (t) => {
      const field = await Field.behind(t, cluster);
      const result = await field.backup(t, (index) => {
        for (const direction of directions) field.proxies[index]?.frozen.add(direction);
      });
      failedOver(t, result, /made no progress for 30 s/);
    });
  }

  t.test('the network is slow: 200 ms more each way', async (t) => {
    const field = await Field.behind(t, cluster);
    for (const proxy of field.proxies) proxy.latency = 200;
    const { attempts } = await field.backup(t);
    t.equal(attempts.length, 1);
  });

  t.test('one byte is changed on the way', async (t) => {
    let flipped = false;
    const field = await Field.behind(t, cluster, () => {
      let passed = 0;
      return (chunk) => {
        passed += chunk.length;
        if (flipped || passed < 2_000_000) return chunk;
        flipped = true;
        const changed = Buffer.from(chunk);
        changed.writeUInt8((changed[0] ?? 0) ^ 1, 0);
        return changed;
      };
    });
    failedOver(t, await field.backup(t), /connection broke|refused the TLS connection/);
  });

  t.test('a name that cannot be resolved', async (t) => {
    const field = await Field.behind(t, cluster);
    const { members } = await field.backup(t, undefined, ['https://etcd.invalid:2379', ...field.endpoints]);
    t.match(members.at(-1), { standing: 'unreachable', reason: /cannot be resolved/ });
  });
});

t.test('the alarm NOSPACE', async (t) => {
  const field = await Field.prepare(t, ['--quota-backend-bytes', String(16 * 1024 * 1024)]);
  await t.rejects(field.cluster.fill(200, 50_000, '/registry/more/'), 'the database is full');
  const { findings, attempts } = await field.backup(t);
  t.ok(findings.some((finding) => /has the alarm NOSPACE/.test(finding)));
  t.equal(attempts.length, 1);
});

t.test('one after the other: what is done to a cluster', async (t) => {
  const { cluster } = await Field.prepare(t);
  await t.test('the alarm CORRUPT', async (t) => {
    const field = await Field.behind(t, cluster);
    const first = await field.backup(t);
    const memberID = BigInt(`0x${first.memberId}`).toString();
    await field.cluster.gateway('/v3/maintenance/alarm', { action: 'ACTIVATE', memberID, alarm: 'CORRUPT' });
    const { memberId, members } = await field.backup(t);
    t.not(memberId, first.memberId);
    t.match(members.at(-1), { standing: 'fallback', reason: 'has the alarm CORRUPT' });
    const alone = await field.backup(t, undefined, [first.endpoint], 3);
    t.match(
      alone.anomalies,
      [/has the alarm CORRUPT/],
      'where there is no other, it is taken, and held to be suspicious',
    );
    await cluster.gateway('/v3/maintenance/alarm', { action: 'DEACTIVATE', memberID, alarm: 'CORRUPT' });
  });

  await t.test('a learner is first in the list', async (t) => {
    const field = await Field.behind(t, cluster);
    const learner = await field.cluster.addLearner(join(dir, `learner-${count}`));
    const { members, endpoint } = await field.backup(t, undefined, [learner, ...field.endpoints]);
    t.match(members.at(-1), { endpoint: learner, standing: 'unfit', reason: 'is a learner' });
    t.not(endpoint, learner);
  });

  await t.test('etcd compacts, defragments and is written to at full load during the backup', async (t) => {
    const field = await Field.behind(t, cluster);
    let load: Promise<void> | undefined;
    const { attempts } = await field.backup(t, async (index) => {
      load = field.cluster.fill(100, 50_000, '/registry/load/');
      await field.cluster.etcdctl('compact', '5');
      const other = field.cluster.members[(index + 1) % 3]?.endpoint ?? '';
      await field.cluster.etcdctlAt(other, 'defrag');
    });
    await load;
    t.equal(attempts.length, 1);
  });

  await t.test('a member is removed from the cluster while it streams', async (t) => {
    const field = await Field.behind(t, cluster);
    const { memberId } = await field.backup(t);
    for (const proxy of field.proxies) proxy.passed = 0;
    const { attempts } = await field.backup(t, async () => {
      await field.cluster.changeMembers('remove', memberId);
    });
    // The removed member may still finish: what it sent is a snapshot of the cluster all the same.
    t.ok(attempts.length === 1 || /./.test(attempts[0]?.failure ?? ''));
  });
});

t.test('during an upgrade', async (t) => {
  for (const [index, newer] of versions.entries()) {
    const older = versions[index - 1];
    if (older === undefined) continue;
    const upgrade = await EtcdCluster.start({
      tools: older,
      dir: join(dir, `upgrade-${index}`),
      size: 3,
      tls: authority,
    });
    t.teardown(async () => upgrade.stop());
    await upgrade.fill(50, 5000);
    await upgrade.stopMember('m2');
    await upgrade.startMember('m2', newer);
    for (const { endpoint } of upgrade.members) {
      const variables = { ...azurite.variables(`upgrade-${index}`), SNAPSHOT_ETCD_ENDPOINTS: endpoint };
      const worker = startWorker(['--json'], { ...upgrade.variables, ...variables });
      const { code, stdout, stderr } = await collect(worker);
      t.equal(code, 0, `${older.version} to ${newer.version}: ${stderr}`);
      const { etcdVersion, liveKeys } = JSON.parse(stdout) as { etcdVersion: string; liveKeys: number };
      t.ok([older.version, newer.version].includes(etcdVersion));
      t.equal(liveKeys, 50);
    }
  }
});

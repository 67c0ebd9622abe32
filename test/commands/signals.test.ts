import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { Azurite } from '../support/azurite.ts';
import { makeAuthority, trust } from '../support/certificates.ts';
import { EtcdCluster, findEtcd } from '../support/etcd.ts';
import { FakeMember } from '../support/fake-etcd.ts';
import { DATABASE } from '../support/fixtures.ts';
import { FaultProxy, type Fault, type Seen } from '../support/fault-proxy.ts';
import { Lifetime } from '../support/lifetime.ts';
import { collect, type Finished, type Variables, temporaryFolder } from '../support/process.ts';
import { errorOf, runWorker, startWorker } from '../support/worker.ts';

const dir = temporaryFolder('signals');
const [tools] = findEtcd();
if (tools === undefined) throw new Error('no etcd');
const [cluster, large, azurite] = await Promise.all([
  EtcdCluster.start({ tools, dir: join(dir, 'etcd') }),
  EtcdCluster.start({ tools, dir: join(dir, 'large') }),
  Azurite.start(join(dir, 'azurite')),
]);
t.teardown(async () => Promise.all([cluster.stop(), large.stop(), azurite.stop()]));
await large.fill(240, 50_000);
/** Of a snapshot of these objects, of 12 MB. */
const BLOCKS = 3;
t.jobs = 4;
let containers = 0;

/** A container of its own, and the variables of a worker that reaches it through a proxy with these faults. */
interface Place {
  readonly container: string;
  readonly variables: Variables;
}

async function behind(t: Test, rule: (seen: Seen) => Fault, etcd = cluster): Promise<Place> {
  const container = await newContainer();
  const proxy = await FaultProxy.start(azurite.url, rule);
  t.teardown(async () => proxy.stop());
  const variables = { ...etcd.variables, ...azurite.variables(container), SNAPSHOT_AZURE_BLOB_ENDPOINT: proxy.url };
  return { container, variables };
}

async function newContainer(): Promise<string> {
  const container = `signals-${++containers}`;
  await azurite.container(container).create();
  return container;
}

interface Interrupted extends Finished {
  readonly container: string;
  /** From the signal to the end, on a machine that does nothing else. */
  readonly shutdownMs: number;
}

/** Starts a backup, sends the signal when `moment` has come, and returns how it ended and how long that took. */
async function interrupted(
  signal: NodeJS.Signals,
  { container, variables }: Place,
  moment: () => boolean,
): Promise<Interrupted> {
  const worker = startWorker([], { ...variables, SNAPSHOT_LOG_LEVEL: 'debug' });
  const finished = collect(worker);
  while (!moment()) await sleep(10);
  await sleep(100);
  const lifetime = new Lifetime(worker.pid);
  worker.kill(signal);
  return { ...(await finished), container, shutdownMs: lifetime.end() };
}

/** @param outcome what the error says of the blob that was, or may have been, stored */
async function check(t: Test, ended: Interrupted, code: number, outcome?: 'rolled back' | 'unknown'): Promise<void> {
  t.equal(ended.code, code, ended.stderr);
  t.ok(ended.shutdownMs < 2000, `${ended.shutdownMs} ms`);
  t.notMatch(ended.stdout, 'successfully');
  t.strictSame(await azurite.names(ended.container), [], 'nothing is visible');
  const { message, hint } = errorOf(ended);
  t.equal(/; \S+\.db was not read back yet, and was rolled back\.$/.test(message), outcome === 'rolled back', message);
  t.equal(/; \S+\.db may be stored, but was not read back/.test(message), outcome === 'unknown', message);
  t.equal(hint.includes('nothing is stored'), outcome === 'rolled back', hint);
}

const MOMENTS: Record<string, (seen: Seen) => Fault> = {
  'checking the name': ({ method }) => (method === 'HEAD' ? 'hang' : 'pass'),
  'storing the snapshot': ({ method }) => (method === 'PUT' ? 'hang' : 'pass'),
  'the answer to the storing is lost': ({ method }) => (method === 'PUT' ? 'lose-answer' : 'pass'),
  'reading it back': ({ method }) => (method === 'GET' ? 'hang' : 'pass'),
};

for (const [moment, rule] of Object.entries(MOMENTS)) {
  t.test(`interrupted while: ${moment}`, async (t) => {
    for (const [signal, code] of [
      ['SIGTERM', 143],
      ['SIGINT', 130],
      ['SIGHUP', 129],
    ] as const) {
      let reached = false;
      const place = await behind(t, (seen) => {
        const fault = rule(seen);
        reached ||= fault !== 'pass';
        return fault;
      });
      const outcome = moment === 'checking the name' ? undefined : 'rolled back';
      await check(t, await interrupted(signal, place, () => reached), code, outcome);
    }
  });
}

t.test('interrupted while blocks are stored, and while they are committed', async (t) => {
  for (const operation of ['block', 'blocklist']) {
    let reached = false;
    const rule = ({ url }: Seen): Fault => {
      reached ||= url.searchParams.get('comp') === operation;
      return reached ? 'hang' : 'pass';
    };
    const place = await behind(t, rule, large);
    await check(
      t,
      await interrupted('SIGTERM', place, () => reached),
      143,
      operation === 'blocklist' ? 'unknown' : undefined,
    );
  }
});

t.test('interrupted, and the rollback hangs: the termination message names the blob that can stay', async (t) => {
  for (const [moment, interrupts] of [
    ['the answer to the storing is lost', ({ method }: Seen) => method === 'PUT'],
    ['reading it back', ({ method }: Seen) => method === 'GET'],
  ] as const) {
    for (const step of ['HEAD', 'DELETE']) {
      let reached = false;
      const place = await behind(t, (seen) => {
        if (reached && seen.method === step) return 'hang';
        if (!interrupts(seen)) return 'pass';
        reached = true;
        return seen.method === 'PUT' ? 'lose-answer' : 'hang';
      });
      const { code, container, shutdownMs, stdout, stderr } = await interrupted('SIGTERM', place, () => reached);
      const what = `${moment}, ${step}`;
      t.equal(code, 143, what);
      t.ok(shutdownMs < 2000, `${what}: ${shutdownMs} ms`);
      t.notMatch(stdout, 'successfully', what);
      const [name = 'no blob', ...others] = await azurite.names(container);
      t.match(stderr, `${name} may be stored, but was not read back: its rollback was not confirmed in time.`, what);
      t.match(stderr, `etcd-snapshot verify ${name}`, what);
      t.strictSame(others, [], what);
    }
  }
});

t.test('interrupted while retention is applied: the backup stays', async (t) => {
  let reached = false;
  const place = await behind(t, ({ url }) => {
    reached ||= url.searchParams.get('comp') === 'list';
    return reached ? 'hang' : 'pass';
  });
  const { code, container, shutdownMs, stdout, stderr } = await interrupted('SIGTERM', place, () => reached);
  t.equal(code, 143);
  t.ok(shutdownMs < 2000, `${shutdownMs} ms`);
  t.notMatch(stdout, 'successfully');
  const [name = '', ...others] = await azurite.names(container);
  t.match(stderr, `read back stored snapshot: the sha256 matches","name":"${name}"`);
  t.match(errorOf({ stderr }).message, `the backup ${name} is stored and read back, and is kept.`);
  t.strictSame(others, []);
});

t.test('interrupted while etcd streams', async (t) => {
  const member = await FakeMember.start(async (send, call) => {
    await send({ remaining_bytes: 100_000_000, blob: DATABASE.subarray(0, 4096) });
    while (!call.cancelled) await sleep(50);
  });
  t.teardown(() => member.stop());
  const container = await newContainer();
  const variables = { ...azurite.variables(container), SNAPSHOT_ETCD_ENDPOINTS: member.endpoint };
  await check(t, await interrupted('SIGTERM', { container, variables }, () => member.snapshots > 0), 143);
  await sleep(100);
  t.equal(member.cancelled, 1, 'etcd’s read transaction ends');
});

t.test('a stored blob that cannot be read back is named: it can be a valid backup', async (t) => {
  for (const [fault, why] of [
    [
      { status: 404, code: 'BlobNotFound' },
      /^The backup (.+) was stored, but not read back\. \1 was deleted while it was read/,
    ],
    [
      'hang',
      /^The backup (.+) was stored, but not read back\. Timed out after 12 s \(SNAPSHOT_TIMEOUT\) while reading \1 from byte/,
    ],
  ] as const) {
    const { container, variables } = await behind(t, ({ method }) => (method === 'GET' ? fault : 'pass'));
    const ended = await runWorker([], { ...variables, SNAPSHOT_TIMEOUT: '12' });
    t.equal(ended.code, 12);
    t.notMatch(ended.stdout, 'successfully');
    const [name = 'no blob'] = await azurite.names(container);
    t.equal(why.exec(errorOf(ended).message)?.[1], name, ended.stderr);
  }
});

t.test('a blob that does not match the data that was sent is rolled back, and the run fails', async (t) => {
  const isReadBack = ({ method, url }: Seen): boolean => method === 'GET' && url.searchParams.get('comp') === null;
  const always = await behind(t, (seen) => (isReadBack(seen) ? 'flip' : 'pass'));
  const { code, stdout, stderr } = await runWorker([], always.variables);
  t.equal(code, 12);
  t.match(stderr, /does not match the data that was sent; it was removed/);
  t.notMatch(stdout, 'successfully');
  t.strictSame(await azurite.names(always.container), []);

  let flips = 0;
  const once = await behind(t, (seen) => (isReadBack(seen) && flips++ === 0 ? 'flip' : 'pass'));
  t.equal((await runWorker([], once.variables)).code, 0, 'a fault in the reading');
});

t.test('a block that changes behind the line’s TLS is found by the service or the read-back', async (t) => {
  const authority = await makeAuthority(join(dir, 'certs'));
  await trust(authority);
  const tlsAzurite = await Azurite.start(join(dir, 'tls-azurite'), authority);
  await tlsAzurite.container('signals').create();
  t.teardown(async () => tlsAzurite.stop());
  // Where the service checks each block, it refuses the one that changed, and this is sent again.
  for (const [readBack, code, sentAgain, stored] of [
    ['full', 12, 0, 0],
    ['off', 0, 1, 1],
  ] as const) {
    let flips = 0;
    const rule = ({ url }: Seen): Fault =>
      url.searchParams.get('comp') === 'block' && flips++ === 0 ? 'flip-sent' : 'pass';
    const proxy = await FaultProxy.start(tlsAzurite.url, rule, authority);
    t.teardown(async () => proxy.stop());
    const ended = await runWorker([], {
      ...large.variables,
      ...tlsAzurite.variables('signals'),
      SNAPSHOT_AZURE_BLOB_ENDPOINT: proxy.url,
      SNAPSHOT_READ_BACK: readBack,
      NODE_EXTRA_CA_CERTS: authority.ca,
    });
    t.equal(ended.code, code, ended.stderr);
    t.equal(flips, BLOCKS + sentAgain, 'blocks that were sent');
    t.equal((await tlsAzurite.names('signals')).length, stored);
    t.equal(/does not match the data that was sent; it was removed/.test(ended.stderr), readBack === 'full');
  }
});

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { METRICS } from '../../src/monitoring/metrics.ts';
import { generateIdentity } from '../../src/sealed/age-header.ts';
import { Azurite } from '../support/azurite.ts';
import { makeAuthority } from '../support/certificates.ts';
import { runCommand } from '../support/command.ts';
import { ConnectProxy } from '../support/connect-proxy.ts';
import { EtcdCluster, findEtcd } from '../support/etcd.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { unfitFor } from '../support/fixtures.ts';
import { findJudge, without } from '../support/judges.ts';
import { Listener } from '../support/listener.ts';
import { collect, type Finished, freePort, run, temporaryFolder, type Variables } from '../support/process.ts';
import { parseMetrics, Pushgateway } from '../support/prometheus.ts';
import { nextSecond, until } from '../support/until.ts';
import { runWorker, startWorker, withTools } from '../support/worker.ts';

const TOKEN = 'ping~token~that~no~output~may~show';
const program = findJudge('prometheus-pushgateway');
const skip = without('prometheus-pushgateway');

const dir = temporaryFolder('monitoring');
const tools = findEtcd().at(-1);
if (tools === undefined) throw new Error('no etcd');
const authority = await makeAuthority(join(dir, 'certs'));
const cluster = await EtcdCluster.start({ tools, dir: join(dir, 'etcd'), tls: authority });
await cluster.fill(20, 100);
const azurite = await Azurite.start(join(dir, 'azurite'));
const pushgateway = program === undefined ? undefined : await Pushgateway.start(program, join(dir, 'web.yml'));
const switchboard = await Listener.start(200);
t.teardown(async () => Promise.all([cluster.stop(), azurite.stop(), pushgateway?.stop(), switchboard.stop()]));

const terminationLog = join(dir, 'termination-log');
const WORKING = {
  ...withTools(tools),
  ...cluster.variables,
  ...azurite.variables('monitored'),
  SNAPSHOT_BLOB_PREFIX: 'prod/eu/',
  SNAPSHOT_LOG_LEVEL: 'debug',
  SNAPSHOT_PING_URL: `${switchboard.origin}/${TOKEN}?rid=1`,
  SNAPSHOT_TERMINATION_LOG: terminationLog,
  ...(pushgateway && { SNAPSHOT_PUSHGATEWAY_URL: pushgateway.url }),
};
const LABELS = 'etcd_cluster="monitored/prod/eu",instance="",job="etcd-snapshot"';

/** Runs the worker, which must show no secret in whatever it says. */
async function worker(t: Test, args: readonly string[], variables: Variables, code: number): Promise<Finished> {
  writeFileSync(terminationLog, 'the words of an earlier run, which were many');
  const finished = await runWorker(args, variables);
  t.equal(finished.code, code, finished.stderr);
  showsNoSecret(t, finished);
  return finished;
}

function showsNoSecret(t: Test, { stdout, stderr }: Finished): void {
  const { user, password } = Pushgateway;
  for (const secret of [TOKEN, password, `${user}:${password}`, azurite.key]) {
    for (const form of [secret, encodeURIComponent(secret), Buffer.from(secret).toString('base64')]) {
      t.notOk(`${stdout}${stderr}${words()}`.includes(form), 'no secret in any output');
    }
  }
}

function words(): string {
  return readFileSync(terminationLog, 'utf8');
}

async function pushed(): Promise<Map<string, number>> {
  return parseMetrics((await pushgateway?.scrape()) ?? '');
}

/** The value of one of our metrics. */
async function valueOf(name: string, label = ''): Promise<number | undefined> {
  const all = [...(await pushed())].filter(([key]) => key.startsWith(`etcd_snapshot_${name}{`) && key.includes(label));
  return all.length === 1 ? all[0]?.[1] : undefined;
}

t.test('a backup is reported with its measurements', { skip }, async (t) => {
  const start = Date.now() / 1000;
  const { stdout } = await worker(t, ['--json'], WORKING, 0);
  const result = JSON.parse(stdout) as { [key: string]: number } & {
    durationsMs: Record<string, number>;
    name: string;
  };
  const metrics = await pushed();
  const own = [...metrics].filter(([key]) => key.startsWith('etcd_snapshot_'));
  for (const [key] of own) t.ok(key.includes(LABELS.split(',instance')[0] ?? ''), key);
  t.match(
    await Promise.all(['size_bytes', 'revision', 'keys', 'live_keys'].map(async (name) => valueOf(`backup_${name}`))),
    ['size', 'revision', 'totalKeys', 'liveKeys'].map((name) => result[name]),
  );
  t.equal(metrics.get(`etcd_snapshot_backup_last_run_exit_code{${LABELS}}`), 0);
  t.equal(metrics.get(`etcd_snapshot_backup_verification_ok{${LABELS}}`), 1);
  t.equal(metrics.get(`etcd_snapshot_backup_read_back_ok{${LABELS}}`), 1);
  t.equal(metrics.get(`etcd_snapshot_backup_anomalies{${LABELS}}`), 0);
  t.equal(metrics.get(`etcd_snapshot_backup_encrypted{${LABELS}}`), 0);
  t.equal(metrics.get(`etcd_snapshot_backup_signed{${LABELS}}`), 0);
  t.equal(metrics.get(`etcd_snapshot_backup_snapshots_kept{${LABELS}}`), 1);
  t.equal(await valueOf('backup_retention_state', 'state="off"'), 1);
  t.equal(await valueOf('backup_retention_state', 'state="held"'), 0);
  t.ok(Number.isNaN(await valueOf('backup_bundle_complete')), 'there is none');
  for (const phase of ['storage', 'members', 'stream', 'commit', 'readBack', 'retention']) {
    t.equal(
      await valueOf('backup_phase_duration_seconds', `phase="${phase}"`),
      (result.durationsMs[phase] ?? NaN) / 1000,
    );
  }
  t.equal(await valueOf('backup_duration_seconds'), (result.durationsMs['total'] ?? NaN) / 1000);
  const success = (await valueOf('backup_last_success_timestamp_seconds')) ?? NaN;
  t.ok(success >= start && success <= Date.now() / 1000, 'in seconds');
  const days = (((await valueOf('client_certificate_expiry_timestamp_seconds')) ?? NaN) - start) / 86_400;
  t.ok(days > 364 && days < 366, `the certificate is good for ${days} days`);
  t.match(
    words(),
    new RegExp(`^Backup ${result.name} uploaded successfully! [\\d.]+ \\w?B, revision \\d+, [\\d.]+ s$`),
  );
  t.strictSame(
    switchboard.asked.splice(0),
    [`GET /${TOKEN}/start?rid=1`, `GET /${TOKEN}?rid=1`],
    'a ping for the start and one for the success',
  );
});

t.test('a drill is reported, and the metrics of the backup stay', { skip: skip || unfitFor(tools) }, async (t) => {
  const before = await pushed();
  const { stdout } = await worker(t, ['drill', '--json'], WORKING, 0);
  const { recoveryMs, durationsMs } = JSON.parse(stdout) as { recoveryMs: number; durationsMs: Record<string, number> };
  t.equal(await valueOf('drill_last_run_exit_code'), 0);
  t.equal(await valueOf('drill_recovery_duration_seconds'), recoveryMs / 1000);
  t.equal(await valueOf('drill_phase_duration_seconds', 'phase="start"'), (durationsMs['start'] ?? NaN) / 1000);
  for (const [key, value] of before) {
    if (key.startsWith('etcd_snapshot_backup')) t.ok(Object.is((await pushed()).get(key), value), key);
  }
  t.match(words(), /restorable: [\d.]+ \w+ with etcd [\d.]+ in [\d.]+ s$/);
  t.strictSame(switchboard.asked.splice(0), [], 'no ping for a drill');

  const names = new Set([...(await pushed()).keys()].map((key) => key.split('{')[0] ?? ''));
  const ours = [...names].filter((name) => name.startsWith('etcd_snapshot_'));
  const ofRuns = Object.keys(METRICS).filter((name) => !/^etcd_snapshot_(report|copy|import)_/.test(name));
  t.strictSame(ours.toSorted(), ofRuns.toSorted(), 'every metric of a run, and no other');
  const promtool = findJudge('promtool');
  if (promtool === undefined) return;
  const file = join(dir, 'metrics');
  writeFileSync(file, (await pushgateway?.scrape()) ?? '');
  const { stdout: linted } = await run('sh', ['-c', `"${promtool}" check metrics <"${file}" 2>&1`]);
  t.notMatch(linted, /etcd_snapshot_/, "promtool finds nothing to say of our metrics' names, units and help");
});

t.test('a run that failed leaves the last success in place', { skip }, async (t) => {
  const before = await pushed();
  const deadUrl = `https://127.0.0.1:${await freePort()}`;
  const failures: readonly (readonly [number, Variables])[] = [
    [2, { SNAPSHOT_KEEP_LAST: 'many' }],
    [10, { SNAPSHOT_ETCD_ENDPOINTS: deadUrl }],
    [12, { SNAPSHOT_AZURE_ACCOUNT_KEY: Buffer.alloc(64, 'wrong key').toString('base64') }],
  ];
  for (const [code, variables] of failures) {
    const { stderr } = await worker(t, [], { ...WORKING, ...variables }, code);
    const said = JSON.parse(
      stderr
        .trim()
        .split('\n')
        .findLast((line) => line.includes('"level":"error"')) ?? '{}',
    ) as {
      message: string;
      hint: string;
    };
    t.equal(words(), `${said.message} ${said.hint} (exit code ${code})`);
    t.equal(await valueOf('backup_last_run_exit_code'), code);
    const after = await pushed();
    t.strictSame(
      [...before.keys()].filter((key) => !after.has(key)),
      [],
      'nothing is gone',
    );
    const changed = [...after].filter(([key, value]) => !Object.is(before.get(key), value)).map(([key]) => key);
    t.strictSame(
      changed.filter((key) => key.startsWith('etcd_')).map((key) => key.split('{')[0]),
      ['etcd_snapshot_backup_last_run_exit_code', 'etcd_snapshot_backup_last_run_timestamp_seconds'],
    );
  }
  const [start, fail] = [`GET /${TOKEN}/start?rid=1`, `POST /${TOKEN}/fail?rid=1`];
  t.strictSame(switchboard.asked.splice(0), [fail, start, fail, start, fail], 'a faulty configuration is no start');
  for (const [code] of failures) t.match(switchboard.bodies.shift(), new RegExp(` \\(exit code ${code}\\)$`));
});

t.test('what is no backup or drill of a known cluster is not pushed', { skip }, async (t) => {
  const before = await pushed();
  await worker(t, [], { ...WORKING, SNAPSHOT_AZURE_CONTAINER_NAME: 'Not_A_Name' }, 2);
  await worker(t, ['list'], { ...WORKING }, 0);
  t.equal(words(), 'list: done');
  await worker(t, ['bakcup'], { ...WORKING }, 2);
  t.match(
    words(),
    /^There is no command bakcup\. Check the spelling: the most similar command is backup\. .* \(exit code 2\)$/,
  );
  const ours = (all: Map<string, number>): unknown => [...all].filter(([key]) => key.startsWith('etcd_'));
  t.strictSame(ours(await pushed()), ours(before));
  t.strictSame(switchboard.asked.splice(0), [`POST /${TOKEN}/fail?rid=1`], 'of the backup of an unknown cluster');
});

t.test('a suspicious snapshot is reported, and the backup stays', { skip }, async (t) => {
  await cluster.etcdctl('del', '--prefix', '/registry/pods/default/pod-');
  await worker(t, [], { ...WORKING, SNAPSHOT_KEEP_LAST: '5' }, 3);
  t.equal(await valueOf('backup_last_run_exit_code'), 3);
  t.equal(await valueOf('backup_anomalies'), 1);
  t.equal(await valueOf('backup_retention_state', 'state="held"'), 1);
  t.equal(await valueOf('backup_retention_state', 'state="off"'), 0);
  t.equal(await valueOf('backup_last_success_timestamp_seconds'), await valueOf('backup_last_run_timestamp_seconds'));
  t.strictSame(switchboard.asked.splice(0), [`GET /${TOKEN}/start?rid=1`, `GET /${TOKEN}?rid=1`]);
});

t.test('an unreachable monitoring does not fail the backup', async (t) => {
  const silent = await Listener.start('hang');
  const refusing = await Listener.start(400);
  t.teardown(async () => Promise.all([silent.stop(), refusing.stop()]));
  const { user, password } = Pushgateway;
  const withPassword = (origin: string): string => origin.replace('//', `//${user}:${encodeURIComponent(password)}@`);
  const down = `http://localhost:${await freePort()}`;
  for (const [gateway, pingOrigin, reasons] of [
    [
      refusing.origin,
      down,
      [
        /pushing metrics to .*the answer was 400: a server said so/,
        /ping to \S+ failed .*ECONNREFUSED/,
        /ping to \S+ at the start failed/,
      ],
    ],
    [
      silent.origin,
      silent.origin,
      [
        /pushing metrics .*no answer in time/,
        /ping to \S+ failed .*no answer in time/,
        /at the start failed .*no answer in time/,
      ],
    ],
  ] as const) {
    const urls = { SNAPSHOT_PUSHGATEWAY_URL: withPassword(gateway), SNAPSHOT_PING_URL: `${pingOrigin}/${TOKEN}` };
    const { stdout, stderr } = await worker(t, [], { ...WORKING, ...urls }, 0);
    t.match(stdout, /uploaded successfully!/);
    const warnings = stderr.split('\n').filter((line) => line.includes('"level":"warn"'));
    t.equal(warnings.length, 3, stderr);
    for (const reason of reasons) t.match(stderr, reason);
  }
});

t.test('a wrong password', { skip }, async (t) => {
  const SNAPSHOT_PUSHGATEWAY_URL = pushgateway?.url.replace('~secret', '~wrong') ?? '';
  const { stderr } = await worker(t, [], { ...WORKING, SNAPSHOT_PUSHGATEWAY_URL }, 0);
  t.match(stderr, /pushing metrics to 127[^"]*the answer was 401/);
  t.strictSame(
    switchboard.asked.splice(0),
    [`GET /${TOKEN}/start?rid=1`, `GET /${TOKEN}?rid=1`],
    'the ping does not depend on it',
  );
});

t.test('time', async (t) => {
  const silent = await Listener.start('hang');
  const stuck = await FaultProxy.start(azurite.url, ({ method }) => (method === 'HEAD' ? 'hang' : 'pass'));
  t.teardown(async () => Promise.all([silent.stop(), stuck.stop()]));
  const hanging = {
    ...WORKING,
    SNAPSHOT_PUSHGATEWAY_URL: silent.origin,
    SNAPSHOT_PING_URL: `${silent.origin}/${TOKEN}`,
  };
  const isTelling = async (): Promise<void> => {
    await until(() => silent.asked.some((line) => line.startsWith('POST /metrics')));
  };

  silent.asked.splice(0);
  const child = startWorker([], hanging);
  const finished = collect(child);
  await isTelling();
  child.kill('SIGTERM');
  const told = await finished;
  t.equal(told.code, 0, 'the backup was done when the signal came');
  t.match(words(), /uploaded successfully/);

  silent.asked.splice(0);
  const stopped = startWorker([], { ...hanging, SNAPSHOT_AZURE_BLOB_ENDPOINT: stuck.url });
  const ended = collect(stopped);
  await until(() => stuck.seen.length > 0);
  stopped.kill('SIGTERM');
  const interrupted = await ended;
  t.equal(interrupted.code, 143);
  t.strictSame(
    silent.asked.map((line) => line.replace(/\/metrics.*/, '/metrics')).toSorted(),
    [`GET /${TOKEN}/start`, 'POST /metrics', `POST /${TOKEN}/fail`],
    'the interruption is pushed, or would be, and pinged',
  );
  t.match(interrupted.stderr, /no answer in time/);
  t.match(words(), /^Interrupted by SIGTERM before the work was done\..*\(exit code 143\)$/);
  showsNoSecret(t, interrupted);

  // The first limit that is enough for the backup ends while the result is reported, which takes three seconds here.
  let late: Finished;
  let limit = 1;
  do late = await runWorker([], { ...hanging, SNAPSHOT_TIMEOUT: String(++limit) });
  while (late.code === 10 || late.code === 12);
  t.equal(late.code, 0, late.stderr);
  t.match(late.stdout, /uploaded successfully!/, 'the time of the run ends while it is reported');
  showsNoSecret(t, late);
  if (pushgateway === undefined) return;
  const timedOut = { ...WORKING, SNAPSHOT_AZURE_BLOB_ENDPOINT: stuck.url, SNAPSHOT_TIMEOUT: '3' };
  // What is left of the time for an end by force may not be enough for a push on a busy machine.
  for (let runs = 0; runs === 0 || (runs < 5 && (await valueOf('backup_last_run_exit_code')) !== 12); runs++) {
    await worker(t, [], timedOut, 12);
  }
  t.equal(await valueOf('backup_last_run_exit_code'), 12);
  t.match(words(), /Timed out after 3 s \(SNAPSHOT_TIMEOUT\)/);
});

t.test('the ping goes through the proxy, as Azure does; the Pushgateway does not', async (t) => {
  const proxy = await ConnectProxy.start();
  const listener = await Listener.start(200, authority);
  const gateway = await Listener.start(200);
  t.teardown(async () => Promise.all([proxy.stop(), listener.stop(), gateway.stop()]));
  const variables = {
    ...WORKING,
    HTTPS_PROXY: proxy.url(),
    NO_PROXY: '127.0.0.1',
    NODE_EXTRA_CA_CERTS: authority.ca,
    SNAPSHOT_PING_URL: `${listener.origin}/${TOKEN}`,
    SNAPSHOT_PUSHGATEWAY_URL: gateway.origin,
  };
  await worker(t, [], variables, 0);
  t.strictSame(listener.asked.splice(0), [`GET /${TOKEN}/start`, `GET /${TOKEN}`]);
  t.strictSame(proxy.targets, Array(2).fill(new URL(listener.origin).host));
  t.equal(gateway.asked.length, 1);
});

t.test('a termination message that cannot be written does not fail the backup', async (t) => {
  for (const place of [join(dir, 'nowhere'), dir]) {
    const { stderr } = await worker(t, ['list'], { ...WORKING, SNAPSHOT_TERMINATION_LOG: place }, 0);
    t.match(stderr, /cannot write termination message to .*(ENOENT|EISDIR)/);
  }
  t.throws(() => readFileSync(join(dir, 'nowhere')), 'it is not created');
});

t.test('an incomplete bundle is reported, and a complete one', { skip }, async (t) => {
  const { recipient } = await generateIdentity('x25519');
  const sealed = { ...WORKING, SNAPSHOT_ENCRYPTION_RECIPIENTS: recipient };
  await worker(t, [], { ...sealed, SNAPSHOT_BUNDLE: `${authority.ca},${join(dir, 'nowhere')}` }, 3);
  t.equal(await valueOf('backup_bundle_complete'), 0);
  await worker(t, [], { ...sealed, SNAPSHOT_BUNDLE: authority.ca }, 0);
  t.equal(await valueOf('backup_bundle_complete'), 1);
});

// Last: it has a group of its own.
t.test('sealed and signed snapshots are reported as such', { skip }, async (t) => {
  const keys = join(dir, 'keys');
  await runCommand(['keygen', keys], {});
  const ENCRYPTED = { SNAPSHOT_ENCRYPTION_RECIPIENTS_FILE: join(keys, 'recipient.txt') };
  const ZSTD = { SNAPSHOT_COMPRESSION: 'zstd' };
  const SIGNED = { SNAPSHOT_SIGNING_KEY_FILE: join(keys, 'signing.pem') };
  for (const [settings, encrypted, signed] of [
    [{ ...ENCRYPTED, ...ZSTD }, 1, 0],
    [{ ...ZSTD, ...SIGNED }, 0, 1],
    [{ ...ENCRYPTED, ...SIGNED, ...ZSTD }, 1, 1],
  ] as const) {
    await nextSecond();
    await worker(t, [], { ...WORKING, ...settings, SNAPSHOT_BLOB_PREFIX: 'sealed/' }, 0);
    const metrics = await pushed();
    const measured = (name: string): number | undefined =>
      metrics.get(`etcd_snapshot_backup_${name}{${LABELS.replace('prod/eu', 'sealed')}}`);
    t.equal(measured('encrypted'), encrypted);
    t.equal(measured('signed'), signed);
    t.ok((measured('stored_size_bytes') ?? NaN) < (measured('size_bytes') ?? NaN));
  }
});

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { messageOf } from '../../src/errors.ts';
import { exposition, metricsOf } from '../../src/monitoring/metrics.ts';
import { ping } from '../../src/monitoring/report.ts';
import { writeToExisting } from '../../src/monitoring/termination-message.ts';
import { makeAuthority, trust } from '../support/certificates.ts';
import { ConnectProxy } from '../support/connect-proxy.ts';
import { Listener } from '../support/listener.ts';
import { noNamespaces, withFiles } from '../support/namespace.ts';
import { freePort, mustRun, run, temporaryFolder } from '../support/process.ts';
import { MAIN } from '../support/worker.ts';

const dir = temporaryFolder('monitoring-parts');
const authority = await makeAuthority(join(dir, 'certs'));

t.test('the last words are one line of 4096 bytes at most, and of whole characters', (t) => {
  const file = join(dir, 'log');
  const left = (words: string): string => {
    writeToExisting(file, words);
    return readFileSync(file, 'utf8');
  };
  writeFileSync(file, 'x'.repeat(5000));
  t.equal(left('  short\n  words \r\n here\n'), 'short words here', 'what stood there is gone');
  for (const [character, bytes] of [
    ['x', 4096],
    ['é', 4096],
    ['…', 4095],
    ['😀', 4096],
  ] as const) {
    const text = left(character.repeat(5000));
    t.equal(Buffer.byteLength(text), bytes);
    t.match(text, new RegExp(`^${character}+$`, 'u'), 'no half character at the end');
  }
  t.equal(Buffer.byteLength(left(`a${'😀'.repeat(5000)}`)), 4093);
  t.end();
});

t.test('nothing that stands in the place of the file holds the run up', async (t) => {
  const pipe = join(dir, 'pipe');
  await mustRun('mkfifo', [pipe]);
  t.throws(() => writeToExisting(pipe, 'nobody reads this'), { code: 'ENXIO' });
  t.throws(() => writeToExisting(join(dir, 'missing'), 'words'), { code: 'ENOENT' });
});

t.test('why a message did not arrive, in words', async (t) => {
  const moved = await Listener.start(301);
  const untrusted = await Listener.start(200, authority);
  t.teardown(async () => Promise.all([moved.stop(), untrusted.stop()]));
  for (const [origin, why] of [
    [moved.origin, /^the answer was 301: a server said so$/],
    [moved.origin.replace('http:', 'https:'), /SSL|packet length|wrong version/],
    [untrusted.origin, /self-signed|unable to verify|certificate/],
    ['http://no-such-host.invalid', /ENOTFOUND|EAI_AGAIN/],
  ] as const) {
    const failure = await ping(new URL(`${origin}/token`), {}, AbortSignal.timeout(2000));
    t.match(failure, why);
    t.notMatch(failure, 'token');
  }
});

t.test('hosts that NO_PROXY names are pinged directly', async (t) => {
  const proxy = await ConnectProxy.start();
  const listener = await Listener.start(200, authority);
  t.teardown(async () => Promise.all([proxy.stop(), listener.stop()]));
  await trust(authority);
  const url = new URL(`${listener.origin}/token`);
  for (const [env, count] of [
    [{ all_proxy: proxy.url() }, 1],
    [{ HTTPS_PROXY: proxy.url(), no_proxy: 'example.com,localhost' }, 1],
    [{ HTTPS_PROXY: proxy.url(), NO_PROXY: '.example.com' }, 2],
  ] as const) {
    t.equal(await ping(url, env, AbortSignal.timeout(5000)), undefined);
    t.equal(proxy.targets.length, count, JSON.stringify(Object.keys(env)));
  }
  const refused = await ping(url, { HTTPS_PROXY: proxy.url('a-wrong-word') }, AbortSignal.timeout(5000));
  t.match(refused, /407/);
  t.notMatch(refused, /a-wrong-word|token/);
});

t.test('the text for Prometheus', (t) => {
  const at = new Date(1_700_000_000_500);
  const end = { command: 'backup', exitCode: 11, at, measured: [], version: '1"\\2\n' } as const;
  t.equal(
    exposition(metricsOf(end)),
    [
      '# HELP etcd_snapshot_backup_last_run_timestamp_seconds When the last backup run ended, well or not.',
      '# TYPE etcd_snapshot_backup_last_run_timestamp_seconds gauge',
      'etcd_snapshot_backup_last_run_timestamp_seconds 1700000000.5',
      '# HELP etcd_snapshot_backup_last_run_exit_code Exit code of the last backup run.',
      '# TYPE etcd_snapshot_backup_last_run_exit_code gauge',
      'etcd_snapshot_backup_last_run_exit_code 11',
      '# HELP etcd_snapshot_build_info The worker that pushed last: always 1.',
      '# TYPE etcd_snapshot_build_info gauge',
      'etcd_snapshot_build_info{version="1\\"\\\\2\\n"} 1',
      '# HELP etcd_snapshot_backup_verification_ok 1 when the last snapshot that was judged passed its verification, 0 when it failed (exit code 11).',
      '# TYPE etcd_snapshot_backup_verification_ok gauge',
      'etcd_snapshot_backup_verification_ok 0',
      '',
    ].join('\n'),
  );
  t.end();
});

t.test('a host with several addresses: what each of them said', { skip: noNamespaces ?? false }, async (t) => {
  const hosts = join(dir, 'hosts');
  writeFileSync(hosts, '127.0.0.1 both\n::1 both\n');
  const port = await freePort();
  const variables = {
    SNAPSHOT_ETCD_ENDPOINTS: `http://both:${port}`,
    SNAPSHOT_AZURE_ACCOUNT_NAME: 'account',
    SNAPSHOT_AZURE_ACCOUNT_KEY: Buffer.alloc(64).toString('base64'),
    SNAPSHOT_AZURE_CONTAINER_NAME: 'cluster',
    SNAPSHOT_AZURE_BLOB_ENDPOINT: `https://both:${port}/account`,
    SNAPSHOT_PUSHGATEWAY_URL: `http://both:${port}`,
  };
  for (const [args, message] of [
    [['backup'], /Pushing the metrics to both:\d+ failed.*ECONNREFUSED/],
    [['list'], /"error".*ECONNREFUSED/],
    [['backup'], /etcd at http:\/\/both:\d+ .*refused/],
  ] as const) {
    const [command = '', ...rest] = withFiles({ '/etc/hosts': hosts }, [process.execPath, '--', MAIN, ...args]);
    const { stderr } = await run(command, rest, variables);
    t.match(stderr, message);
  }
});

t.test('an error without a message has those of its causes', (t) => {
  const refused = (address: string): Error => new Error(`connect ECONNREFUSED ${address}`);
  const both = new AggregateError([refused('::1:1'), refused('127.0.0.1:1'), refused('::1:1')]);
  t.equal(messageOf(both), 'connect ECONNREFUSED ::1:1; connect ECONNREFUSED 127.0.0.1:1');
  t.equal(messageOf(new AggregateError([refused('x')], 'said')), 'said');
  t.end();
});

import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { Azurite } from '../support/azurite.ts';
import { makeAuthority } from '../support/certificates.ts';
import { type Output, runCommand } from '../support/command.ts';
import { TokenEndpoint } from '../support/entra.ts';
import { EtcdCluster, findEtcd } from '../support/etcd.ts';
import { FaultProxy, type Fault } from '../support/fault-proxy.ts';
import { freePort, run, type Variables, temporaryFolder } from '../support/process.ts';
import { startSilentServer } from '../support/server.ts';
import { errorOf, MAIN, runWorker } from '../support/worker.ts';

const dir = temporaryFolder('errors');
const authority = await makeAuthority(join(dir, 'certs'));
const stranger = await makeAuthority(join(dir, 'strange-certs'), 'another CA');
const [tools] = findEtcd();
if (tools === undefined) throw new Error('no etcd');
const [cluster, azurite, tlsAzurite, entra] = await Promise.all([
  EtcdCluster.start({ tools, dir: join(dir, 'etcd'), tls: authority }),
  Azurite.start(join(dir, 'azurite')),
  Azurite.start(join(dir, 'tls-azurite'), authority),
  TokenEndpoint.start(authority),
]);
t.teardown(async () => Promise.all([cluster.stop(), azurite.stop(), tlsAzurite.stop(), entra.stop()]));
// They wait most of the time.
t.jobs = 4;

const SECRETS = {
  SNAPSHOT_AZURE_ACCOUNT_KEY: azurite.key,
  SNAPSHOT_AZURE_PRINCIPAL_PASSWORD: entra.password,
};
const WORKING = {
  ...cluster.variables,
  ...azurite.variables('errors'),
  ...entra.variables,
  ...SECRETS,
  SNAPSHOT_LOG_LEVEL: 'debug',
};
const WRONG_KEY = Buffer.alloc(64, 'wrong key').toString('base64');
const PRINCIPAL = {
  ...WORKING,
  ...tlsAzurite.variables('principal'),
  SNAPSHOT_AZURE_AUTH: 'principal',
  NODE_EXTRA_CA_CERTS: authority.ca,
};

/** Runs a backup that must fail in time, with this code and sentence, a hint, and no secret anywhere. */
async function fails(
  t: Test,
  what: string,
  more: Variables,
  exitCode: number,
  message: RegExp,
  base = WORKING,
): Promise<Output> {
  const variables: Record<string, string> = { ...base, ...more };
  // Node takes the certificates of this variable at its start.
  const finished = await ('NODE_EXTRA_CA_CERTS' in variables ? runWorker : runCommand)([], variables);
  judge(t, what, finished, variables, exitCode, message);
  return finished;
}

/** The same with a time limit, the first of those that a busy machine gets as far with. */
async function timesOut(t: Test, what: string, more: Variables, message: (limit: string) => RegExp): Promise<void> {
  for (let seconds = 10; ; seconds *= 2) {
    const variables = { ...WORKING, ...more, SNAPSHOT_TIMEOUT: `${seconds}s` };
    const finished = await runWorker([], variables);
    const expected = message(`${seconds} s`);
    if (seconds < 80 && !expected.test(errorOf(finished).message)) continue;
    return judge(t, what, finished, variables, 12, expected);
  }
}

function judge(t: Test, what: string, finished: Output, variables: Variables, exitCode: number, message: RegExp): void {
  const error = errorOf(finished);
  t.equal(finished.code, exitCode, `${what}: ${error.message}`);
  t.match(error.message, message);
  t.ok(error.hint.length > 10, `hint: ${error.hint}`);
  t.equal(error.exitCode, exitCode);

  t.notMatch(finished.stdout, 'successfully');
  showsNoSecret(t, finished, variables);
}

function showsNoSecret(t: Test, { stdout, stderr }: Output, variables: Variables): void {
  const secrets = [
    ...Object.values(SECRETS),
    WRONG_KEY,
    variables['SNAPSHOT_AZURE_ACCOUNT_KEY'] ?? WRONG_KEY,
    tlsAzurite.key,
  ];
  for (const secret of secrets) {
    for (const form of [secret, encodeURIComponent(secret), Buffer.from(secret).toString('base64')]) {
      t.notOk(`${stdout}${stderr}`.includes(form), 'no secret in any output');
    }
  }
}

t.test('it works before anything is broken, and shows no secret', async (t) => {
  const finished = await runWorker([], WORKING);
  t.equal(finished.code, 0, finished.stderr);
  showsNoSecret(t, finished, WORKING);
});

t.test('command lines', async (t) => {
  for (const args of [['bakcup'], ['backup', 'now'], ['--jsn']]) {
    const finished = await runWorker(args, WORKING);
    t.equal(finished.code, 2, args.join(' '));
    t.ok(errorOf(finished).hint);
  }
  // Without the dashes Node takes --env-file for its own, wherever it stands; the image and the shebang have them.
  const missing = await run(process.execPath, ['--', MAIN, '--env-file', join(dir, 'missing')], WORKING);
  t.equal(missing.code, 2);
  t.match(errorOf(missing).message, /The env file .*missing does not exist/);
  const help = await runWorker(['--help'], {});
  t.match(help, { code: 0, stdout: /backup +take, verify[^]*--env-file/, stderr: '' });
  t.match(await runWorker(['--version'], {}), { code: 0, stdout: /^\d+\.\d+\.\d+\n$/ });
});

t.test('messages are a few short lines for people', async (t) => {
  const { stderr } = await runWorker([], {
    ...WORKING,
    SNAPSHOT_ETCD_ENDPOINTS: '',
    SNAPSHOT_LOG_FORMAT: 'text',
    SNAPSHOT_LOG_LEVEL: 'info',
  });
  t.match(
    stderr,
    /^\d\d:\d\d:\d\d error: The configuration has one error exitCode=2\n {2}SNAPSHOT_ETCD_ENDPOINTS is not set .*\nhint: .*\n$/,
  );
  const several = await runWorker(['health'], {
    SNAPSHOT_ETCD_USERNAME: 'root',
    SNAPSHOT_LOG_FORMAT: 'text',
  });
  t.match(
    several.stderr,
    /error: The configuration has 2 errors exitCode=2\n {2}SNAPSHOT_ETCD_ENDPOINTS is .*\n {2}SNAPSHOT_ETCD_PASSWORD is .*\nhint: /,
  );
});

t.test('configuration', async (t) => {
  await fails(
    t,
    'nothing set',
    {},
    2,
    /ACCOUNT_NAME.*ACCOUNT_KEY.*CONTAINER_NAME.*SNAPSHOT_ETCD_ENDPOINTS is not set/,
    {
      SNAPSHOT_LOG_LEVEL: 'debug',
    } as never,
  );
  await fails(t, 'bad container name', { SNAPSHOT_AZURE_CONTAINER_NAME: 'a_b' }, 2, /CONTAINER_NAME must be/);
  await fails(
    t,
    'malformed key',
    { SNAPSHOT_AZURE_ACCOUNT_KEY: `${azurite.key}x` },
    2,
    /ACCOUNT_KEY must be 64 bytes in base64/,
  );
  await fails(t, 'contradiction', { SNAPSHOT_AZURE_AUTH: 'connection-string' }, 2, /CONNECTION_STRING is not set/);
  const misspelt = await runWorker(['list'], { ...WORKING, SNAPSHOT_KEEP_LATS: '3' });
  t.match(
    misspelt.stderr,
    /"warn","message":"SNAPSHOT_KEEP_LATS is not a known variable[^"]*most similar variable is SNAPSHOT_KEEP_LAST/,
  );
});

t.test('certificate files', async (t) => {
  const missing = join(dir, 'missing.crt');
  await fails(t, 'missing', { SNAPSHOT_ETCD_CA_FILE: missing }, 2, /CA file .*missing.crt does not exist/);
  await fails(t, 'a directory', { SNAPSHOT_ETCD_KEY_FILE: dir }, 2, /client key .* not a regular file/);
  const { key } = stranger.client;
  await fails(t, 'mismatch', { SNAPSHOT_ETCD_KEY_FILE: key }, 2, /does not belong to the client certificate/);
  const nonsense = join(dir, 'nonsense.pem');
  await writeFile(nonsense, '-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n');
  await fails(t, 'nonsense', { SNAPSHOT_ETCD_CERT_FILE: nonsense }, 2, /nonsense.pem is not a PEM certificate/);
  await mkdir(join(dir, 'swapped'));
  await copyFile(authority.client.cert, join(dir, 'swapped', 'key'));
  await fails(t, 'swapped', { SNAPSHOT_ETCD_KEY_FILE: join(dir, 'swapped', 'key') }, 2, /is not a PEM private key/);
});

t.test('etcd', async (t) => {
  const port = await freePort();
  const dead = `https://127.0.0.1:${port}`;
  await fails(t, 'down', { SNAPSHOT_ETCD_ENDPOINTS: dead }, 10, /^Cannot connect to etcd at .*: connection refused/);
  await fails(
    t,
    'all down',
    { SNAPSHOT_ETCD_ENDPOINTS: `${dead},https://localhost:${port}` },
    10,
    /No endpoint can serve a snapshot/,
  );
  await fails(
    t,
    'no such host',
    { SNAPSHOT_ETCD_ENDPOINTS: 'https://etcd.invalid:2379' },
    10,
    /host name cannot be resolved/,
  );
  await fails(t, 'wrong CA', { SNAPSHOT_ETCD_CA_FILE: stranger.ca }, 10, /not signed by the given CA/);
  const foreign = { SNAPSHOT_ETCD_CERT_FILE: stranger.client.cert, SNAPSHOT_ETCD_KEY_FILE: stranger.client.key };
  await fails(
    t,
    'foreign client certificate',
    foreign,
    10,
    /refused the TLS connection or the client cert|connection broke/,
  );
  const plain = cluster.endpoints.replace('https', 'http');
  await fails(t, 'http to a TLS port', { SNAPSHOT_ETCD_ENDPOINTS: plain }, 10, /etcd at http:.*failed/);

  const silent = await startSilentServer(t);
  await fails(t, 'never answers', { SNAPSHOT_ETCD_ENDPOINTS: silent }, 10, /did not answer in time/);

  const half = { SNAPSHOT_ETCD_ENDPOINTS: `${dead},${cluster.endpoints}`, SNAPSHOT_AZURE_CONTAINER_NAME: 'half' };
  const finished = await runWorker([], { ...WORKING, ...half });
  t.equal(finished.code, 0, 'one of two down is no failure');
  t.match(finished.stderr, /"warn","message":"Cannot connect to etcd at https:[^"]*connection refused/);
});

t.test('storage', async (t) => {
  const port = await freePort();
  await fails(t, 'wrong key', { SNAPSHOT_AZURE_ACCOUNT_KEY: WRONG_KEY }, 12, /refused the account key/);
  const gone = { SNAPSHOT_AZURE_BLOB_ENDPOINT: `http://127.0.0.1:${port}/testaccount` };
  const unknown = { SNAPSHOT_AZURE_ACCOUNT_NAME: 'nosuchaccount', SNAPSHOT_AZURE_BLOB_ENDPOINT: '' };
  const other = {
    SNAPSHOT_AZURE_ACCOUNT_NAME: 'other',
    SNAPSHOT_AZURE_BLOB_ENDPOINT: azurite.url.replace('testaccount', 'other'),
  };
  await fails(t, 'unknown account on the endpoint', other, 12, /refused the account key|does not exist/);
  await fails(
    t,
    'untrusted TLS',
    { ...tlsAzurite.variables('x12') },
    12,
    /certificate of 127.0.0.1:\d+ is not trusted/,
  );

  const refuses = async (fault: Fault, when: (method: string) => boolean): Promise<Variables> => {
    const proxy = await FaultProxy.start(azurite.url, ({ method }) => (when(method) ? fault : 'pass'));
    t.teardown(async () => proxy.stop());
    return { SNAPSHOT_AZURE_BLOB_ENDPOINT: proxy.url };
  };
  const denied = { status: 403, code: 'AuthorizationPermissionMismatch' };
  const mayNotWrite = await refuses(denied, (method) => method === 'PUT');
  await fails(
    t,
    'missing right',
    mayNotWrite,
    12,
    /has no permission on container errors \(failed while storing the snapshot\)/,
  );
  const down = await refuses({ status: 503, code: 'ServerBusy' }, () => true);
  const hanging = await refuses('hang', () => true);
  await Promise.all([
    fails(t, 'endpoint down', gone, 12, /cannot be reached/),
    fails(t, 'unknown account', unknown, 12, /Host nosuchaccount.blob.core.windows.net cannot be resolved/),
    fails(t, 'busy for ever', down, 12, /failed.*ServerBusy/),
    timesOut(
      t,
      'hangs',
      hanging,
      (limit) => new RegExp(`${limit} \\(SNAPSHOT_TIMEOUT\\) while .* no answer within \\d+ s`),
    ),
  ]);
});

t.test('service principal', async (t) => {
  const good = await runWorker([], PRINCIPAL);
  t.equal(good.code, 0, good.stderr);
  t.match(good.stderr, /accessing Azure with the service principal/);
  showsNoSecret(t, good, PRINCIPAL);
  const wrong = { SNAPSHOT_AZURE_PRINCIPAL_PASSWORD: 'another-password' };
  await fails(t, 'wrong secret', wrong, 12, /Invalid client secret/, PRINCIPAL);
  const nobody = { SNAPSHOT_AZURE_PRINCIPAL_APPID: entra.tenant };
  await fails(t, 'unknown application', nobody, 12, /Application not found/, PRINCIPAL);
  const nowhere = { SNAPSHOT_AZURE_PRINCIPAL_TENANT: entra.appId };
  await fails(t, 'unknown tenant', nowhere, 12, /Tenant 'x' not found/, PRINCIPAL);
  const authority = (url: string): Variables => ({ SNAPSHOT_AZURE_AUTHORITY_HOST: url });
  const down = authority(`https://localhost:${await freePort()}`);
  const unknown = authority('https://login.invalid');
  await Promise.all([
    fails(t, 'authority down', down, 12, /token endpoint at localhost:\d+ cannot be reached/, PRINCIPAL),
    fails(t, 'authority unknown', unknown, 12, /Host login.invalid cannot be resolved/, PRINCIPAL),
    fails(
      t,
      'authority untrusted',
      { NODE_EXTRA_CA_CERTS: stranger.ca },
      12,
      /localhost:\d+ is not trusted/,
      PRINCIPAL,
    ),
  ]);
});

t.test('with --json an error is one document on stdout, also together with a result', async (t) => {
  const dead = { SNAPSHOT_ETCD_ENDPOINTS: `https://127.0.0.1:${await freePort()}` };
  for (const [args, more, code] of [
    [['backup'], { SNAPSHOT_KEEP_LAST: 'many' }, 2],
    [['bakcup'], {}, 2],
    [['list', '--nonsense'], {}, 2],
    [['backup'], dead, 10],
    [['list'], { SNAPSHOT_AZURE_ACCOUNT_KEY: WRONG_KEY }, 12],
    [['verify', 'nothing'], {}, 13],
  ] as const) {
    const finished = await runWorker([...args, '--json'], { ...WORKING, ...more });
    t.equal(finished.code, code);
    const { message, hint } = errorOf(finished);
    t.strictSame(JSON.parse(finished.stdout), { error: { code, message, hint } });
  }
  const half = { SNAPSHOT_ETCD_ENDPOINTS: `${cluster.endpoints},${dead.SNAPSHOT_ETCD_ENDPOINTS}` };
  const doctor = await runWorker(['doctor', '--json'], { ...WORKING, ...half });
  const { message, hint, exitCode } = errorOf(doctor);
  t.match(JSON.parse(doctor.stdout), { ok: false, checks: Array, error: { code: exitCode, message, hint } });
});

t.test('the whole run has a time limit', async (t) => {
  const proxy = await FaultProxy.start(azurite.url, ({ method }) => (method === 'PUT' ? 'hang' : 'pass'));
  t.teardown(async () => proxy.stop());
  const slow = { SNAPSHOT_AZURE_BLOB_ENDPOINT: proxy.url };
  await timesOut(
    t,
    'storage hangs',
    slow,
    (limit) => new RegExp(`Timed out after ${limit} \\(SNAPSHOT_TIMEOUT\\) while storing the snapshot`),
  );
});

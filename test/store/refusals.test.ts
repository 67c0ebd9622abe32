import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { RunTimeout, StorageError } from '../../src/errors.ts';
import type { BlobStore } from '../../src/store/store.ts';
import { type BlobAnswer, BlobService, EMPTY_LIST } from '../support/blob-service.ts';
import { makeAuthority, trust } from '../support/certificates.ts';
import { aadsts, type Answer, TokenEndpoint } from '../support/entra.ts';
import { freePort, temporaryFolder, type Variables } from '../support/process.ts';
import { startSilentServer } from '../support/server.ts';
import { openStore } from '../support/store.ts';
import { errorOf, runWorker } from '../support/worker.ts';

// Most of them wait.
t.jobs = 4;
const dir = temporaryFolder('refusals');
const authority = await makeAuthority(join(dir, 'certs'));
const stranger = await makeAuthority(join(dir, 'strange-certs'), 'another CA');
await trust(authority);
const entra = await TokenEndpoint.start(authority);
const untrusted = await TokenEndpoint.start(stranger);
t.teardown(async () => Promise.all([entra.stop(), untrusted.stop()]));

const PLACE = { SNAPSHOT_AZURE_ACCOUNT_NAME: 'testaccount', SNAPSHOT_AZURE_CONTAINER_NAME: 'mycluster' };
const KEY = { ...PLACE, SNAPSHOT_AZURE_ACCOUNT_KEY: Buffer.alloc(64, 'a key').toString('base64') };
const SIGNATURE = 'c2lnbmF0+XJl/a==';
const SAS = {
  ...PLACE,
  SNAPSHOT_AZURE_SAS_TOKEN: `sv=2024-11-04&sr=c&sp=rcwl&se=2099-01-01&sig=${encodeURIComponent(SIGNATURE)}`,
};
const ANOTHER_KEY = Buffer.alloc(64, 'another key').toString('base64');
const CONNECTION = {
  SNAPSHOT_AZURE_CONTAINER_NAME: 'mycluster',
  SNAPSHOT_AZURE_CONNECTION_STRING: `AccountName=testaccount;AccountKey=${ANOTHER_KEY}`,
};
const PRINCIPAL = { ...PLACE, ...entra.variables };
const DAY_MS = 86_400_000;

async function service(answers: readonly BlobAnswer[], echo = false): Promise<BlobService> {
  const blobs = await BlobService.start(authority, answers, echo);
  t.teardown(async () => blobs.stop());
  return blobs;
}

/** What a listing with these variables fails with. */
async function failure(variables: Variables, ask = async (store: BlobStore): Promise<unknown> => store.list()) {
  const error = await openStore(variables)
    .then(ask)
    .then(() => undefined)
    .catch((thrown: unknown) => thrown);
  if (error instanceof StorageError) return error;
  throw new Error(`no StorageError but ${String(error)}`);
}

async function refused(t: Test, answer: BlobAnswer, message: RegExp, hint: RegExp, variables: Variables = KEY) {
  const blobs = await service([answer]);
  const error = await failure({ ...variables, SNAPSHOT_AZURE_BLOB_ENDPOINT: blobs.url });
  t.match(error.message, message);
  t.match(error.hint, hint);
  t.match(error.message, answer.code === undefined ? /\[\d+\]$/ : ` [${answer.code}, request azure-request]`);
  t.notMatch(`${error.message}${error.hint}`, /sig=|c2lnbmF0/);
}

t.test('every refusal of the blob service has its sentence', { buffered: true }, async (t) => {
  const forbidden = (code: string, message = ''): BlobAnswer => ({ status: 403, code, message });
  const authentication = forbidden('AuthenticationFailed', 'Server failed to authenticate the request.');
  const date = new Date(Date.now() - 47 * 60_000).toUTCString();
  await refused(t, authentication, /refused the account key for account testaccount: it is wrong/, /ACCOUNT_KEY/);
  await refused(t, authentication, /refused the SAS token/, /new token/, SAS);
  await refused(t, authentication, /refused the connection string/, /CONNECTION_STRING/, CONNECTION);
  await refused(t, authentication, /refused the service principal/, /tenant/, PRINCIPAL);
  await refused(
    t,
    { ...authentication, headers: { date } },
    /clock of this host differs from Azure's by 47 minutes/,
    /time/,
  );
  await refused(t, forbidden('AuthorizationFailure', authentication.message), /refused the account key/, /ACCOUNT_KEY/);
  await refused(
    t,
    forbidden('AuthorizationFailure', 'This request is not authorized to perform this operation.'),
    /refused the account key or this network address for account testaccount/,
    /storage firewall/,
  );
  const permission = forbidden('AuthorizationPermissionMismatch');
  await refused(
    t,
    permission,
    /SAS token has no permission on container mycluster \(failed while listing/,
    /permissions rcwl/,
    SAS,
  );
  await refused(t, permission, /service principal has no permission on/, /Storage Blob Data Contributor/, PRINCIPAL);
  await refused(
    t,
    forbidden('AuthorizationResourceTypeMismatch'),
    /does not allow access to containers/,
    /SAS token/,
    SAS,
  );
  await refused(t, forbidden('AuthorizationServiceMismatch'), /does not allow access to containers/, /SAS token/, SAS);
  await refused(t, forbidden('AuthorizationSourceIPMismatch'), /not valid for this network address/, /address/, SAS);
  await refused(t, forbidden('AuthorizationProtocolMismatch'), /allows https only/, /https/, SAS);
  await refused(t, forbidden('KeyBasedAuthenticationNotPermitted'), /forbids access by key/, /principal/);
  await refused(t, forbidden('AccountIsDisabled'), /testaccount is disabled/, /subscription/);
  const foreign = { status: 401, code: 'InvalidAuthenticationInfo', message: 'Issuer validation failed.' };
  await refused(t, foreign, /refused the service principal/, /tenant of the subscription/, PRINCIPAL);
  await refused(
    t,
    { status: 404, code: 'ContainerNotFound' },
    /mycluster does not exist in account testaccount/,
    /NAME/,
  );
  await refused(t, { status: 404, code: 'ResourceNotFound' }, /testaccount does not exist at 127.0.0.1/, /NAME/);
  await refused(t, { status: 407 }, /The proxy requires a user name/, /HTTPS_PROXY/);
  await refused(t, { status: 418 }, /Azure failed while listing/, /If there is no request id, check the proxy/);
});

t.test('an answer without a body does not say what is refused', { buffered: true }, async (t) => {
  const blobs = await service([{ status: 403, code: 'AuthorizationFailure' }]);
  const error = await failure({ ...KEY, SNAPSHOT_AZURE_BLOB_ENDPOINT: blobs.url }, async (store) => store.isFree('x'));
  t.match(
    error.message,
    /the account key or this network address for account testaccount. \[AuthorizationFailure, req/,
  );
});

t.test('temporary errors are retried, after the time that the service asks for', { buffered: true }, async (t) => {
  const tried = async (...answers: BlobAnswer[]): Promise<readonly number[]> => {
    const blobs = await service([...answers, EMPTY_LIST]);
    t.strictSame(await (await openStore({ ...KEY, SNAPSHOT_AZURE_BLOB_ENDPOINT: blobs.url })).list(), []);
    return blobs.times;
  };
  const busy = { status: 503, code: 'ServerBusy' };
  const deleting = { status: 409, code: 'ContainerBeingDeleted' };
  t.equal(
    (await tried(busy, { status: 500, code: 'OperationTimedOut' }, deleting, { status: 429, code: 'x' })).length,
    5,
  );
  t.equal((await tried({ status: 408 }, { status: 502 }, { status: 504 })).length, 4, 'a proxy');
  const inSeconds = async (answer: string): Promise<number> => {
    const [first = 0, second = 0] = await tried({ ...busy, headers: { 'retry-after': answer } });
    return (second - first) / 1000;
  };
  const [seconds, date] = await Promise.all([inSeconds('7'), inSeconds(new Date(Date.now() + 8_000).toUTCString())]);
  t.ok(seconds > 6.9, `seconds: ${seconds}, which is more than a store gets that has never answered`);
  t.ok(date > 6 && date < 60, `HTTP date: ${date}`);

  const blobs = await service([{ ...busy, headers: { 'retry-after': '3600' } }]);
  const error = await failure({ ...KEY, SNAPSHOT_AZURE_BLOB_ENDPOINT: blobs.url });
  t.equal(blobs.times.length, 1, 'nobody waits for an hour');
  t.match(error.hint, /Wait 3600 s/);
});

t.test('no request is repeated at once, whatever the service says', { buffered: true }, async (t) => {
  const past = new Date(Date.now() - 60_000).toUTCString();
  for (const retryAfter of ['0', '000', past, '-1', '0.0', 'soon', 'Thu, 01 Jan 1970 00:00:00 GMT']) {
    for (const status of [429, 503]) {
      const blobs = await service([{ status, code: 'ServerBusy', headers: { 'retry-after': retryAfter } }]);
      const run = new AbortController();
      const store = await openStore({ ...KEY, SNAPSHOT_AZURE_BLOB_ENDPOINT: blobs.url }, run.signal);
      const listed = t.rejects(store.list(), { code: 'RunTimeout' });
      while (blobs.times.length < 4) await sleep(20);
      run.abort(new RunTimeout(2));
      await listed;
      const pauses = blobs.times.slice(1).map((time, index) => time - (blobs.times[index] ?? 0));
      t.ok(pauses.length > 0 && Math.min(...pauses) > 150, `${status}, Retry-After: ${retryAfter}: ${pauses.join()}`);
    }
  }
});

t.test("the run's end says what the last try failed with", { buffered: true }, async (t) => {
  const blobs = await service([{ status: 503, code: 'ServerBusy' }]);
  const run = new AbortController();
  const store = await openStore({ ...KEY, SNAPSHOT_AZURE_BLOB_ENDPOINT: blobs.url }, run.signal);
  const listed = t.rejects(store.list(), {
    message:
      /Timed out after 2 s \(SNAPSHOT_TIMEOUT\) while listing the container; the last attempt failed: .*\[ServerBusy, request azure/,
  });
  while (blobs.times.length < 2) await sleep(20);
  run.abort(new RunTimeout(2));
  await listed;
});

t.test('every refusal of a token has its sentence', { buffered: true }, async (t) => {
  const blobs = await service([EMPTY_LIST]);
  // One of its own, for others ask that of all tests at the same time.
  const scriptable = await TokenEndpoint.start(authority);
  t.teardown(async () => scriptable.stop());
  const place = { ...PLACE, ...scriptable.variables, SNAPSHOT_AZURE_BLOB_ENDPOINT: blobs.url };
  const ends = async (more: Variables, message: RegExp, hint: RegExp): Promise<void> => {
    const error = await failure({ ...place, ...more });
    t.match(error.message, message);
    t.match(error.hint, hint);
  };
  await ends(
    { SNAPSHOT_AZURE_PRINCIPAL_PASSWORD: 'x' },
    /service principal: AADSTS7000215: Invalid client secret provided. \[AADSTS7000215, request entra/,
    /not its id/,
  );
  await ends({ SNAPSHOT_AZURE_PRINCIPAL_APPID: entra.tenant }, /AADSTS700016: Application not found/, /_APPID, S/);
  await ends(
    { SNAPSHOT_AZURE_PRINCIPAL_TENANT: entra.appId },
    /Entra ID at localhost\S* issued no token .*Tenant 'x' not found/,
    /_TENANT and S/,
  );

  const date = new Date(Date.now() - DAY_MS).toUTCString();
  const scripted: readonly (readonly [Answer, RegExp, RegExp])[] = [
    [
      aadsts(401, 7000222, 'The provided client secret keys are expired.'),
      /client secret keys are expired/,
      /Create a new client secret/,
    ],
    [aadsts(401, 7000112, 'Application is disabled.'), /Application is disabled/, /Enable the application/],
    [{ ...aadsts(401, 700024, 'Not valid.'), headers: { date } }, /differs from Azure's by 1440 minutes/, /time/],
    [
      aadsts(400, 50034, 'Something else. And more.'),
      /no token for the service principal: AADSTS50034: Something else\. \[AADSTS50034/,
      /number/,
    ],
    [
      { status: 403, body: {} },
      /issued no token for the service principal: status 403\. \[403\]/,
      /the answer is not from Entra ID/,
    ],
    [
      { status: 200, body: { login: 'please' } },
      /issued no token for the service principal: /,
      /the answer is not from Entra ID/,
    ],
  ];
  for (const [answer, message, hint] of scripted) {
    scriptable.instead.push(answer);
    await ends({}, message, hint);
  }

  await Promise.all([
    ends(
      { SNAPSHOT_AZURE_AUTHORITY_HOST: untrusted.url },
      /certificate of localhost:\d+ is not trusted: unable/,
      /CA_CERTS/,
    ),
    ends(
      { SNAPSHOT_AZURE_AUTHORITY_HOST: 'https://login.invalid' },
      /Host login.invalid cannot be resolved/,
      /AUTHORITY_HOST/,
    ),
    ends(
      { SNAPSHOT_AZURE_AUTHORITY_HOST: `https://127.0.0.1:${await freePort()}` },
      /token endpoint at 127.0.0.1:\d+ cannot be reached while listing the container: connect ECONNREFUSED/,
      /network/,
    ),
  ]);
});

t.test('a managed identity without an answer fails soon', { buffered: true }, async (t) => {
  const blobs = await service([EMPTY_LIST]);
  const silent = await startSilentServer(t);
  const finished = await runWorker(['list'], {
    ...PLACE,
    SNAPSHOT_AZURE_AUTH: 'managed-identity',
    SNAPSHOT_AZURE_BLOB_ENDPOINT: blobs.url,
    AZURE_POD_IDENTITY_AUTHORITY_HOST: silent,
  });
  t.equal(finished.code, 12);
  t.match(
    errorOf(finished).message,
    new RegExp(`token endpoint at ${new URL(silent).host} timed out while .*: no answer within 6 s`),
  );
  // Not the time that the process takes to start, which says more of a busy machine.
  const times = [...finished.stderr.matchAll(/"time":"([^"]+)"/g)].map(([, time = '']) => Date.parse(time));
  t.ok(Math.max(...times) - Math.min(...times) < 8_000);
});

t.test('no output holds a secret, whichever credential fails', { buffered: true }, async (t) => {
  const blobs = await service([{ status: 418, code: 'Teapot' }], true);
  const tokenFile = join(dir, 'federated-token');
  await writeFile(tokenFile, entra.federatedToken);
  const secrets = [
    KEY.SNAPSHOT_AZURE_ACCOUNT_KEY,
    ANOTHER_KEY,
    SIGNATURE,
    entra.password,
    entra.federatedToken,
    'etcd~password',
    'proxy~password',
    'identity~header',
  ];
  const everything = {
    ...KEY,
    ...SAS,
    ...PRINCIPAL,
    ...CONNECTION,
    SNAPSHOT_AZURE_BLOB_ENDPOINT: blobs.url,
    AZURE_FEDERATED_TOKEN_FILE: tokenFile,
    AZURE_CLIENT_ID: entra.appId,
    AZURE_TENANT_ID: entra.tenant,
    SNAPSHOT_ETCD_USERNAME: 'backup',
    SNAPSHOT_ETCD_PASSWORD: 'etcd~password',
    HTTPS_PROXY: 'http://worker:proxy~password@127.0.0.1:1',
    NO_PROXY: '127.0.0.1,localhost',
    IDENTITY_HEADER: 'identity~header',
    SNAPSHOT_LOG_LEVEL: 'debug',
    // The SDK's own log, which does not pass ours.
    AZURE_LOG_LEVEL: 'verbose',
    NODE_EXTRA_CA_CERTS: authority.ca,
  };
  const runs = ['connection-string', 'key', 'sas', 'principal', 'workload-identity'].map(async (source) => {
    const { code, stdout, stderr } = await runWorker(['list'], { ...everything, SNAPSHOT_AZURE_AUTH: source });
    t.equal(code, 12, source);
    t.match(stderr, /Azure failed while listing the container. \[Teapot/);
    t.match(stderr, /cause of the error[^\n]*mycluster/, 'the service was asked, and said with what');
    for (const secret of secrets) {
      for (const form of [secret, encodeURIComponent(secret), Buffer.from(secret).toString('base64')]) {
        t.notOk(`${stdout}${stderr}`.includes(form), `${source} shows no secret`);
      }
    }
    t.notMatch(`${stdout}${stderr}`, /\bey[\w-]+\.ey/, 'and no token');
  });
  await Promise.all(runs);
});

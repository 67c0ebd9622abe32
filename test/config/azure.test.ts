import { createServer, type IncomingMessage, type RequestListener } from 'node:http';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { proxyWarnings } from '../../src/config/azure.ts';
import { readConfig } from '../../src/config/config.ts';
import type { StorageError } from '../../src/errors.ts';
import { storable } from '../../src/store/catalogue.ts';
import { BlobService } from '../support/blob-service.ts';
import { makeAuthority, trust } from '../support/certificates.ts';
import { TokenEndpoint } from '../support/entra.ts';
import { Listener } from '../support/listener.ts';
import { temporaryFolder, type Variables } from '../support/process.ts';
import { addressOf, close, listen } from '../support/server.ts';
import { openStore } from '../support/store.ts';
import { errorOf, runWorker } from '../support/worker.ts';

const dir = temporaryFolder('inputs');
const authority = await makeAuthority(join(dir, 'certs'));
await trust(authority);

const KEY = Buffer.alloc(64, 'a key').toString('base64');
const PLACE = { SNAPSHOT_AZURE_ACCOUNT_NAME: 'testaccount', SNAPSHOT_AZURE_CONTAINER_NAME: 'my-cluster' };
const BY_KEY = { ...PLACE, SNAPSHOT_AZURE_ACCOUNT_KEY: KEY };

function read(variables: Variables): { endpoint: string; token: string; faults: string } {
  try {
    const { storage } = readConfig(variables, { etcd: false, storage: true });
    const token = storage?.credential.kind === 'sas' ? storage.credential.token.reveal() : '';
    return { endpoint: storage?.endpoint ?? '', token, faults: '' };
  } catch (error) {
    return { endpoint: '', token: '', faults: String(error) };
  }
}

t.test("the URL of a container is not the service's", (t) => {
  const endpoint = (url: string, more: Variables = {}) =>
    read({ ...BY_KEY, SNAPSHOT_AZURE_BLOB_ENDPOINT: url, ...more });
  for (const url of [
    'https://testaccount.blob.core.windows.net/my-cluster',
    'https://testaccount.blob.core.windows.net/my-cluster/',
    'https://testaccount.blob.core.windows.net/another',
    'https://testaccount.privatelink.blob.core.windows.net/my-cluster',
    'https://testaccount.z6.blob.storage.azure.net/my-cluster',
    'https://storage.example.com/my-cluster',
    'https://storage.example.com/testaccount/my-cluster',
    'http://127.0.0.1:10000/testaccount/my-cluster',
    'http://127.0.0.1:10000/my-cluster',
    'http://[::1]:10000/testaccount/my-cluster',
  ]) {
    t.match(
      endpoint(url).faults,
      /BLOB_ENDPOINT must be the URL .* not of a container: .*SNAPSHOT_AZURE_CONTAINER_NAME/,
      url,
    );
  }
  for (const [url, expected] of Object.entries({
    'https://testaccount.blob.core.windows.net/': 'https://testaccount.blob.core.windows.net',
    'https://storage.example.com/testaccount': 'https://storage.example.com/testaccount',
    'http://127.0.0.1:10000/testaccount/': 'http://127.0.0.1:10000/testaccount',
    'http://[::1]:10000': 'http://[::1]:10000/testaccount',
  })) {
    t.strictSame(endpoint(url), { endpoint: expected, token: '', faults: '' }, url);
  }
  const same = { SNAPSHOT_AZURE_CONTAINER_NAME: 'testaccount' };
  t.equal(
    endpoint('http://127.0.0.1:10000/testaccount', same).faults,
    '',
    'a container may be called as the account is',
  );
  const connection = `BlobEndpoint=https://testaccount.blob.core.windows.net/my-cluster;AccountName=testaccount;AccountKey=${KEY}`;
  t.match(
    read({ SNAPSHOT_AZURE_CONTAINER_NAME: 'my-cluster', SNAPSHOT_AZURE_CONNECTION_STRING: connection }).faults,
    /CONNECTION_STRING must be the URL of the blob service, not of a container/,
  );
  t.end();
});

t.test('an IPv6 address as the blob endpoint', async (t) => {
  const asked: IncomingMessage[] = [];
  const handler: RequestListener = (request, response) => {
    asked.push(request);
    response.writeHead(200, { 'x-ms-request-id': 'x', 'content-type': 'application/xml' });
    response.end('<EnumerationResults><Blobs /></EnumerationResults>');
  };
  const server = await listen(createServer(handler), '::1');
  t.teardown(async () => close(server));
  const url = `http://[::1]:${addressOf(server).port}`;
  t.strictSame(await (await openStore({ ...BY_KEY, SNAPSHOT_AZURE_BLOB_ENDPOINT: url })).list(), []);
  t.equal(asked[0]?.headers.host, url.slice('http://'.length));
});

t.test('a plus in the signature of a SAS is one', (t) => {
  const fields = 'sv=2024-11-04&sr=c&sp=rcwl&se=2099-01-01';
  for (const [given, sent] of Object.entries({
    [`${fields}&sig=a+b/c+d==`]: `${fields}&sig=a%2Bb/c%2Bd==`,
    [`?sig=a+b%3D&${fields}`]: `sig=a%2Bb%3D&${fields}`,
    [`${fields}&sig=a b==`]: `${fields}&sig=a%2Bb==`,
    [`${fields}&sig=a%2Bb%3D%3D`]: `${fields}&sig=a%2Bb%3D%3D`,
  })) {
    t.equal(read({ ...PLACE, SNAPSHOT_AZURE_SAS_TOKEN: given }).token, sent, given);
    const connection = `BlobEndpoint=https://testaccount.blob.core.windows.net;SharedAccessSignature=${given.replace(/^\?/, '')}`;
    const { token } = read({ ...PLACE, SNAPSHOT_AZURE_CONNECTION_STRING: connection });
    t.equal(token, sent, `a connection string with ${given}`);
  }
  t.end();
});

t.test("clouds by the names of Azure's own tools", (t) => {
  for (const [name, suffix] of Object.entries({
    public: 'core.windows.net',
    AzurePublicCloud: 'core.windows.net',
    AzureCloud: 'core.windows.net',
    azurechinacloud: 'core.chinacloudapi.cn',
    AzureChinaCloud: 'core.chinacloudapi.cn',
    AzureUSGovernment: 'core.usgovcloudapi.net',
    AZUREUSGOVERNMENTCLOUD: 'core.usgovcloudapi.net',
    USGov: 'core.usgovcloudapi.net',
  })) {
    t.equal(read({ ...BY_KEY, SNAPSHOT_AZURE_CLOUD: name }).endpoint, `https://testaccount.blob.${suffix}`, name);
  }
  t.match(read({ ...BY_KEY, SNAPSHOT_AZURE_CLOUD: 'AzureGermanCloud' }).faults, /must be one of public, china, usgov/);
  t.end();
});

t.test('NO_PROXY with what is not understood', async (t) => {
  const proxy = { HTTPS_PROXY: 'http://127.0.0.1:1' };
  for (const entry of ['10.0.0.0/8', 'fd00::/8', '*.example.com', '*', 'example.com:443']) {
    const [warning = ''] = proxyWarnings({ ...proxy, NO_PROXY: `localhost,${entry},.svc` });
    t.ok(warning.endsWith(`ignored: ${entry}.`), `${entry}: ${warning}`);
    t.strictSame(proxyWarnings({ no_proxy: entry }), [], 'no proxy, no warning');
  }
  t.strictSame(proxyWarnings({ ...proxy, NO_PROXY: 'localhost,.svc,10.0.0.5,[::1]' }), []);
  const worker = await runWorker(['list'], { ...BY_KEY, ...proxy, NO_PROXY: '10.0.0.0/8' });
  t.match(worker.stderr, /NO_PROXY accepts whole host names .*ignored: 10.0.0.0\/8/);
});

t.test('a missing spool directory is reported first', async (t) => {
  for (const spool of [join(dir, 'nowhere'), authority.ca]) {
    const variables = { ...BY_KEY, SNAPSHOT_ETCD_ENDPOINTS: 'http://127.0.0.1:1', SNAPSHOT_SPOOL_DIR: spool };
    const { exitCode, message } = errorOf(await runWorker([], variables));
    t.equal(exitCode, 2);
    t.match(message, /SNAPSHOT_SPOOL_DIR is not an existing directory/);
  }
});

async function failure(variables: Variables): Promise<StorageError> {
  return (await openStore(variables))
    .list()
    .then(() => t.fail('it answered'))
    .catch((error: unknown) => error as StorageError) as Promise<StorageError>;
}

t.test('redirects to another host are not followed', async (t) => {
  const elsewhere = await Listener.start(200, authority);
  t.teardown(async () => elsewhere.stop());
  const location = `${elsewhere.origin}/stolen?x=1`;
  const entra = await TokenEndpoint.start(authority);
  t.teardown(async () => entra.stop());
  for (const status of [301, 302, 303, 307, 308]) {
    const blobs = await BlobService.start(authority, [{ status, headers: { location } }]);
    t.teardown(async () => blobs.stop());
    for (const variables of [BY_KEY, { ...PLACE, ...entra.variables }]) {
      const error = await failure({ ...variables, SNAPSHOT_AZURE_BLOB_ENDPOINT: blobs.url });
      t.match(error, { exitCode: 12 }, `${status}`);
    }
    const authorityHost = await BlobService.start(authority, [{ status, headers: { location } }]);
    t.teardown(async () => authorityHost.stop());
    const token = { ...PLACE, ...entra.variables, SNAPSHOT_AZURE_AUTHORITY_HOST: new URL(authorityHost.url).origin };
    t.match(await failure({ ...token, SNAPSHOT_AZURE_BLOB_ENDPOINT: blobs.url }), { exitCode: 12 }, `token ${status}`);
  }
  t.strictSame(elsewhere.asked, [], 'it was asked for nothing');
});

t.test('what Azure answers is bounded, and names no function', async (t) => {
  const ask = async (t: Test, code: string, message: string) => {
    const blobs = await BlobService.start(authority, [{ status: 403, code, message }]);
    t.teardown(async () => blobs.stop());
    return failure({ ...BY_KEY, SNAPSHOT_AZURE_BLOB_ENDPOINT: blobs.url });
  };
  for (const code of ['constructor', 'toString', '__proto__', 'hasOwnProperty', 'x'.repeat(9_000)]) {
    const { message, exitCode } = await ask(t, code, 'y'.repeat(20_000));
    t.equal(exitCode, 12);
    t.match(message, /^Azure failed while listing the container\. \[/, code.slice(0, 20));
    t.ok(message.length < 700, `${message.length} characters`);
  }
  const wrong = await ask(t, 'AuthorizationFailure', 'x');
  t.match(
    wrong.hint,
    /^Compare SNAPSHOT_AZURE_ACCOUNT_KEY .* storage firewall/,
    'the credential first, then the firewall',
  );
});

t.test('a record fits into headers, whatever the snapshot says', (t) => {
  const good = { sha256: 'a'.repeat(64), etcdversion: '3.5.0', members: '[{"id":"1"}]' };
  t.strictSame(storable(good), good);
  const bad = storable({ ...good, etcdversion: `3.5\r\nx: ${'y'.repeat(20_000)}`, storageversion: '3.6\u0000é' });
  t.match(bad['etcdversion'], /^3\.5\?\?x: y{10,}$/);
  t.equal(bad['etcdversion']?.length, 512);
  t.equal(bad['storageversion'], '3.6??');
  t.equal(storable({ ...good, members: `["${'m'.repeat(9_000)}"]` })['members'], '[]', 'then nobody knows them');
  t.end();
});

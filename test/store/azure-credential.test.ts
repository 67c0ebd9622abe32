import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  AccountSASPermissions,
  AccountSASResourceTypes,
  AccountSASServices,
  ContainerSASPermissions,
  generateAccountSASQueryParameters,
  generateBlobSASQueryParameters,
  SASProtocol,
  StorageSharedKeyCredential,
} from '@azure/storage-blob';
import t, { type Test } from 'tap';
import { readConfig } from '../../src/config/config.ts';
import { createLog } from '../../src/log.ts';
import { BlobStore } from '../../src/store/store.ts';
import { Azurite } from '../support/azurite.ts';
import { makeAuthority, makePrincipalFile, trust } from '../support/certificates.ts';
import { ConnectProxy } from '../support/connect-proxy.ts';
import { aadsts, IdentityEndpoint, TokenEndpoint } from '../support/entra.ts';
import { EtcdCluster, findEtcd } from '../support/etcd.ts';
import { type Finished, temporaryFolder, type Variables } from '../support/process.ts';
import { errorOf, runWorker } from '../support/worker.ts';

const dir = temporaryFolder('credentials');
const authority = await makeAuthority(join(dir, 'certs'));
await trust(authority);
const [tools] = findEtcd();
if (tools === undefined) throw new Error('no etcd');
const [cluster, azurite, entra, machine, proxy] = await Promise.all([
  EtcdCluster.start({ tools, dir: join(dir, 'etcd') }),
  Azurite.start(join(dir, 'azurite'), authority),
  TokenEndpoint.start(authority),
  IdentityEndpoint.start(),
  ConnectProxy.start(),
]);
t.teardown(async () => Promise.all([cluster, azurite, entra, machine, proxy].map(async (server) => server.stop())));

const CONTAINER = 'credentials';
await azurite.container(CONTAINER).create();

/** Where everything is; each test adds its credential. */
const PLACE = {
  ...cluster.variables,
  SNAPSHOT_AZURE_CONTAINER_NAME: CONTAINER,
  SNAPSHOT_AZURE_BLOB_ENDPOINT: azurite.url,
  SNAPSHOT_LOG_LEVEL: 'debug',
  NODE_EXTRA_CA_CERTS: authority.ca,
};
const sharedKey = new StorageSharedKeyCredential(azurite.account, azurite.key);
const expiresOn = new Date(Date.now() + 3_600_000);

const tokenFile = join(dir, 'federated-token');
await writeFile(tokenFile, `${entra.federatedToken}\n`);
const WORKLOAD = {
  AZURE_FEDERATED_TOKEN_FILE: tokenFile,
  AZURE_CLIENT_ID: entra.appId,
  AZURE_TENANT_ID: entra.tenant,
  AZURE_AUTHORITY_HOST: `${entra.url}/`,
};
const MANAGED = { SNAPSHOT_AZURE_AUTH: 'managed-identity' };
const VIRTUAL_MACHINE = { ...MANAGED, AZURE_POD_IDENTITY_AUTHORITY_HOST: machine.url };

/** Takes a real backup, which must succeed with this credential and show nothing of it. */
async function succeeds(
  t: Test,
  credential: string,
  variables: Variables,
  secrets: readonly string[],
): Promise<Finished> {
  const before = await azurite.names(CONTAINER);
  const finished = await runWorker([], { ...PLACE, ...variables, SNAPSHOT_LOG_LEVEL: 'debug' });
  t.equal(finished.code, 0, finished.stderr);
  t.match(finished.stderr, `accessing Azure with the ${credential}"`);
  t.equal((await azurite.names(CONTAINER)).length, before.length + 1, 'a blob more');
  for (const secret of secrets) t.notOk(`${finished.stdout}${finished.stderr}`.includes(secret), 'no secret is shown');
  return finished;
}

async function refuses(t: Test, variables: Variables, message: RegExp): Promise<Finished> {
  const finished = await runWorker(['list'], { ...PLACE, ...variables });
  t.equal(finished.code, 12);
  t.match(errorOf(finished).message, message);
  return finished;
}

/** What the files of an identity lack shows before anything is asked. */
async function unusable(t: Test, variables: Variables, message: RegExp): Promise<void> {
  const { storage } = readConfig({ ...PLACE, ...variables }, { etcd: false, storage: true });
  if (storage === undefined) throw new Error('no storage');
  const log = createLog('json', 'error', () => {});
  await t.rejects(BlobStore.open(storage, new AbortController().signal, log), { exitCode: 2, message });
}

// What it does not load is tested in bundle.test.ts.
t.test('account key', async (t) => {
  await succeeds(t, 'account key', azurite.variables(CONTAINER), [azurite.key]);
});

t.test('SAS tokens, of the container and of the account', async (t) => {
  const ofContainer = generateBlobSASQueryParameters(
    {
      containerName: CONTAINER,
      permissions: ContainerSASPermissions.parse('rcwl'),
      protocol: SASProtocol.Https,
      expiresOn,
    },
    sharedKey,
  );
  const ofAccount = generateAccountSASQueryParameters(
    {
      permissions: AccountSASPermissions.parse('rwl'),
      resourceTypes: AccountSASResourceTypes.parse('sco').toString(),
      services: AccountSASServices.parse('b').toString(),
      expiresOn,
    },
    sharedKey,
  );
  const secrets = [ofContainer, ofAccount].flatMap(({ signature }) => [signature, encodeURIComponent(signature)]);
  await succeeds(t, 'SAS token', { SNAPSHOT_AZURE_SAS_TOKEN: `?${ofContainer.toString()}` }, secrets);
  await succeeds(t, 'SAS token', { SNAPSHOT_AZURE_SAS_TOKEN: ofAccount.toString() }, secrets);
  const connection = `BlobEndpoint=${azurite.url};SharedAccessSignature=${ofAccount.toString()}`;
  await succeeds(t, 'connection string', { SNAPSHOT_AZURE_CONNECTION_STRING: connection }, secrets);
});

t.test('connection string with a key', async (t) => {
  const connection = `DefaultEndpointsProtocol=https;AccountName=${azurite.account};AccountKey=${azurite.key};BlobEndpoint=${azurite.url};`;
  await succeeds(t, 'connection string', { SNAPSHOT_AZURE_CONNECTION_STRING: connection }, [azurite.key]);
});

t.test('service principal with a certificate', async (t) => {
  const certificate = await makePrincipalFile(join(dir, 'principal.pem'));
  entra.certificate = certificate;
  const named = (path: string): Variables => ({
    ...entra.variables,
    SNAPSHOT_AZURE_PRINCIPAL_PASSWORD: '',
    SNAPSHOT_AZURE_PRINCIPAL_CERTIFICATE_FILE: path,
  });
  await succeeds(t, 'service principal', named(certificate), []);

  const file = async (name: string, content: string): Promise<Variables> => {
    await writeFile(join(dir, name), content);
    return named(join(dir, name));
  };
  const pem = await readFile(certificate, 'utf8');
  const [onlyCertificate = '', onlyKey = ''] = pem.split(/(?=-----BEGIN (?:RSA )?PRIVATE KEY)/);
  const expired = await makePrincipalFile(join(dir, 'expired.pem'), -1);
  const other = await makePrincipalFile(join(dir, 'other.pem'));
  const mixed = `${onlyCertificate}${(await readFile(other, 'utf8')).slice(onlyCertificate.length)}`;
  await unusable(t, named(join(dir, 'missing.pem')), /certificate .*missing.pem does not exist/);
  await unusable(t, await file('text.pem', 'nonsense'), /text.pem is not a PEM certificate/);
  await unusable(t, await file('bare.pem', onlyCertificate), /bare.pem is not a PEM private key/);
  await unusable(t, await file('key.pem', onlyKey), /key.pem is not a PEM certificate/);
  await unusable(t, await file('mixed.pem', mixed), /has no matching RSA key/);
  await unusable(t, named(expired), /certificate .*expired.pem expired on 20/);
  await refuses(t, named(other), /issued no token .*AADSTS700027: The certificate is not registered/);
});

t.test('workload identity', async (t) => {
  await succeeds(t, 'workload identity', WORKLOAD, [entra.federatedToken]);
  const strange = join(dir, 'strange-token');
  await writeFile(strange, 'strange');
  const empty = join(dir, 'empty-token');
  await writeFile(empty, '\n');
  const named = (file: string): Variables => ({ ...WORKLOAD, AZURE_FEDERATED_TOKEN_FILE: file });
  await refuses(t, named(strange), /issued no token .*No matching federated identity record/);
  await unusable(t, named(empty), /service-account token .*empty-token is empty/);
  await unusable(t, named(join(dir, 'no-token')), /service-account token .*no-token does not exist/);
});

t.test('managed identity', async (t) => {
  const assigned = { SNAPSHOT_AZURE_MANAGED_IDENTITY_CLIENT_ID: machine.clientId };
  // A proxy for everything else is none for the machine itself.
  const proxied = { HTTPS_PROXY: proxy.url(), NO_PROXY: new URL(azurite.url).hostname };
  await succeeds(t, 'managed identity', { ...VIRTUAL_MACHINE, ...proxied }, []);
  t.strictSame(proxy.targets, []);
  await succeeds(t, 'managed identity', { ...VIRTUAL_MACHINE, ...assigned }, []);
  await succeeds(t, 'managed identity', { ...MANAGED, ...assigned, ...machine.appService }, [machine.header]);
  const unknown = { ...VIRTUAL_MACHINE, SNAPSHOT_AZURE_MANAGED_IDENTITY_CLIENT_ID: entra.appId };
  await refuses(t, unknown, /identity endpoint at 127.0.0.1:\d+ issued no token: Identity not found/);
});

t.test('through a proxy go tokens and blobs, and never etcd', async (t) => {
  const proxied = { ...entra.variables, HTTPS_PROXY: proxy.url(), HTTP_PROXY: proxy.url() };
  const hosts = (): string[] => [...new Set(proxy.targets.splice(0))].toSorted();
  await succeeds(t, 'service principal', proxied, [entra.password, proxy.password]);
  const blobs = new URL(azurite.url).host;
  t.strictSame(hosts(), [blobs, new URL(entra.url).host]);

  await succeeds(t, 'service principal', { ...proxied, NO_PROXY: 'localhost' }, []);
  t.strictSame(hosts(), [blobs], 'without the hosts of NO_PROXY');

  const wrong = { ...entra.variables, HTTPS_PROXY: proxy.url('another~password') };
  const refused = await refuses(t, wrong, /The proxy requires a user name and a password/);
  t.notMatch(refused.stderr, 'another~password');
});

t.test('a token endpoint that is busy at first', async (t) => {
  const busy = { status: 503, body: {}, headers: { 'retry-after': '1' } };
  entra.instead.push(busy, aadsts(429, 90033, 'A transient error has occurred.'));
  const { stderr } = await succeeds(t, 'service principal', entra.variables, [entra.password]);
  t.match(stderr, /failed, retrying[^\n]*"503"[^]*failed, retrying[^\n]*AADSTS90033/);
});

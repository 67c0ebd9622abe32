import t from 'tap';
import { readConfig, secretsOf, type StorageConfig } from '../../src/config/config.ts';
import type { Credential } from '../../src/config/azure.ts';
import { UsageError } from '../../src/errors.ts';
import { masker } from '../../src/secret.ts';

const KEY = `${'k'.repeat(86)}==`;
const CONTAINER = { SNAPSHOT_AZURE_CONTAINER_NAME: 'mycluster' };
const ACCOUNT = { SNAPSHOT_AZURE_ACCOUNT_NAME: 'aksenginebackups' };
const CONNECTION = {
  SNAPSHOT_AZURE_CONNECTION_STRING: `DefaultEndpointsProtocol=https;AccountName=aksenginebackups;AccountKey=${KEY};EndpointSuffix=core.windows.net`,
};
const SIGNATURE = 'c2ln+bmF0/dXJl==';
const SAS = `sv=2024-11-04&sr=c&sp=rcwl&se=2099-01-01T00:00:00Z&spr=https&sig=${encodeURIComponent(SIGNATURE)}`;
const PRINCIPAL = {
  SNAPSHOT_AZURE_PRINCIPAL_APPID: '1775963c-8414-434d-839c-db5d417c4293',
  SNAPSHOT_AZURE_PRINCIPAL_PASSWORD: '276952a9-fa51-44ef-b6c6-905e322dbaed',
  SNAPSHOT_AZURE_PRINCIPAL_TENANT: '86be0945-a0f3-44c2-8868-9b6aa96b0b62',
};
const WORKLOAD = {
  AZURE_FEDERATED_TOKEN_FILE: '/var/run/secrets/azure/tokens/azure-identity-token',
  AZURE_CLIENT_ID: '5bd3a0fb-7c5c-4a4e-8b2e-2f4c0a4f6a55',
  AZURE_TENANT_ID: '86be0945-a0f3-44c2-8868-9b6aa96b0b62',
  AZURE_AUTHORITY_HOST: 'https://login.microsoftonline.com/',
};
const EVERYTHING = {
  ...ACCOUNT,
  ...CONNECTION,
  SNAPSHOT_AZURE_ACCOUNT_KEY: KEY,
  SNAPSHOT_AZURE_SAS_TOKEN: SAS,
  ...PRINCIPAL,
  ...WORKLOAD,
};

type Env = Readonly<Record<string, string>>;

const READS = { etcd: false, storage: true };

function storageOf(env: Env, writes = true): StorageConfig {
  const { storage } = readConfig({ ...CONTAINER, ...env }, { etcd: false, storage: true, writes });
  if (storage === undefined) throw new Error('no storage');
  return storage;
}

function faultsOf(env: Env, writes = true): string {
  try {
    storageOf(env, writes);
  } catch (error) {
    if (error instanceof UsageError) return error.message;
    throw error;
  }
  return '';
}

function without(env: Env, ...names: string[]): Env {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !names.includes(name)));
}

t.test('the first complete one is used, and the others are named', (t) => {
  const order = ['connection-string', 'key', 'sas', 'principal', 'workload-identity'];
  const signs = [
    'SNAPSHOT_AZURE_CONNECTION_STRING',
    'SNAPSHOT_AZURE_ACCOUNT_KEY',
    'SNAPSHOT_AZURE_SAS_TOKEN',
    'SNAPSHOT_AZURE_PRINCIPAL_PASSWORD',
  ];
  for (const [index, source] of order.entries()) {
    const storage = storageOf(without(EVERYTHING, ...signs.slice(0, index)));
    t.equal(storage.source, source);
    // The principal that lacks its secret is still begun.
    t.strictSame(storage.unused, index < 4 ? order.slice(index + 1) : ['principal']);
    t.equal(storageOf({ ...EVERYTHING, SNAPSHOT_AZURE_AUTH: source }).source, source, 'by its name');
  }
  const { source, unused } = storageOf({ ...EVERYTHING, SNAPSHOT_AZURE_AUTH: 'managed-identity' });
  t.equal(source, 'managed-identity');
  t.strictSame(unused, order);
  t.equal(storageOf({ ...ACCOUNT, ...WORKLOAD, SNAPSHOT_AZURE_AUTH: 'auto' }).source, 'workload-identity');
  t.end();
});

t.test('missing variables are named', (t) => {
  const missing = (env: Env): string[] => [...faultsOf(env).matchAll(/(\w+) is not set/g)].map(([, name = '']) => name);
  t.strictSame(missing({}), ['SNAPSHOT_AZURE_ACCOUNT_NAME', 'SNAPSHOT_AZURE_ACCOUNT_KEY'], 'nothing set');
  t.strictSame(missing({ SNAPSHOT_AZURE_ACCOUNT_KEY: KEY }), ['SNAPSHOT_AZURE_ACCOUNT_NAME']);
  t.strictSame(missing({ SNAPSHOT_AZURE_SAS_TOKEN: SAS }), ['SNAPSHOT_AZURE_ACCOUNT_NAME']);
  for (const name of Object.keys(PRINCIPAL)) t.strictSame(missing(without({ ...ACCOUNT, ...PRINCIPAL }, name)), [name]);
  for (const name of ['AZURE_CLIENT_ID', 'AZURE_TENANT_ID']) {
    t.strictSame(missing(without({ ...ACCOUNT, ...WORKLOAD }, name)), [name]);
  }
  t.strictSame(missing({ ...ACCOUNT, SNAPSHOT_AZURE_AUTH: 'workload-identity' }), [
    'AZURE_FEDERATED_TOKEN_FILE',
    'AZURE_CLIENT_ID',
    'AZURE_TENANT_ID',
  ]);
  t.strictSame(missing({ SNAPSHOT_AZURE_AUTH: 'managed-identity' }), ['SNAPSHOT_AZURE_ACCOUNT_NAME']);
  t.strictSame(missing({ ...ACCOUNT, SNAPSHOT_AZURE_AUTH: 'connection-string' }), ['SNAPSHOT_AZURE_CONNECTION_STRING']);
  t.match(
    faultsOf({ ...ACCOUNT, SNAPSHOT_AZURE_AUTH: 'msi' }),
    /AZURE_AUTH must be one of auto, connection-string, key,/,
  );
  t.end();
});

t.test('identities', (t) => {
  const credentialOf = (env: Env): Credential => storageOf({ ...ACCOUNT, ...env }).credential;
  const certificateFile = '/etc/principal.pem';
  t.match(credentialOf(PRINCIPAL), { proof: { password: Object }, authorityHost: 'https://login.microsoftonline.com' });
  t.match(
    credentialOf({ ...PRINCIPAL, SNAPSHOT_AZURE_PRINCIPAL_CERTIFICATE_FILE: certificateFile }),
    { kind: 'principal', proof: { certificateFile } },
    'the certificate goes before the secret',
  );
  t.match(credentialOf(WORKLOAD), {
    clientId: WORKLOAD.AZURE_CLIENT_ID,
    tenant: WORKLOAD.AZURE_TENANT_ID,
    tokenFile: WORKLOAD.AZURE_FEDERATED_TOKEN_FILE,
    authorityHost: 'https://login.microsoftonline.com',
  });
  const own = { SNAPSHOT_AZURE_AUTHORITY_HOST: 'https://login.example.org' };
  t.match(credentialOf({ ...WORKLOAD, ...own }), { authorityHost: 'https://login.example.org' });
  t.match(credentialOf({ ...PRINCIPAL, SNAPSHOT_AZURE_CLOUD: 'china' }), {
    authorityHost: 'https://login.chinacloudapi.cn',
  });
  const managed = { SNAPSHOT_AZURE_AUTH: 'managed-identity' };
  t.strictSame(credentialOf(managed), { kind: 'managed-identity', clientId: undefined });
  const assigned = { ...managed, SNAPSHOT_AZURE_MANAGED_IDENTITY_CLIENT_ID: WORKLOAD.AZURE_CLIENT_ID };
  t.match(credentialOf(assigned), { clientId: WORKLOAD.AZURE_CLIENT_ID });
  for (const tenant of ['..', 'a/b', 'a b', 'https://x']) {
    t.match(
      faultsOf({ ...ACCOUNT, ...PRINCIPAL, SNAPSHOT_AZURE_PRINCIPAL_TENANT: tenant }),
      /_TENANT must be an id/,
      tenant,
    );
  }
  const plain = { SNAPSHOT_AZURE_AUTHORITY_HOST: 'http://login.example.org' };
  t.match(faultsOf({ ...ACCOUNT, ...PRINCIPAL, ...plain }), /AUTHORITY_HOST must be a URL that begins with https/);
  t.end();
});

t.test('SAS tokens', (t) => {
  const tokenOf = ({ credential }: StorageConfig): string =>
    credential.kind === 'sas' ? credential.token.reveal() : '';
  const env = (token: string): Env => ({ ...ACCOUNT, SNAPSHOT_AZURE_SAS_TOKEN: token });
  t.equal(tokenOf(storageOf(env(SAS))), SAS);
  t.equal(tokenOf(storageOf(env(`"?${SAS}"`))), SAS, 'with a question mark, as portals show it');
  const ofAccount = SAS.replace('sr=c', 'ss=bfqt&srt=sco');
  t.equal(faultsOf(env(ofAccount)), '');
  const policy = `sv=2024-11-04&sr=c&si=backup&sig=x`;
  t.equal(faultsOf(env(policy)), '', 'what a stored access policy says only Azure knows');
  const bad: readonly (readonly [string, RegExp])[] = [
    ['se=2099-01-01', /must be a SAS token/],
    [`https://aksenginebackups.blob.core.windows.net/?${SAS}`, /without a URL before it/],
    [SAS.replace('2099', '2020'), /expired on 2020-01-01T00:00:00.000Z/],
    [`${SAS}&st=2098-01-01`, /is not valid before 2098-01-01/],
    [SAS.replace('sr=c', 'sr=b'), /must be for a container/],
    [ofAccount.replace('bfqt', 'fq'), /must be for a container/],
    [ofAccount.replace('sco', 'sc'), /must be for a container/],
    [SAS.replace('rcwl', 'rl'), /grants no permission to write/],
  ];
  for (const [token, fault] of bad) {
    const message = faultsOf(env(token));
    t.match(message, fault);
    t.match(message, 'SNAPSHOT_AZURE_SAS_TOKEN ');
    t.notMatch(message, /c2ln/, 'without the signature');
  }
  t.equal(faultsOf(env(SAS.replace('rcwl', 'rl')), false), '', 'who only reads needs no right to write');
  t.match(
    faultsOf({ ...env(SAS), SNAPSHOT_AZURE_BLOB_ENDPOINT: 'http://127.0.0.1:10000' }),
    /allows https only, but the endpoint is http/,
  );
  t.equal(
    faultsOf({ SNAPSHOT_AZURE_SAS_TOKEN: SAS, SNAPSHOT_AZURE_BLOB_ENDPOINT: 'https://blobs.example.org' }),
    '',
    'an endpoint does instead of an account',
  );
  t.end();
});

t.test('connection strings', (t) => {
  const read = (text: string, more: Env = {}): StorageConfig =>
    storageOf({ SNAPSHOT_AZURE_CONNECTION_STRING: text, ...more });
  const faults = (text: string, more: Env = {}): string =>
    faultsOf({ SNAPSHOT_AZURE_CONNECTION_STRING: text, ...more });
  const text = CONNECTION.SNAPSHOT_AZURE_CONNECTION_STRING;
  const { credential, endpoint } = read(text);
  t.match(credential, { kind: 'key', account: 'aksenginebackups' });
  t.equal(credential.kind === 'key' && credential.key.reveal(), KEY);
  t.equal(endpoint, 'https://aksenginebackups.blob.core.windows.net');
  t.equal(
    read(text.replace('windows.net', 'chinacloudapi.cn')).endpoint,
    'https://aksenginebackups.blob.core.chinacloudapi.cn',
  );
  t.equal(
    read(`AccountName=a1b;AccountKey=${KEY}`, { SNAPSHOT_AZURE_CLOUD: 'usgov' }).endpoint,
    'https://a1b.blob.core.usgovcloudapi.net',
  );
  const ofSas = `BlobEndpoint=https://x.blob.core.windows.net/;QueueEndpoint=https://x/;SharedAccessSignature=?${SAS}`;
  t.match(read(ofSas), { credential: { kind: 'sas' }, endpoint: 'https://x.blob.core.windows.net' });
  t.equal(
    read(ofSas, { SNAPSHOT_AZURE_BLOB_ENDPOINT: 'https://private.example.org/' }).endpoint,
    'https://private.example.org',
    'an endpoint of its own variable goes first',
  );
  t.match(faults(ofSas.replace('2099', '2020')), /CONNECTION_STRING expired on 2020/);
  t.match(faults(text.replace('=https', '=http')), /CONNECTION_STRING must begin with https/);
  t.match(faults(ofSas.replaceAll('https:', 'http:')), /CONNECTION_STRING must begin with https/);
  t.match(faults(text.replace(KEY, 'abc')), /CONNECTION_STRING has an AccountKey that is not 64 bytes in base64/);
  for (const part of ['AccountName=aksenginebackups;', `AccountKey=${KEY};`]) {
    t.match(faults(text.replace(part, '')), /must be a connection string as the portal shows it/, part.slice(0, 12));
  }
  t.match(faults('UseDevelopmentStorage=true'), /must be a connection string as the portal shows it/);
  t.match(
    faults(text, { SNAPSHOT_AZURE_ACCOUNT_NAME: 'otherbackups' }),
    'is for account aksenginebackups, but SNAPSHOT_AZURE_ACCOUNT_NAME is otherbackups',
  );
  t.end();
});

t.test('account keys', (t) => {
  for (const key of ['abc', `${KEY}x`, KEY.replace('==', '--')]) {
    t.match(faultsOf({ ...ACCOUNT, SNAPSHOT_AZURE_ACCOUNT_KEY: key }), 'ACCOUNT_KEY must be 64 bytes in base64');
  }
  const other = { ...ACCOUNT, SNAPSHOT_AZURE_ACCOUNT_KEY: 'abc', ...PRINCIPAL, SNAPSHOT_AZURE_AUTH: 'principal' };
  t.equal(faultsOf(other), '', 'one that is not used is not judged');
  t.end();
});

t.test('the blob endpoint', (t) => {
  const key = { ...ACCOUNT, SNAPSHOT_AZURE_ACCOUNT_KEY: KEY };
  const endpoint = (value: string, more = {}): string =>
    storageOf({ ...key, SNAPSHOT_AZURE_BLOB_ENDPOINT: value, ...more }).endpoint;
  t.equal(endpoint('https://x.privatelink.blob.core.windows.net/'), 'https://x.privatelink.blob.core.windows.net');
  t.equal(
    endpoint('http://127.0.0.1:10000'),
    'http://127.0.0.1:10000/aksenginebackups',
    'the account goes into the path',
  );
  t.equal(endpoint('http://127.0.0.1:10000/devstoreaccount1'), 'http://127.0.0.1:10000/devstoreaccount1');
  t.equal(endpoint('http://[::1]:10000/x'), 'http://[::1]:10000/x');
  t.equal(endpoint('', { SNAPSHOT_AZURE_CLOUD: 'china' }), 'https://aksenginebackups.blob.core.chinacloudapi.cn');
  t.equal(endpoint('', { SNAPSHOT_AZURE_CLOUD: 'usgov' }), 'https://aksenginebackups.blob.core.usgovcloudapi.net');
  const faults = (value: string, more: Env = key): string => faultsOf({ ...more, SNAPSHOT_AZURE_BLOB_ENDPOINT: value });
  for (const value of ['http://10.0.0.1/x', 'http://127.0.0.1.example.org/x', 'http://localhost.example.org/x']) {
    t.match(faults(value), 'BLOB_ENDPOINT must begin with https', value);
    t.match(faults(value, { SNAPSHOT_AZURE_SAS_TOKEN: SAS }), 'BLOB_ENDPOINT must begin with https', value);
  }
  t.match(faults('https://x/?sig=1'), 'BLOB_ENDPOINT must be the full URL');
  const managed = { SNAPSHOT_AZURE_AUTH: 'managed-identity' };
  for (const identity of [PRINCIPAL, WORKLOAD, managed]) {
    t.match(
      faults('http://127.0.0.1:10000/x', identity),
      'must begin with https://: the token must not be sent unencrypted',
    );
  }
  t.end();
});

t.test('a proxy that is not a URL is reported before the SDK fails with it', (t) => {
  const key = { ...ACCOUNT, SNAPSHOT_AZURE_ACCOUNT_KEY: KEY };
  for (const value of ['proxy.example.org:3128', '10.0.0.1:3128', '"http://10.0.0.1:3128"', 'socks5://10.0.0.1']) {
    const message = faultsOf({ ...key, HTTPS_PROXY: value });
    t.match(message, 'HTTPS_PROXY (or HTTP_PROXY, ALL_PROXY) must be a URL that begins with http:// or https://');
    t.notMatch(message, value);
  }
  const proxy = 'http://worker:secret@10.0.0.1:3128';
  for (const name of ['https_proxy', 'HTTP_PROXY', 'all_proxy']) t.equal(faultsOf({ ...key, [name]: proxy }), '', name);
  t.equal(faultsOf({ ...key, HTTPS_PROXY: proxy, ALL_PROXY: 'socks5://10.0.0.1' }), '', 'which is not looked at');
  t.end();
});

t.test('every form of every secret is masked', (t) => {
  const mask = masker(
    secretsOf({
      ...EVERYTHING,
      SNAPSHOT_AZURE_SAS_TOKEN: `?${SAS}`,
      SNAPSHOT_AZURE_CONNECTION_STRING: `BlobEndpoint=https://x;SharedAccessSignature=sv=1&sig=b3RoZXI%3D`,
      https_proxy: 'http://worker:proxy%7Epassword@proxy.example.org:3128',
      IDENTITY_HEADER: 'identity-header',
    }),
  );
  const forms = [SIGNATURE, encodeURIComponent(SIGNATURE), KEY, encodeURIComponent(KEY)];
  for (const form of [...forms, 'b3RoZXI=', 'b3RoZXI%3D', 'proxy%7Epassword', 'proxy~password', 'identity-header']) {
    t.equal(mask(`before ${form} after`), 'before [secret] after', form);
  }
  t.equal(mask('nothing secret'), 'nothing secret');
  t.end();
});

/** The same variables for the second place. */
function forCopy(env: Env): Env {
  return Object.fromEntries(Object.entries(env).map(([name, value]) => [name.replace(/^SNAPSHOT_/, '$&COPY_'), value]));
}

t.test('the second place is read as the first one is, from its own variables', (t) => {
  const others = { ...CONTAINER, ...ACCOUNT, SNAPSHOT_AZURE_ACCOUNT_KEY: KEY, SNAPSHOT_BLOB_PREFIX: 'first/' };
  const places = [
    { ...ACCOUNT, SNAPSHOT_AZURE_SAS_TOKEN: SAS },
    { ...CONNECTION, SNAPSHOT_BLOB_PREFIX: 'copies/' },
    { ...ACCOUNT, ...PRINCIPAL, SNAPSHOT_AZURE_CLOUD: 'china' },
    { ...ACCOUNT, ...PRINCIPAL, SNAPSHOT_AZURE_PRINCIPAL_CERTIFICATE_FILE: '/certificate.pem' },
    { ...ACCOUNT, SNAPSHOT_AZURE_AUTH: 'managed-identity' },
    { ...ACCOUNT, ...WORKLOAD },
  ];
  for (const env of places) {
    const own = readConfig({ ...others, ...forCopy({ ...CONTAINER, ...env }) }, { ...READS, place: 'copy' }).storage;
    t.strictSame({ ...own, place: 'first' }, storageOf(env));
    t.equal(own?.place, 'copy');
  }
  t.end();
});

t.test('a problem of the second place names its variables, and no other place is checked', (t) => {
  const problemsOf = (env: Env): string => {
    try {
      readConfig({ ...env, SNAPSHOT_AZURE_ACCOUNT_KEY: 'wrong' }, { ...READS, place: 'copy' });
      return '';
    } catch (error) {
      return error instanceof UsageError ? error.message : String(error);
    }
  };
  const invalid = { SNAPSHOT_AZURE_CONTAINER_NAME: 'No_Name', SNAPSHOT_BLOB_PREFIX: '/' };
  for (const env of [
    invalid,
    { ...CONTAINER, ...ACCOUNT, SNAPSHOT_AZURE_ACCOUNT_KEY: 'short' },
    { ...CONTAINER, ...CONNECTION, SNAPSHOT_AZURE_ACCOUNT_NAME: 'other' },
    { ...CONTAINER, ...ACCOUNT, SNAPSHOT_AZURE_SAS_TOKEN: 'https://a' },
    { ...CONTAINER, ...ACCOUNT, SNAPSHOT_AZURE_ACCOUNT_KEY: KEY, SNAPSHOT_AZURE_BLOB_ENDPOINT: 'http://a.example' },
  ]) {
    const problems = problemsOf(forCopy(env));
    t.match(problems, /SNAPSHOT_COPY_/);
    t.notMatch(problems, /SNAPSHOT_(AZURE|BLOB)/, problems);
  }
  t.end();
});

t.test('a second place with the account and the credential of the first is refused', (t) => {
  const first = { ...CONTAINER, ...ACCOUNT, SNAPSHOT_AZURE_ACCOUNT_KEY: KEY };
  const read = (copy: Env, allowsSameAccount = false) =>
    readConfig({ ...first, ...forCopy(copy) }, { ...READS, copies: 'always', allowsSameAccount }).copy?.container;
  const other = { ...first, SNAPSHOT_AZURE_CONTAINER_NAME: 'copies' };
  t.throws(() => read(other), { message: /same endpoint and credential/ });
  t.equal(read(other, true), 'copies');
  t.throws(() => read(first, true), { message: /is the same as the first/ });
  const elsewhere = { ...other, SNAPSHOT_AZURE_ACCOUNT_NAME: 'elsewhere' };
  const otherKey = Buffer.alloc(64, 7).toString('base64');
  t.equal(read({ ...elsewhere, SNAPSHOT_AZURE_ACCOUNT_KEY: otherKey }), 'copies', 'another account');
  t.throws(() => read(elsewhere), { message: /same endpoint and credential/ }, 'the same one, by another name');
  t.equal(read({ ...CONTAINER, ...ACCOUNT, SNAPSHOT_AZURE_SAS_TOKEN: SAS }), 'mycluster', 'another credential');
  t.end();
});

t.test('the second place is read only by runs that use it', (t) => {
  const env = { ...CONTAINER, ...ACCOUNT, SNAPSHOT_AZURE_ACCOUNT_KEY: KEY, SNAPSHOT_COPY_AZURE_ACCOUNT_NAME: 'No' };
  t.equal(readConfig(env, { ...READS, copies: 'after backup' }).copy, undefined);
  t.throws(() => readConfig({ ...env, SNAPSHOT_COPY: 'after-backup' }, { ...READS, copies: 'after backup' }));
  t.throws(() => readConfig({ ...env, SNAPSHOT_COPY: 'sometimes' }, READS), {
    message: /SNAPSHOT_COPY must be one of/,
  });
  const named = { ...env, SNAPSHOT_COPY_AZURE_CONTAINER_NAME: 'x' };
  t.throws(() => readConfig(named, { ...READS, copies: 'if set' }));
  t.equal(readConfig(named, READS).hasCopy, true);
  t.equal(readConfig(env, READS).hasCopy, false);
  t.end();
});

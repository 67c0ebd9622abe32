import { inspect } from 'node:util';
import t from 'tap';
import {
  type Config,
  type EtcdConfig,
  readConfig,
  readLogConfig,
  secretsOf,
  type StorageConfig,
  unknownVariables,
} from '../../src/config/config.ts';
import { readMonitoring } from '../../src/config/monitoring.ts';
import { UsageError } from '../../src/errors.ts';
import { hasRule } from '../../src/retention/retention-plan.ts';
import { masker, Secret } from '../../src/secret.ts';

const KEY = `${'k'.repeat(86)}==`;

/** The Secret of the book, with its quotation marks. */
const BOOK = {
  SNAPSHOT_ETCD_ENDPOINTS: 'https://10.255.255.5:2379,https://10.255.255.6:2379,https://10.255.255.7:2379',
  SNAPSHOT_AZURE_PRINCIPAL_APPID: '1775963c-8414-434d-839c-db5d417c4293',
  SNAPSHOT_AZURE_PRINCIPAL_PASSWORD: '276952a9-fa51-44ef-b6c6-905e322dbaed',
  SNAPSHOT_AZURE_PRINCIPAL_TENANT: '86be0945-a0f3-44c2-8868-9b6aa96b0b62',
  SNAPSHOT_AZURE_ACCOUNT_NAME: 'aksenginebackups',
  SNAPSHOT_AZURE_ACCOUNT_KEY: `"${KEY}"`,
  SNAPSHOT_AZURE_CONTAINER_NAME: 'mycluster',
};

const NEEDS = { etcd: true, storage: true };

/** A configuration that must be whole. */
function whole(env: Record<string, string>): { etcd: EtcdConfig; storage: StorageConfig } & Config {
  const config = readConfig(env, NEEDS);
  const { etcd, storage } = config;
  if (etcd === undefined || storage === undefined) throw new Error('half a configuration');
  return { ...config, etcd, storage };
}

function faultsOf(env: Record<string, string>, needs: Parameters<typeof readConfig>[1] = NEEDS): string {
  try {
    readConfig(env, needs);
  } catch (error) {
    if (error instanceof UsageError) return error.message;
    throw error;
  }
  return '';
}

t.test("the book's variables, all seven at once", (t) => {
  const { etcd, storage, retention, timeout, readBack } = whole(BOOK);
  t.strictSame(etcd.endpoints, BOOK.SNAPSHOT_ETCD_ENDPOINTS.split(','));
  t.strictSame(etcd.tls, {}, 'no file is named, so the known places are looked at');
  t.equal(etcd.user, undefined);
  t.equal(storage.credential.kind, 'key', 'the key is used for the data, as the book did');
  t.equal(storage.credential.kind === 'key' && storage.credential.key.reveal(), KEY, 'without its quotation marks');
  t.strictSame(storage.unused, ['principal']);
  t.equal(storage.endpoint, 'https://aksenginebackups.blob.core.windows.net');
  t.equal(storage.prefix, '');
  t.notOk(hasRule(retention.rules), 'nothing is ever deleted');
  t.strictSame(retention.previousClusterIds, []);
  t.equal(timeout, 570);
  t.equal(readBack, 'full');
  t.end();
});

t.test('all problems are reported at once, with variable, reason and example', (t) => {
  const message = faultsOf({
    SNAPSHOT_ETCD_ENDPOINTS: '10.0.0.1:2379,ftp://x,https://ok:2379/path',
    SNAPSHOT_AZURE_ACCOUNT_NAME: 'Not_An_Account',
    SNAPSHOT_AZURE_CONTAINER_NAME: 'a--b',
    SNAPSHOT_KEEP_LAST: '0',
    SNAPSHOT_TIMEOUT: '10 minutes',
    SNAPSHOT_BLOB_PREFIX: '/etcd/',
    SNAPSHOT_LOG_LEVEL: 'loud',
    SNAPSHOT_READ_BACK: 'sometimes',
  });
  t.match(message, 'has 9 errors');
  for (const name of [
    'ETCD_ENDPOINTS contains "10.0.0.1:2379", "ftp://x", "https://ok:2379/path": an endpoint must be a URL that begins',
    'AZURE_ACCOUNT_NAME must be 3 to 24',
    'AZURE_ACCOUNT_KEY is not set',
    'AZURE_CONTAINER_NAME must be 3 to 63',
    'KEEP_LAST must be',
    'TIMEOUT must be',
    'BLOB_PREFIX must be',
    'LOG_LEVEL must be one of debug, info, warn, error',
    'READ_BACK must be one of full, off',
  ]) {
    t.match(message, `SNAPSHOT_${name}`);
  }
  t.end();
});

t.test('access tier and rate of uploads', (t) => {
  const { storage } = whole({ ...BOOK, SNAPSHOT_ACCESS_TIER: 'Cool', SNAPSHOT_MAX_UPLOAD_RATE: '20MiB' });
  t.match(storage, { accessTier: 'Cool', maxUploadRate: 20 * 2 ** 20 });
  t.match(whole({ ...BOOK }).storage, { accessTier: undefined, maxUploadRate: undefined });
  const message = faultsOf({ ...BOOK, SNAPSHOT_ACCESS_TIER: 'archive', SNAPSHOT_MAX_UPLOAD_RATE: '255KiB' });
  t.match(message, 'SNAPSHOT_ACCESS_TIER must not be archive: a snapshot there could not be read back');
  t.match(message, 'SNAPSHOT_MAX_UPLOAD_RATE must be bytes per second, such as 20MiB, at least 256KiB');
  t.match(faultsOf({ ...BOOK, SNAPSHOT_ACCESS_TIER: 'warm' }), 'must be one of hot, cool, cold (example: cool)');
  t.end();
});

const WRITES = { ...NEEDS, writes: true, readsBundle: true };

t.test('what protects snapshots is not lost by an empty variable', (t) => {
  const PROTECTION = [
    'ENCRYPTION_RECIPIENTS',
    'ENCRYPTION_RECIPIENTS_FILE',
    'SIGNING_KEY_FILE',
    'VERIFICATION_KEYS_FILE',
    'BUNDLE',
  ];
  for (const name of PROTECTION) {
    for (const empty of ['', ' ', '""']) {
      const message = faultsOf({ ...BOOK, [`SNAPSHOT_${name}`]: empty }, WRITES);
      t.match(message, `SNAPSHOT_${name} is empty: set it, or remove it`);
    }
  }
  t.equal(faultsOf({ ...BOOK, SNAPSHOT_ENCRYPTION_RECIPIENTS: '' }), '', 'reading goes on');
  t.match(faultsOf({ ...BOOK, SNAPSHOT_VERIFICATION_KEYS_FILE: '' }), 'is empty', 'but not without verification');
  t.equal(faultsOf({ ...BOOK, SNAPSHOT_KEEP_LAST: '', SNAPSHOT_COMPRESSION: '' }), '');
  t.match(faultsOf({ ...BOOK, SNAPSHOT_BUNDLE: 'kubeadmin' }, WRITES), 'the most similar one is kubeadm');
  t.match(faultsOf({ ...BOOK, SNAPSHOT_BUNDLE: '/' }, WRITES), 'contains the root directory');
  t.end();
});

t.test('container names', (t) => {
  for (const bad of ['ab', 'a'.repeat(64), 'Backup', 'a--b', '-ab', 'ab-', 'a_b', '$logs']) {
    t.match(faultsOf({ ...BOOK, SNAPSHOT_AZURE_CONTAINER_NAME: bad }), 'CONTAINER_NAME must be', bad);
  }
  for (const good of ['abc', 'my-cluster-1', '0ab', 'a'.repeat(63)]) {
    t.equal(faultsOf({ ...BOOK, SNAPSHOT_AZURE_CONTAINER_NAME: good }), '', good);
  }
  t.end();
});

t.test('endpoints', (t) => {
  const endpoints = (value: string): readonly string[] =>
    whole({ ...BOOK, SNAPSHOT_ETCD_ENDPOINTS: value }).etcd.endpoints;
  t.strictSame(endpoints(' https://a:2379/ , https://a:2379,https://[::1]:1,'), ['https://a:2379', 'https://[::1]:1']);
  t.strictSame(endpoints('https://a'), ['https://a:2379'], "etcd's port is the default");
  t.strictSame(
    endpoints('https://a:443,http://b:80'),
    ['https://a:443', 'http://b:80'],
    'also ports of other protocols',
  );
  const { tls, unusedTls } = whole({ ...BOOK, SNAPSHOT_ETCD_ENDPOINTS: 'http://a:2379' }).etcd;
  t.equal(tls, undefined, 'http needs no certificates');
  t.strictSame(unusedTls, [], 'and those in the default directory are no mistake');
  const half = readConfig({ ...BOOK, SNAPSHOT_ETCD_ENDPOINTS: '' }, { etcd: false, storage: true });
  t.equal(half.etcd, undefined, 'not looked at where it is not needed');
  const restores = { etcd: 'if set', storage: true, timeout: 86_400 } as const;
  t.equal(readConfig({ ...BOOK, SNAPSHOT_ETCD_ENDPOINTS: '' }, restores).etcd, undefined, 'a restore does without');
  t.match(readConfig(BOOK, restores), { etcd: { endpoints: [/.5:2379/, /.6:2379/, /.7:2379/] }, timeout: 86_400 });
  t.equal(readConfig({ ...BOOK, SNAPSHOT_TIMEOUT: '60' }, restores).timeout, 60, 'what is set wins over its default');
  t.end();
});

t.test('sizes', (t) => {
  const size = (value: string): number => whole({ ...BOOK, SNAPSHOT_HASHKV_MAX_SIZE: value }).hashKvMaxSize;
  t.strictSame(['', '0', '512MiB', '2GiB', '1024'].map(size), [2 ** 30, 0, 2 ** 29, 2 ** 31, 1024]);
  for (const bad of ['1GB', 'big', '-1', '1.5GiB']) {
    t.match(faultsOf({ ...BOOK, SNAPSHOT_HASHKV_MAX_SIZE: bad }), 'SNAPSHOT_HASHKV_MAX_SIZE must be a size', bad);
  }
  t.end();
});

t.test('what the spool leaves free', (t) => {
  const reserve = (value: string): unknown => whole({ ...BOOK, SNAPSHOT_SPOOL_RESERVE: value }).spoolReserve;
  t.strictSame(['', '0', '2GiB', '0%', '10%', '90%'].map(reserve), [
    ...[undefined, { bytes: 0 }, { bytes: 2 ** 31 }],
    ...[{ percent: 0 }, { percent: 10 }, { percent: 90 }],
  ]);
  for (const bad of ['100%', '91%', '-1%', '1.5%', '%', '10 %', '2GB', 'a lot', '010%']) {
    t.match(
      faultsOf({ ...BOOK, SNAPSHOT_SPOOL_RESERVE: bad }),
      /SNAPSHOT_SPOOL_RESERVE must be a size .* percentage/,
      bad,
    );
  }
  t.end();
});

t.test('etcd user and certificate files', (t) => {
  const named = {
    SNAPSHOT_ETCD_CA_FILE: '/a/ca',
    SNAPSHOT_ETCD_CERT_FILE: '/a/cert',
    SNAPSHOT_ETCD_KEY_FILE: '/a/key',
    SNAPSHOT_ETCD_USERNAME: 'backup',
    SNAPSHOT_ETCD_PASSWORD: 'a password',
  };
  const { etcd } = whole({ ...BOOK, ...named });
  t.strictSame(etcd.tls, { ca: '/a/ca', cert: '/a/cert', key: '/a/key' });
  t.equal(etcd.user?.name, 'backup');
  t.equal(etcd.user?.password.reveal(), 'a password');
  t.match(faultsOf({ ...BOOK, ...named, SNAPSHOT_ETCD_PASSWORD: '' }), 'SNAPSHOT_ETCD_PASSWORD is not set');
  t.match(faultsOf({ ...BOOK, ...named, SNAPSHOT_ETCD_USERNAME: '' }), 'SNAPSHOT_ETCD_USERNAME is not set');
  t.end();
});

t.test('durations', (t) => {
  const timeout = (value: string): number => whole({ ...BOOK, SNAPSHOT_TIMEOUT: value }).timeout;
  t.strictSame(['90', '90s', '10m', '2h', '1d'].map(timeout), [90, 90, 600, 7200, 86_400]);
  for (const bad of ['0', '-5', '1w', '1.5m', '25d', 'ten']) {
    t.match(faultsOf({ ...BOOK, SNAPSHOT_TIMEOUT: bad }), 'SNAPSHOT_TIMEOUT must be', bad);
  }
  t.end();
});

t.test('retention', (t) => {
  const { rules, previousClusterIds } = whole({
    ...BOOK,
    SNAPSHOT_KEEP_LAST: '1',
    SNAPSHOT_KEEP_HOURLY: '"24"',
    SNAPSHOT_KEEP_DAILY: '7',
    SNAPSHOT_KEEP_WEEKLY: '5',
    SNAPSHOT_KEEP_MONTHLY: '12',
    SNAPSHOT_KEEP_YEARLY: '999',
    SNAPSHOT_KEEP_WITHIN: '400d',
    SNAPSHOT_PREVIOUS_CLUSTER_IDS: 'cdf818194e3a8c32, 1',
  }).retention;
  const within = 400 * 86_400;
  t.strictSame(rules, { last: 1, hourly: 24, daily: 7, weekly: 5, monthly: 12, yearly: 999, within });
  t.strictSame(previousClusterIds, ['cdf818194e3a8c32', '1']);
  for (const name of ['LAST', 'HOURLY', 'DAILY', 'WEEKLY', 'MONTHLY', 'YEARLY']) {
    t.match(faultsOf({ ...BOOK, [`SNAPSHOT_KEEP_${name}`]: '-1' }), `SNAPSHOT_KEEP_${name} must be a whole number`);
  }
  // A unit forgotten or taken for another must not delete nearly everything.
  for (const bad of ['14', '0d', '6m', '1y', '2w', '1h30m', '1.5d']) {
    t.match(faultsOf({ ...BOOK, SNAPSHOT_KEEP_WITHIN: bad }), 'SNAPSHOT_KEEP_WITHIN must be a duration', bad);
  }
  for (const bad of ['xyz', 'CDF818194E3A8C32', '0xcdf8', '1,,2', 'cdf818194e3a8c321']) {
    t.match(faultsOf({ ...BOOK, SNAPSHOT_PREVIOUS_CLUSTER_IDS: bad }), 'must be cluster ids', bad);
  }
  t.end();
});

t.test('monitoring', (t) => {
  const reports = (env: Record<string, string>): string => {
    try {
      readConfig({ ...BOOK, ...env }, { ...NEEDS, reports: 'backup' });
      return '';
    } catch (error) {
      return String(error);
    }
  };
  const [gateway, ping] = ['SNAPSHOT_PUSHGATEWAY_URL', 'SNAPSHOT_PING_URL'] as const;
  for (const url of ['http://gateway.example.com:9091/base', 'https://u:p@x.example.com', 'http://u:p@gateway:9091']) {
    t.equal(reports({ [gateway]: url }), '', url);
  }
  for (const url of [
    ...[
      'https://hc-ping.com/token',
      'http://kuma/token',
      'http://kuma.monitoring.svc:3001/token',
      'http://127.0.0.1/token',
    ],
    ...['http://10.0.171.12/token', 'http://172.31.0.1/token', 'http://192.168.1.1/token', 'http://[fd00::1]/token'],
  ]) {
    t.equal(reports({ [ping]: url }), '', url);
  }
  for (const [name, url] of [
    [gateway, 'gateway:9091'],
    [gateway, 'ftp://gateway'],
    [ping, 'token'],
  ] as const) {
    t.match(reports({ [name]: url }), `${name} must be a URL that begins with http:// or https://`, url);
  }
  for (const [name, url] of [
    [gateway, 'http://u:visible@gateway.example.com'],
    [ping, 'http://hc-ping.com/visible'],
    [ping, 'http://10.evil.com/visible'],
    [ping, 'http://172.32.0.1/visible'],
    [ping, 'http://[2001:db8::1]/visible'],
  ] as const) {
    const message = reports({ [name]: url });
    t.match(message, `${name} contains a secret: outside a private network it must begin with https://`, url);
    t.notMatch(message, 'visible');
  }
  t.equal(faultsOf({ ...BOOK, [ping]: 'token' }), '', 'a restore does not fail for it');

  const cluster = (env: Record<string, string>): string | undefined => readMonitoring({ ...BOOK, ...env }).cluster;
  t.equal(cluster({}), 'mycluster');
  t.equal(cluster({ SNAPSHOT_BLOB_PREFIX: '"prod/eu/"' }), 'mycluster/prod/eu');
  t.equal(cluster({ SNAPSHOT_AZURE_CONTAINER_NAME: 'No_Name' }), undefined);
  t.equal(cluster({ SNAPSHOT_BLOB_PREFIX: '/' }), undefined);

  const secrets = { [gateway]: 'http://user:pass%7Eword@gateway', [ping]: '"https://hc-ping.com/the-token?rid=1"' };
  const mask = masker(secretsOf(secrets));
  const text = `pass%7Eword pass~word ${Buffer.from('user:pass~word').toString('base64')} /the-token?rid=1 at gateway`;
  t.notMatch(mask(text), /pass|dXNlcj|token/);
  t.match(mask(text), 'at gateway');
  t.end();
});

t.test('an unknown variable gets a warning with the nearest name', (t) => {
  t.strictSame(unknownVariables({ ...BOOK, PATH: '/bin' }), []);
  t.match(unknownVariables({ SNAPSHOT_ETCD_ENDPOINT: 'x' })[0], 'the most similar variable is SNAPSHOT_ETCD_ENDPOINTS');
  t.match(
    unknownVariables({ SNAPSHOT_AZURE_ACOUNT_KEY: 'x' })[0],
    'the most similar variable is SNAPSHOT_AZURE_ACCOUNT_KEY',
  );
  t.match(unknownVariables({ SNAPSHOT_SOMETHING_ENTIRELY_DIFFERENT: 'x' })[0], /is ignored$/);
  t.end();
});

t.test('secrets cannot be printed', (t) => {
  const secret = new Secret('top');
  const shown = [String(secret), `${secret}`, JSON.stringify({ secret }), inspect({ secret }), inspect(secret)];
  for (const text of shown) t.notMatch(text, 'top');
  t.equal(secret.reveal(), 'top');
  const mask = masker(secretsOf({ ...BOOK, SNAPSHOT_AZURE_CONNECTION_STRING: `AccountName=a;AccountKey=${KEY}+/x` }));
  t.notMatch(
    mask(`a ${KEY} b ${encodeURIComponent(KEY)} c ${BOOK.SNAPSHOT_AZURE_PRINCIPAL_PASSWORD}`),
    /kkkk|276952a9/,
  );
  t.equal(mask('nothing secret'), 'nothing secret');
  t.end();
});

t.test('no error shows the value of a secret', (t) => {
  const message = faultsOf({
    SNAPSHOT_AZURE_ACCOUNT_KEY: 'visible?',
    SNAPSHOT_AZURE_CONNECTION_STRING: 'AccountName=a;AccountKey=visible?',
    SNAPSHOT_AZURE_AUTH: 'nonsense',
  });
  t.notMatch(message, 'visible');
  t.end();
});

t.test("the log's settings never fail", (t) => {
  t.strictSame(readLogConfig({ SNAPSHOT_LOG_FORMAT: 'x', SNAPSHOT_LOG_LEVEL: 'y' }), {
    format: undefined,
    level: 'info',
  });
  t.strictSame(readLogConfig({ SNAPSHOT_LOG_FORMAT: 'text', SNAPSHOT_LOG_LEVEL: 'debug' }), {
    format: 'text',
    level: 'debug',
  });
  t.end();
});

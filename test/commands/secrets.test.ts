import { readFileSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { join } from 'node:path';
import { text as textOf } from 'node:stream/consumers';
import t, { type Test } from 'tap';
import { parseCommandLine } from '../../src/cli.ts';
import { readConfig, secretsOf } from '../../src/config/config.ts';
import { VARIABLES } from '../../src/config/variables.ts';
import { createLog } from '../../src/log.ts';
import { maskedJson, masker } from '../../src/secret.ts';
import { withoutQuery } from '../../src/text.ts';
import { Azurite } from '../support/azurite.ts';
import { EtcdCluster, findEtcd } from '../support/etcd.ts';
import { forEachOf } from '../support/parallel.ts';
import { type Finished, temporaryFolder, type Variables } from '../support/process.ts';
import { addressOf, close, listen } from '../support/server.ts';
import { runWorker, withTools } from '../support/worker.ts';

const dir = temporaryFolder('secrets');
const tools = findEtcd().at(-1);
if (tools === undefined) throw new Error('no etcd');
const cluster = await EtcdCluster.start({ tools, dir: join(dir, 'etcd') });
const azurite = await Azurite.start(join(dir, 'azurite'));
await azurite.container('secrets').create();

const pushed: string[] = [];
const gateway = await listen(
  createServer((request, response) => {
    void answer(request, response);
  }),
);

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const body = await textOf(request);
  if (request.url?.startsWith('/metrics') === true) pushed.push(`${request.url} ${body}`);
  else if (body !== '') pushed.push(body);
  response.writeHead(400).end(`refused ${request.headers.authorization}`);
}
const gatewayPort = addressOf(gateway).port;
t.teardown(async () => Promise.all([close(gateway), cluster.stop(), azurite.stop()]));

/** A run and the termination message that it left. */
interface Ended extends Finished {
  readonly termination: string;
}
let runs = 0;

/** One in every variable that may hold one; with characters that each encoding writes differently. */
const SECRETS = {
  SNAPSHOT_ETCD_PASSWORD: 'etcd"pass\\word/+é=%41',
  SNAPSHOT_AZURE_ACCOUNT_KEY: azurite.key,
  SNAPSHOT_AZURE_PRINCIPAL_PASSWORD: 'Abc8Q~principal.password-of-the-app~xyzabcd',
  SNAPSHOT_AZURE_CONNECTION_STRING: `AccountName=a;AccountKey=${Buffer.alloc(64, 'connected').toString('base64')}`,
  SNAPSHOT_AZURE_SAS_TOKEN: 'sv=2024-11-04&sr=c&sp=rcwl&se=2030-01-01&sig=c2lnbmF0dXJlK29mL3Rva2Vu%3D',
  SNAPSHOT_PING_URL: `http://127.0.0.1:${gatewayPort}/ping-token-of-the-switch?rid=1`,
  SNAPSHOT_NOTIFY_URL: `http://127.0.0.1:${gatewayPort}/services/token-of-the-webhook`,
  IDENTITY_HEADER: 'identity-header-of-the-machine',
};
const PASSWORDS = ['gateway~pass%21word', 'proxy~pass%21word'] as const;
const URLS = {
  SNAPSHOT_PUSHGATEWAY_URL: `http://pusher:${PASSWORDS[0]}@127.0.0.1:${gatewayPort}`,
  HTTPS_PROXY: `http://proxied:${PASSWORDS[1]}@127.0.0.1:1`,
  NO_PROXY: '127.0.0.1',
};

/** The second place has secrets of its own, in the same forms. */
const OF_COPY = {
  SNAPSHOT_COPY_AZURE_ACCOUNT_KEY: Buffer.alloc(64, 'copied').toString('base64'),
  SNAPSHOT_COPY_AZURE_PRINCIPAL_PASSWORD: 'Xyz8Q~password.of-the-second-place~abcdefg',
  SNAPSHOT_COPY_AZURE_CONNECTION_STRING: `AccountName=b;AccountKey=${Buffer.alloc(64, 'second').toString('base64')}`,
  SNAPSHOT_COPY_AZURE_SAS_TOKEN: 'sv=2024-11-04&sr=c&sp=rcwl&se=2030-01-01&sig=c2lnbmF0dXJlL29mL2NvcHk%3D',
};

/** What no output may contain. */
const VALUES = [
  ...Object.values({ ...SECRETS, ...OF_COPY }).filter((value) => !value.startsWith('http')),
  ...PASSWORDS,
  ...PASSWORDS.map(decodeURIComponent),
  'ping-token-of-the-switch',
  'token-of-the-webhook',
  'c2lnbmF0dXJlK29mL3Rva2Vu',
  'c2lnbmF0dXJlL29mL2NvcHk',
  Buffer.alloc(64, 'second').toString('base64'),
  Buffer.alloc(64, 'connected').toString('base64'),
];

function formsOf(value: string): string[] {
  const bytes = Buffer.from(value);
  const percent = encodeURIComponent(value);
  return [
    value,
    percent,
    percent.replace(/%../g, (code) => code.toLowerCase()),
    JSON.stringify(value).slice(1, -1),
    bytes.toString('base64'),
  ];
}

function showsNone(t: Test, what: string, ended: Ended, values: readonly string[] = VALUES): void {
  const outputs = [ended.stdout, ended.stderr, ended.termination, pushed.join('\n')];
  const shown = values.flatMap(formsOf).filter((form) => outputs.some((output) => output.includes(form)));
  t.strictSame(shown, [], what);
}

async function worker(args: readonly string[], variables: Variables): Promise<Ended> {
  const file = join(dir, `termination-log-${++runs}`);
  writeFileSync(file, '');
  const all = { SNAPSHOT_TERMINATION_LOG: file, SNAPSHOT_LOG_LEVEL: 'debug', ...variables };
  return { ...(await runWorker(args, all, dir)), termination: readFileSync(file, 'utf8') };
}

const file = join(dir, 'small.db');
await cluster.etcdctl('put', `/registry/${SECRETS.SNAPSHOT_ETCD_PASSWORD}`, 'value');
await cluster.etcdctl('snapshot', 'save', file);

const COMMANDS: readonly (readonly string[])[] = [
  ['backup'],
  ['list'],
  ['list', '--from-copy'],
  ['prune', '--dry-run'],
  ['verify', 'nothing'],
  ['verify', file],
  ['inspect', file, '--keys', '/'],
  ['health'],
  ['doctor'],
  ['drill'],
  ['restore', '--plan'],
  ['replace-member', 'm1', '--name', 'm2', '--peer-urls', 'http://10.0.0.1:2380', '--dry-run'],
];

const OTHER_CREDENTIALS: readonly (readonly [string, Variables])[] = [
  ['valid', {}],
  ['a malformed key', { SNAPSHOT_AZURE_ACCOUNT_KEY: SECRETS.SNAPSHOT_AZURE_PRINCIPAL_PASSWORD }],
  ['a token', { SNAPSHOT_AZURE_AUTH: 'sas', SNAPSHOT_AZURE_BLOB_ENDPOINT: 'https://127.0.0.1:1/a' }],
];

t.test('every secret is known as one', (t) => {
  const secret = Object.entries(VARIABLES).flatMap(([name, variable]) => ('secret' in variable ? [name] : []));
  const tried = Object.keys({ ...SECRETS, ...OF_COPY, ...URLS });
  t.strictSame(
    secret.filter((name) => !tried.includes(name)),
    [],
  );
  t.end();
});

t.test('no output shows a secret, whatever is run and however it is configured', async (t) => {
  const working = { ...cluster.variables, ...azurite.variables('secrets'), SNAPSHOT_ETCD_USERNAME: 'root' };
  const valid = { ...withTools(tools), ...SECRETS, ...OF_COPY, ...URLS, ...working, SNAPSHOT_AZURE_AUTH: 'key' };
  const broken = {
    SNAPSHOT_ETCD_ENDPOINTS: 'nonsense',
    SNAPSHOT_AZURE_CONTAINER_NAME: 'No_Name',
    SNAPSHOT_TIMEOUT: 'x',
  };
  const runs = COMMANDS.flatMap((args) => {
    const storesOrLists = args[0] === 'backup' || args[0] === 'list';
    const hows = [['as JSON', {}], ['invalid', broken], ...(storesOrLists ? OTHER_CREDENTIALS : [])] as const;
    return hows.map(([how, more]) => ({ args, how, more }));
  });
  await forEachOf(runs, async ({ args, how, more }) => {
    const json = how === 'as JSON' || how === 'invalid';
    const finished = await worker(json ? [...args, '--json'] : args, { ...valid, ...more, SNAPSHOT_TIMEOUT: '20' });
    const what = `${args.slice(0, 2).join(' ').replace(dir, '')}, ${how}`;
    showsNone(t, what, finished);
    for (const line of finished.stderr.split('\n').filter(Boolean))
      t.doesNotThrow(() => JSON.parse(line) as unknown, what);
    if (json) t.doesNotThrow(() => JSON.parse(finished.stdout) as unknown, `${what}: ${finished.stdout}`);
  });
  t.ok(
    pushed.some((body) => body.includes('etcd_snapshot_backup_last_run_exit_code 0')),
    'metrics were pushed',
  );
  const { stdout } = await worker(['inspect', file, '--keys', '/', '--json'], valid);
  t.match(stdout, /"key": "\/registry\/\[secret\]"/, 'results are masked, too');
});

t.test('secrets of a few characters break no document and reveal nothing by being masked', async (t) => {
  for (const value of ['x', '2', 'e', '"', '{', 'code', '\\']) {
    const variables = { ...SECRETS, SNAPSHOT_ETCD_USERNAME: 'root', SNAPSHOT_ETCD_PASSWORD: value };
    const { stdout, stderr } = await worker(['list', '--json'], { ...variables, SNAPSHOT_TIMEOUT: 'x' });
    t.match(JSON.parse(stdout), { error: { code: 2, message: /SNAPSHOT_TIMEOUT must be/ } }, value);
    for (const line of stderr.split('\n').filter(Boolean))
      t.notMatch(Object.keys(JSON.parse(line) as object), ['[secret]']);
    t.notMatch(stderr, '[secret]', value);
  }
});

t.test('masking is done before rendering, in every form', (t) => {
  const values = ['pass"word\\', 'line\nfeed', '{"exitCode":2}', 'level', '/registry/', 'ünïcode', 'a b&c=d+e'];
  for (const value of values) {
    const mask = masker(secretsOf({ SNAPSHOT_ETCD_PASSWORD: value }));
    if (value.length >= 6) {
      for (const form of [...formsOf(value), Buffer.from(value).toString('base64url')]) {
        t.equal(mask(`before ${form} after`).includes(form), false, form);
      }
    }
    const lines: string[] = [];
    const log = createLog('json', 'debug', (line) => lines.push(line), mask);
    log.error(`it says ${value}`, { hint: value, exitCode: 2, nested: { list: [value, 1, null] } });
    const entry = JSON.parse(lines[0] ?? '') as Record<string, unknown>;
    t.match(entry, { level: 'error', exitCode: 2, nested: { list: [String, 1, null] } });
    const document = JSON.parse(maskedJson({ error: { code: 2, message: value } }, mask, 2)) as object;
    t.match(document, { error: { code: 2, message: value.length < 6 ? value : String } });
  }
  const mask = masker([]);
  t.equal(mask('GET /c/n?sv=1&sig=abc%2Fdef%3D&se=2'), 'GET /c/n?sv=1&sig=[secret]&se=2');
  t.equal(mask('Bearer eyJhbGciOiJub25lIn0.eyJhdWQiOiJ4In0.c2ln'), 'Bearer [secret]');
  t.equal(mask('at eyre.example.com'), 'at eyre.example.com');
  t.end();
});

const PEM = '-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg\n-----END PRIVATE KEY-----';
const JWT = 'eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW06c2VydmljZWFjY291bnQifQ.c2lnbmF0dXJl';
const MISPLACED: Readonly<Record<string, string>> = {
  PEM,
  'a PEM in one line': PEM.replaceAll('\n', '\\n'),
  'a PEM in quotation marks': `"${PEM}"`,
  token: JWT,
  'account key': Buffer.alloc(64, 'a wrong place').toString('base64'),
  'a PEM in base64': Buffer.from(PEM.padEnd(99)).toString('base64'),
  'an identity in base64': Buffer.from('# public key: age1\nAGE-SECRET-KEY-1AAAAAAAAA').toString('base64'),
  'a signing key in DER': `MC4CAQAwBQYDK2VwBCIEI${'a'.repeat(43)}`,
  DER: `MIIB${Buffer.alloc(120, 'der').toString('base64')}`,
  SAS: 'https://x.blob.core.windows.net/c?sv=2024&sig=YWJjZGVmZ2hpams%3D',
  'connection string': SECRETS.SNAPSHOT_AZURE_CONNECTION_STRING,
  'client secret': SECRETS.SNAPSHOT_AZURE_PRINCIPAL_PASSWORD,
  'several lines': 'correct horse\nbattery staple',
  'too long': 'correct-horse-battery-staple-'.repeat(200),
  'too long for one name': 'correct-horse-battery-staple-'.repeat(10),
};

t.test('a secret in place of the path of a file is refused and not shown', async (t) => {
  const paths = Object.entries(VARIABLES).flatMap(([name, variable]) => (variable.type === 'path' ? [name] : []));
  t.ok(paths.length >= 8);
  for (const name of paths.filter((path) => path !== 'SNAPSHOT_TERMINATION_LOG')) {
    const auth = name.includes('FEDERATED') ? 'workload-identity' : 'principal';
    const place = name.startsWith('SNAPSHOT_COPY_') ? 'copy' : 'first';
    const all = { etcd: true, storage: true, reports: 'backup', place } as const;
    const env = {
      ...{ SNAPSHOT_ETCD_ENDPOINTS: 'https://127.0.0.1:1' },
      ...{ SNAPSHOT_AZURE_AUTH: auth, SNAPSHOT_COPY_AZURE_AUTH: auth },
    };
    for (const [what, value] of Object.entries(MISPLACED)) {
      let message = '';
      try {
        readConfig({ ...env, [name]: value }, all);
      } catch (error) {
        message = String(error);
      }
      t.match(
        message,
        new RegExp(`${name} (contains a .* itself, not a path to one|is not a path) `),
        `${name}: ${what}`,
      );
      for (const line of value.replaceAll('"', '').split('\n')) t.notOk(message.includes(line), `${name}: ${what}`);
    }
    const good = [
      '/etc/kubernetes/certs/etcdclient.key',
      './a b',
      'C:\\x',
      '/päth/ähm',
      '~/x',
      '/run/secrets/0123456789abcdef',
    ];
    for (const value of good) {
      try {
        readConfig({ ...env, [name]: value }, all);
      } catch (error) {
        t.notMatch(String(error), `${name} contains`, `${name}: ${value}`);
        t.notMatch(String(error), `${name} is not a path`, `${name}: ${value}`);
      }
    }
  }
  await forEachOf(Object.entries(MISPLACED), async ([what, value]) => {
    const names = ['SNAPSHOT_ETCD_KEY_FILE', 'NODE_EXTRA_CA_CERTS', 'SNAPSHOT_TERMINATION_LOG'];
    const wrong = Object.fromEntries(names.map((name) => [name, value]));
    const finished = await worker(['health'], { SNAPSHOT_ETCD_ENDPOINTS: 'https://127.0.0.1:1', ...wrong });
    for (const name of names) {
      const refused = new RegExp(`${name} (contains a [^;"]* itself, not a path to one|is not a path)`);
      t.match(finished.stderr, refused, `${name}: ${what}`);
    }
    showsNone(t, what, finished, [...value.replaceAll('"', '').split(/\n|\\n/), value]);
  });
});

t.test('errors of the command line show no secret', (t) => {
  const messageOf = (words: readonly string[]): string => {
    try {
      parseCommandLine(words);
      return 'accepted';
    } catch (error) {
      return `${String(error)} ${(error as { hint?: string }).hint}`;
    }
  };
  const secrets = [
    'PEM',
    'a PEM in one line',
    'token',
    'account key',
    'DER',
    'SAS',
    'connection string',
    'client secret',
  ];
  for (const what of secrets) {
    const value = MISPLACED[what] ?? '';
    const secret = value.replace(/.*sig=/, '');
    for (const words of [
      ...['env-file', 'from', 'from-plan', 'data-dir', 'wal-dir', 'owner-from', 'download', 'restored'].map((name) => [
        'restore',
        `--${name}=${value}`,
      ]),
      ['drill', '--temp-dir', value],
      ['verify', '--', value],
      ['inspect', 'x', '--', value],
      ['restore', '--', value],
      ['list', '--', value],
      ['--', value],
    ]) {
      const message = messageOf(words);
      t.notMatch(message, 'accepted', `${words[0]} ${what}`);
      for (const line of secret.split('\n')) t.notOk(message.includes(line), `${words[0]} ${what}: ${message}`);
    }
  }
  t.match(
    messageOf(['verify', 'https://user:pw@a.blob.core.windows.net/c/n.db?sv=1&sig=x#f']),
    /UsageError: https:\/\/a.blob.core.windows.net\/c\/n.db is a URL. Give the name of the snapshot/,
  );
  t.equal(messageOf(['inspect', './x', '--get', JWT]), 'accepted', 'the name of a key may be anything');
  t.equal(withoutQuery('see http://h/p?q=1, https://u:p@h2#x and c?d'), 'see http://h/p https://h2 and c?d');
  t.end();
});

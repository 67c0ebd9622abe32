import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { toMetadata } from '../../src/snapshot/record.ts';
import { printable } from '../../src/text.ts';
import { Azurite } from '../support/azurite.ts';
import { EtcdCluster, findEtcd } from '../support/etcd.ts';
import { FakeMember } from '../support/fake-etcd.ts';
import { type Finished, freePort, run, temporaryFolder, type Variables } from '../support/process.ts';
import { RECORD } from '../support/store.ts';
import { MAIN, runWorker } from '../support/worker.ts';

/** What no output for people may contain: it moves a cursor, makes a line of its own, or is not what it looks like. */
const HOSTILE: Readonly<Record<string, string>> = {
  escape: '\u001b[31m\u001b]0;title\u0007',
  'line feed': 'a\nFORGED line',
  'carriage return': 'a\rFORGED',
  'line separators': 'a\u2028FORGED\u2029FORGED\u0085FORGED\u000bFORGED\u000cFORGED',
  delete: 'a\u007f\u007f',
  C1: '\u009b31m\u009dtitle\u009c',
  'bidi overrides and isolates': '\u202egnp.\u202c\u2066x\u2069\u200f\u061c',
  'zero width': 'a\u200bb\u200cc\u200dd\ufeffe\u2060f\u00adg',
  fillers: 'a\u3164b\u115fc\u034fd\u{e0041}',
  NUL: 'a\u0000b',
  tab: 'a\tb',
};

/** What is shown as it is. */
const HARMLESS: readonly string[] = [
  "it's",
  '"quoted"',
  '$(reboot)',
  '`id`',
  ';',
  '-rf',
  '..',
  '日本語',
  'é',
  '😀',
  '%1b',
];

/** Azurite lists blobs as XML, which cannot hold these. */
const NOT_IN_XML = ['\0', '\u001b', '\u0007', '\v', '\f'];

/** Characters that only our own line feeds may be. */
const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/u;

const EVERYTHING = Object.values(HOSTILE).join('|');

const dir = temporaryFolder('printing');
const terminationLog = join(dir, 'termination-log');
const BASE = { SNAPSHOT_LOG_FORMAT: 'text', SNAPSHOT_LOG_LEVEL: 'debug', SNAPSHOT_TERMINATION_LOG: terminationLog };
const azurite = await Azurite.start(join(dir, 'azurite'));
t.teardown(async () => azurite.stop());

async function worker(args: readonly string[], variables: Variables): Promise<Finished> {
  writeFileSync(terminationLog, '');
  return runWorker(args, { ...BASE, ...variables });
}

/** @param shown what must be there, escaped */
function isClean(t: Test, what: string, { stdout, stderr }: Finished, shown: RegExp): void {
  const message = readFileSync(terminationLog, 'utf8');
  t.notMatch(message, '\n', `${what}: the termination message is one line`);
  for (const text of [stdout, stderr, message]) {
    const bad = text.split('\n').find((line) => UNPRINTABLE.test(line));
    t.equal(bad, undefined, `${what}: ${printable(bad ?? '')}`);
    t.notMatch(text, /^\W*FORGED/m, what);
  }
  t.match(`${stdout}${stderr}${message}`, shown, what);
}

t.test('untrusted text is escaped by code point', (t) => {
  for (const [what, text] of Object.entries(HOSTILE)) t.notMatch(printable(text), UNPRINTABLE, what);
  for (const text of HARMLESS) t.equal(printable(text), text);
  t.equal(printable('\u001b[1m'), '\\u{1b}[1m');
  for (const half of ['\ud800', '\udc00', 'a\ud83d', '\ude00\ud83d'])
    t.notMatch(printable(half), /\p{Cs}/u, 'half a character');
  t.equal(printable('x'.repeat(2048)).length, 2048);
  t.end();
});

t.test('names of blobs and what their records say: list, prune, inspect, verify, drill', async (t) => {
  const container = azurite.container('names');
  await container.create();
  const names = [...Object.values(HOSTILE), ...HARMLESS].filter(
    (name) => name !== '..' && !NOT_IN_XML.some((char) => name.includes(char)),
  );
  const metadata = toMetadata({ ...RECORD, uploadId: '1'.repeat(32) });
  for (const [index, name] of names.entries()) {
    const blob = container.getBlockBlobClient(`${index}-${name}`);
    await blob.upload('x', 1, index % 2 === 0 ? {} : { metadata });
  }
  const variables = { ...azurite.variables('names'), SNAPSHOT_KEEP_LAST: '1' };
  const stored = await azurite.names('names');
  t.ok(stored.length >= names.length, `${stored.length} names`);
  for (const args of [['list'], ['prune', '--dry-run']]) {
    isClean(t, args.join(' '), await worker(args, variables), /a\\u\{a\}FORGED line/);
  }
  for (const name of stored.filter((name) => UNPRINTABLE.test(name))) {
    for (const command of ['verify', 'inspect']) {
      isClean(t, `${command} ${printable(name)}`, await worker([command, name], variables), /\\u\{/);
    }
  }
});

t.test('hostile answers of a member: health, doctor, backup', async (t) => {
  const members = Object.values(HOSTILE).map((name, index) => ({
    ID: String(index + 1),
    name,
    peerURLs: [`https://10.0.0.1:2380/${name}`],
    clientURLs: [],
  }));
  const member = await FakeMember.start(async () => {}, '1', '1', members, {
    status: { version: EVERYTHING, errors: [EVERYTHING] },
  });
  const refusing = await FakeMember.start(async () => {}, '1', '1', members, { refusal: `etcdserver: ${EVERYTHING}` });
  t.teardown(() => [member, refusing].forEach((server) => server.stop()));
  for (const { endpoint } of [member, refusing]) {
    const variables = { ...azurite.variables('members'), SNAPSHOT_ETCD_ENDPOINTS: endpoint, SNAPSHOT_TIMEOUT: '20' };
    for (const command of [
      'health',
      'doctor',
      'backup',
      'replace-member m1 --name x --peer-urls http://10.0.0.9:2380 --dry-run',
    ]) {
      const isShown = !/^(backup|replace)/.test(command) || endpoint === refusing.endpoint;
      isClean(t, command, await worker(command.split(' '), variables), isShown ? /\\u\{a\}FORGED line/ : /./);
    }
  }
});

t.test('keys of etcd: inspect', async (t) => {
  const [tools] = findEtcd();
  if (tools === undefined) throw new Error('no etcd');
  const cluster = await EtcdCluster.start({ tools, dir: join(dir, 'etcd') });
  t.teardown(async () => cluster.stop());
  for (const text of [...Object.values(HOSTILE), 'half \ud800']) {
    const key = Buffer.from(`/registry/${text}/ns/x`).toString('base64');
    await cluster.gateway('/v3/kv/put', { key, value: Buffer.from(EVERYTHING).toString('base64') });
  }
  const [before, after] = [join(dir, 'before.db'), join(dir, 'after.db')];
  await cluster.etcdctl('snapshot', 'save', before);
  await cluster.etcdctl('del', '', '--from-key');
  await cluster.etcdctl('snapshot', 'save', after);
  for (const args of [
    ['inspect', before],
    ['inspect', before, '--keys', ''],
    ['inspect', before, after],
  ]) {
    isClean(t, args.join(' '), await worker(args, {}), /\/registry\/a\\u\{a\}FORGED line/);
  }
  const value = await worker(['inspect', before, '--get', `/registry/${HOSTILE['C1']}/ns/x`], {});
  t.equal(value.stdout, EVERYTHING, 'a value goes to a file or a pipe as it is');
  const onTerminal = await run('script', [
    ...['-qec', `'${process.execPath}' -- '${MAIN}' inspect '${before}' --get '/registry/${HOSTILE['tab']}/ns/x'`],
    '/dev/null',
  ]);
  t.equal(onTerminal.code, 2);
  t.match(onTerminal.stdout, /The value is not text, and is not written to a terminal/);
  t.notMatch(onTerminal.stdout, '\u001b[31m');
});

t.test('what is given on the command line and in variables', async (t) => {
  const closed = `http://127.0.0.1:${await freePort()}`;
  const texts = Object.values(HOSTILE).filter((text) => !text.includes('\0'));
  for (const text of texts) isClean(t, `verify ${printable(text)}`, await worker(['verify', `./${text}`], {}), /\\u\{/);
  const all = texts.join('|');
  for (const args of [
    [all],
    ['list', all],
    [`--${all}`],
    ['inspect', `/${all}`],
    ['restore', `./${all}`, '--data-dir', `/${all}`, '--name', all, '--force'],
    ['restore', '--plan', '--layout', all],
    ['restore', '--from-plan', all],
    ['prune', '--cluster-id', all],
    ['list', '--env-file', all],
  ]) {
    isClean(t, printable(args.join(' ')), await worker(args, {}), /./);
  }
  const names = ['SNAPSHOT_ETCD_CA_FILE', 'SNAPSHOT_SPOOL_DIR', 'SNAPSHOT_BLOB_PREFIX', 'SNAPSHOT_AZURE_BLOB_ENDPOINT'];
  const hostile = Object.fromEntries(names.map((name) => [name, EVERYTHING.replaceAll('\0', '')]));
  const variables = { ...azurite.variables('names'), ...hostile, SNAPSHOT_ETCD_ENDPOINTS: closed };
  for (const command of ['backup', 'doctor', 'list']) isClean(t, command, await worker([command], variables), /./);
});

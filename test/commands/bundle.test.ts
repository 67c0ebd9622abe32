import { createHmac } from 'node:crypto';
import { chmod, copyFile, mkdir, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { generateIdentity } from '../../src/sealed/age-header.ts';
import { startBackupSite, writeIdentity } from '../support/backup-site.ts';
import { makeAuthority } from '../support/certificates.ts';
import { jsonOf, runCommand } from '../support/command.ts';
import { FaultProxy, type Seen } from '../support/fault-proxy.ts';
import { without } from '../support/judges.ts';
import { collect, mustRun, type Variables } from '../support/process.ts';
import { nextSecond, until } from '../support/until.ts';
import { errorOf, startWorker } from '../support/worker.ts';

interface Bundle {
  readonly name: string | null;
  readonly sha256: string | null;
  readonly files: number;
  readonly missing: readonly { path: string; why: string }[];
  readonly authoritiesWithoutKey: readonly string[];
}

interface Result {
  readonly name: string;
  readonly bundle: Bundle;
  readonly findings: readonly string[];
  readonly retention: { readonly state: string };
}

interface Listing {
  readonly name: string;
  readonly files: readonly { path: string; type: string; mode: string }[];
}

const { dir, azurite, cluster, variablesOf } = await startBackupSite(t, 'bundle');
await cluster.fill(20, 500);
const [key, wrong] = [join(dir, 'key.txt'), join(dir, 'wrong.txt')];
const [mine, theirs] = await Promise.all([writeIdentity(key), generateIdentity('x25519'), writeIdentity(wrong)]);
const SEALED = { SNAPSHOT_ENCRYPTION_RECIPIENTS: `${mine.recipient}, ${theirs.recipient}` };

const pki = join(dir, 'pki');
await makeAuthority(pki);
await mkdir(join(pki, 'etcd'));
await writeFile(join(pki, 'etcd/secret.key'), 'THE-SECRET-CONTENT', { mode: 0o600 });
await chmod(join(pki, 'etcd'), 0o750);
await symlink('ca.crt', join(pki, 'link.crt'));
const inBundle = (path: string): string => join(pki, path).slice(1);

function withBundle(container: string, paths = pki): Variables {
  return { ...variablesOf(container), ...SEALED, SNAPSHOT_COMPRESSION: 'zstd', SNAPSHOT_BUNDLE: paths };
}

t.test('a bundle is stored with its snapshot, listed and extracted', async (t) => {
  const variables = withBundle('bundle');
  const { name, bundle, findings } = await jsonOf<Result>(['backup'], variables);
  t.match(bundle, { name: name.replace('.db.zst.age', '.bundle.tar.zst.age'), missing: [], skipped: [], changed: [] });
  t.match(findings.join(), /THE BUNDLE HAS NO PRIVATE KEY.*pki\/ca\.crt/);
  t.strictSame(bundle.authoritiesWithoutKey, [join(pki, 'ca.crt')]);
  t.equal((await azurite.names('bundle')).length, 2);
  const metadata = async (blob: string) =>
    (await azurite.container('bundle').getBlobClient(blob).getProperties()).metadata;
  const [ofSnapshot, ofBundle] = [await metadata(name), await metadata(bundle.name ?? '')];
  t.equal(ofSnapshot?.['uploadid'], ofBundle?.['uploadid']);
  t.equal(ofSnapshot?.['bundlesha256'], bundle.sha256);
  t.notMatch(JSON.stringify([ofSnapshot, ofBundle]), /ca\.crt|etcdclient/, 'no file names');
  t.match(await jsonOf(['list'], variables), [{ name, bundle: { name: bundle.name } }]);
  t.equal((await jsonOf<object[]>(['list'], variables)).length, 1, 'it is no blob of its own');

  const plain = variablesOf('bundle');
  const listed = await jsonOf<Listing>(['bundle', name, '--identity', key], plain);
  t.match(listed, { name: bundle.name, snapshot: name, extractedTo: null });
  const found = new Map(listed.files.map(({ path, ...rest }) => [path, rest]));
  t.match(found.get(inBundle('etcd/secret.key')), { type: 'file', mode: '0600' });
  t.match(found.get(inBundle('etcd')), { type: 'directory', mode: '0750' });
  t.match(found.get(inBundle('link.crt')), { type: 'link', target: 'ca.crt' });
  const shown = await runCommand(['bundle', name, '--identity', key], plain);
  t.match(shown.stdout, /THIS BUNDLE HAS NO PRIVATE KEY/);
  t.notMatch(shown.stdout + shown.stderr, /THE-SECRET-CONTENT|BEGIN/);

  const out = join(dir, 'out');
  t.match(await jsonOf(['bundle', name, '--identity', key, '--extract', out], plain), { extractedTo: out });
  for (const path of ['ca.crt', 'etcdclient.key', 'etcd/secret.key', 'link.crt']) {
    t.strictSame(await readFile(join(out, inBundle(path))), await readFile(join(pki, path)), path);
  }
  const mode = async (path: string): Promise<number> => (await stat(path)).mode & 0o777;
  t.equal(await mode(out), 0o700);
  t.equal(await mode(join(out, inBundle('etcd/secret.key'))), 0o600);
  t.equal(await mode(join(out, inBundle('etcd'))), 0o750);
  t.equal(await mode(join(out, inBundle('..'))), 0o700, 'a directory that was not recorded');
  const again = await runCommand(['bundle', name, '--identity', key, '--extract', out], plain);
  t.equal(again.code, 20);
  t.match(errorOf(again).message, /is not empty/);
  const empty = join(dir, 'empty');
  await mkdir(empty, { mode: 0o755 });
  await jsonOf(['bundle', name, '--identity', key, '--extract', empty], plain);
  t.equal(await mode(empty), 0o700);
});

t.test('age, zstd and tar read a bundle', { skip: without('age') || without('zstd') }, async (t) => {
  const { bundle } = await jsonOf<Result>(['backup'], withBundle('tools'));
  const blob = join(dir, 'tools.bundle');
  await azurite
    .container('tools')
    .getBlobClient(bundle.name ?? '')
    .downloadToFile(blob);
  const stdout = await mustRun('sh', [
    '-c',
    `age -d -i ${key} ${blob} | zstd -q -d | tar -x -O ${inBundle('etcd/secret.key')}`,
  ]);
  t.equal(stdout, 'THE-SECRET-CONTENT');
});

t.test('without the right identity nothing is opened', async (t) => {
  const { name, bundle } = await jsonOf<Result>(['backup'], withBundle('identities'));
  const variables = variablesOf('identities');
  for (const more of [[], ['--identity', wrong]]) {
    const { code, stderr } = await runCommand(['bundle', name, '--extract', join(dir, 'never'), ...more], variables);
    t.equal(code, 2, stderr);
    t.match(errorOf({ stderr }).message, mine.fingerprint);
  }
  const ofBundle = await runCommand(['bundle', bundle.name ?? '', '--identity', key], variables);
  t.equal(ofBundle.code, 2);
  t.match(errorOf(ofBundle).message, /is a bundle/);
  t.notOk((await readdir(dir)).includes('never'));
  await nextSecond();
  const plain = await jsonOf<Result>(['backup'], variables);
  t.equal((await runCommand(['bundle', plain.name], variables)).code, 13);
});

t.test('missing paths end with 3, and the snapshot stays; nothing is deleted', async (t) => {
  const first = await jsonOf<Result>(['backup'], withBundle('missing'));
  await nextSecond();
  const no = join(dir, 'no');
  const keep = { SNAPSHOT_KEEP_LAST: '1' };
  const incomplete = await jsonOf<Result>(['backup'], { ...withBundle('missing', `${pki},${no}`), ...keep }, 3);
  t.match(incomplete, { bundle: { missing: [{ path: no, why: 'does not exist' }] }, retention: { state: 'held' } });
  t.match(incomplete.findings.join(), `The bundle is incomplete: ${no} does not exist.`);
  t.equal((await azurite.names('missing')).length, 4);
  await nextSecond();
  const nothing = await jsonOf<Result>(['backup'], withBundle('missing', no), 3);
  t.match(nothing.bundle, { name: null, files: 0 });
  t.equal((await runCommand(['verify', nothing.name, '--identity', key], variablesOf('missing'))).code, 0);
  await nextSecond();
  const large = join(dir, 'large');
  await writeFile(large, Buffer.alloc(17 * 2 ** 20));
  const tooLarge = await jsonOf<Result>(['backup'], withBundle('missing', large), 3);
  t.match(tooLarge.findings.join(), /was not stored: its files have more than/);
  const unreadable = await jsonOf<Result>(['backup'], withBundle('unreadable', `${pki},/proc/self/mem`), 3);
  t.match(unreadable.bundle, { missing: [{ path: '/proc/self/mem', why: 'cannot be read (EIO)' }] });
  t.match(unreadable.findings.join(), '/proc/self/mem cannot be read (EIO)');

  t.match(await jsonOf(['prune'], { ...variablesOf('missing'), ...keep }), { state: 'applied' });
  const left = [first.bundle.name, first.name, tooLarge.name];
  t.strictSame(await azurite.names('missing'), left, 'the newest with a complete bundle stays');
});

t.test('files that change during the backup are stored as they are after it, and named', async (t) => {
  const keys = join(dir, 'changing');
  await mkdir(keys);
  await writeFile(join(keys, 'key'), 'before');
  await writeFile(join(keys, 'same'), 'same');
  const proxy = await FaultProxy.start(azurite.url, async (): Promise<'pass'> => {
    await writeFile(join(keys, 'key'), 'after');
    return 'pass';
  });
  t.teardown(async () => proxy.stop());
  const variables = { ...withBundle('changing', keys), SNAPSHOT_AZURE_BLOB_ENDPOINT: proxy.url };
  const { name, bundle, findings } = await jsonOf<Result>(['backup'], variables);
  const path = join(keys, 'key').slice(1);
  t.match(bundle, { changed: [join(keys, 'key')] });
  t.match(findings.join(), `Changed during the backup, and read again for the bundle: ${join(keys, 'key')}.`);
  const out = join(dir, 'changed');
  await jsonOf(['bundle', name, '--identity', key, '--extract', out], variablesOf('changing'));
  t.equal(await readFile(join(out, path), 'utf8'), 'after');
});

t.test('retention removes snapshot and bundle, or neither', async (t) => {
  const variables = { ...withBundle('retention'), SNAPSHOT_KEEP_LAST: '1' };
  const first = await jsonOf<Result>(['backup'], variables);
  const container = azurite.container('retention');
  const lease = container.getBlobClient(first.bundle.name ?? '').getBlobLeaseClient();
  await lease.acquireLease(-1);
  await nextSecond();
  const second = await jsonOf<Result>(['backup'], variables);
  t.equal((await azurite.names('retention')).length, 4, 'a lease on the bundle keeps both');
  await lease.releaseLease();
  const ofSnapshot = container.getBlobClient(first.name).getBlobLeaseClient();
  await ofSnapshot.acquireLease(-1);
  await jsonOf(['prune'], variables);
  t.equal((await azurite.names('retention')).length, 4, 'a lease on the snapshot keeps both');
  await ofSnapshot.releaseLease();
  await jsonOf(['prune'], variables);
  t.strictSame(new Set(await azurite.names('retention')), new Set([second.bundle.name, second.name]));
  await container.getBlobClient(second.name).delete();
  const { stdout } = await runCommand(['list'], variables);
  t.match(stdout, /is the bundle of a\s+snapshot that is not there/);
});

t.test('a bundle that was replaced, or is missing, is refused', async (t) => {
  const variables = variablesOf('replaced');
  const one = await jsonOf<Result>(['backup'], withBundle('replaced'));
  await nextSecond();
  const other = await jsonOf<Result>(['backup'], withBundle('replaced'));
  const container = azurite.container('replaced');
  const blob = container.getBlockBlobClient(one.bundle.name ?? '');
  const bytes = await container.getBlobClient(other.bundle.name ?? '').downloadToBuffer();
  const { metadata = {} } = await blob.getProperties();
  await blob.upload(bytes, bytes.length, { metadata });
  const command = ['bundle', one.name, '--identity', key, '--extract', join(dir, 'refused')];
  t.equal((await runCommand(command, variables)).code, 11);
  t.notOk((await readdir(dir)).includes('refused'));
  const drill = async (found: string): Promise<void> => {
    const { code, stdout, stderr } = await runCommand(['drill', one.name, '--identity', key], variables);
    t.equal(code, 11, stderr);
    t.match(stdout, new RegExp(`bundle of keys[ |]+as stored[ |]+${found}[ |]+DIFFERS`));
    t.match(stdout, /the data is restorable, but not its keys/);
    t.match(errorOf({ stderr }).message, 'is right, but: ');
  };
  await drill('not usable');
  await blob.delete();
  t.equal((await runCommand(command, variables)).code, 13);
  await drill('missing');
  t.match((await runCommand(['drill', other.name, '--identity', key], variables)).code, 0);
  const [, listed] = await jsonOf<{ bundle: object | null }[]>(['list'], variables);
  t.equal(listed?.bundle, null);
  t.match(
    (await runCommand(['list'], variables)).stdout.replaceAll(/\s+/g, ' '),
    `The bundle of ${one.name} is missing`,
  );
});

t.test('a bundle that reads back differently is not kept, and the snapshot stays', async (t) => {
  const proxy = await FaultProxy.start(azurite.url, ({ method, url }: Seen) => {
    const isReadBack = method === 'GET' && url.pathname.includes('.bundle.') && url.searchParams.get('comp') === null;
    return isReadBack ? 'flip' : 'pass';
  });
  t.teardown(async () => proxy.stop());
  const variables = { ...withBundle('flipped'), SNAPSHOT_AZURE_BLOB_ENDPOINT: proxy.url };
  const done = await jsonOf<Result>(['backup'], variables, 3);
  t.equal(done.bundle.name, null);
  t.strictSame(await azurite.names('flipped'), [done.name]);
});

t.test('the bundle of a snapshot that reads back differently is rolled back with it', async (t) => {
  const proxy = await FaultProxy.start(azurite.url, ({ method, url }: Seen) => {
    const isReadBack = method === 'GET' && url.pathname.includes('.db') && url.searchParams.get('comp') === null;
    return isReadBack ? 'flip' : 'pass';
  });
  t.teardown(async () => proxy.stop());
  const variables = { ...withBundle('together'), SNAPSHOT_AZURE_BLOB_ENDPOINT: proxy.url };
  t.equal((await runCommand(['backup'], variables)).code, 12);
  t.strictSame(await azurite.names('together'), []);
});

t.test('an interrupted backup leaves neither snapshot nor bundle', async (t) => {
  let isReadBack = false;
  const proxy = await FaultProxy.start(azurite.url, ({ method, url }: Seen) => {
    const isOfSnapshot = method === 'GET' && url.pathname.includes('.db') && url.searchParams.get('comp') === null;
    isReadBack ||= isOfSnapshot;
    return isOfSnapshot ? 'hang' : 'pass';
  });
  t.teardown(async () => proxy.stop());
  const worker = startWorker([], { ...withBundle('interrupted'), SNAPSHOT_AZURE_BLOB_ENDPOINT: proxy.url });
  const finished = collect(worker);
  await until(() => isReadBack);
  t.equal((await azurite.names('interrupted')).length, 2);
  worker.kill('SIGTERM');
  const { code, stderr } = await finished;
  t.equal(code, 143);
  t.match(errorOf({ stderr }).message, 'was rolled back');
  t.strictSame(await azurite.names('interrupted'), []);
});

t.test('a snapshot that cannot be stored leaves no bundle', async (t) => {
  const proxy = await FaultProxy.start(azurite.url, ({ method, url }: Seen) =>
    method === 'PUT' && url.pathname.includes('.db') ? { status: 403, code: 'AuthorizationFailure' } : 'pass',
  );
  t.teardown(async () => proxy.stop());
  const failed = await runCommand(['backup'], { ...withBundle('failed'), SNAPSHOT_AZURE_BLOB_ENDPOINT: proxy.url });
  t.equal(failed.code, 12, failed.stderr);
  t.strictSame(await azurite.names('failed'), []);
});

t.test('an end by force names the snapshot that may be stored', async (t) => {
  let isReadBack = false;
  const proxy = await FaultProxy.start(azurite.url, ({ method, url }: Seen) => {
    if (method === 'PUT' || !/\.(db|bundle)/.test(url.pathname)) return 'pass';
    isReadBack ||= method === 'GET' && url.pathname.includes('.db');
    // From then on nothing is answered, so the rollbacks of both blobs take all their time.
    return isReadBack ? 'hang' : 'pass';
  });
  t.teardown(async () => proxy.stop());
  const worker = startWorker([], { ...withBundle('forced'), SNAPSHOT_AZURE_BLOB_ENDPOINT: proxy.url });
  const finished = collect(worker);
  await until(() => isReadBack);
  const name = (await azurite.names('forced')).find((each) => each.includes('.db')) ?? '?';
  worker.kill('SIGTERM');
  const { code, stderr } = await finished;
  t.equal(code, 143);
  t.match(errorOf({ stderr }).message, `${name} may be stored, but was not read back`);
});

t.test('doctor says whether the next backup can store its bundle', async (t) => {
  await jsonOf(['backup'], variablesOf('doctor'));
  const checked = async (paths: string, code = 0): Promise<object[]> => {
    const { checks } = await jsonOf<{ checks: { check: string }[] }>(['doctor'], withBundle('doctor', paths), code);
    return checks.filter(({ check }) => check === 'bundle');
  };
  const files = ['ca.crt', 'ca.key'].map((name) => join(dir, name));
  await mustRun('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', '/CN=kubernetes'],
    ...['-out', join(dir, 'ca.crt'), '-keyout', join(dir, 'ca.key')],
  ]);
  t.match(await checked(files.join()), [{ state: 'ok', finding: 'The bundle has 2 files.' }]);
  const [first = ''] = files;
  t.match(await checked(`${first},/dev/null`), [
    { state: 'warn', finding: 'The bundle has 1 file. Omitted: /dev/null is a device.' },
    { state: 'warn', finding: `The bundle has 1 file, but no private key for ${first}.` },
  ]);
  const [no, large] = [join(dir, 'nowhere'), join(dir, 'too-large')];
  await writeFile(large, Buffer.alloc(17 * 2 ** 20));
  for (const [paths, finding] of [
    [`${first},${no},${no}2`, `The bundle would be incomplete: ${no} does not exist, and 1 more.`],
    ['/dev/null', 'The bundle cannot be stored: there is no file for it.'],
    [large, /^The bundle cannot be stored: its files have more than/],
  ] as const) {
    t.match(await checked(paths, 3), [{ state: 'fail', finding }]);
  }
  const noBundle = await jsonOf<{ checks: { check: string }[] }>(['doctor'], variablesOf('doctor'));
  t.notOk(noBundle.checks.some(({ check }) => check === 'bundle'));
});

t.test('settings that cannot work end with 2', async (t) => {
  const nobody = { ...azurite.variables('invalid'), SNAPSHOT_ETCD_ENDPOINTS: 'http://127.0.0.1:1' };
  for (const variables of [
    { SNAPSHOT_BUNDLE: pki },
    { ...SEALED, SNAPSHOT_BUNDLE: 'kubeadm,relative/path' },
    { ...SEALED, SNAPSHOT_BUNDLE: 'kubeadmin' },
    { ...SEALED, SNAPSHOT_BUNDLE: ',' },
  ]) {
    for (const command of ['backup', 'doctor']) {
      const { code, stderr } = await runCommand([command], { ...nobody, ...variables });
      t.equal(code, 2);
      t.match(errorOf({ stderr }).message, 'SNAPSHOT_BUNDLE');
    }
  }
});

t.test('the record has fingerprints, and keys are compared before a restore', async (t) => {
  const keys = join(dir, 'keys');
  await mkdir(join(keys, 'server'), { recursive: true });
  const config = join(import.meta.dirname, '..', 'fixtures', 'encryption-config.yaml');
  await copyFile(config, join(keys, 'config.yaml'));
  await copyFile(join(pki, 'ca.crt'), join(keys, 'ca.crt'));
  await writeFile(join(keys, 'server/token'), 'K10abc::server:token\n');
  await mustRun('openssl', ['genrsa', '-out', join(keys, 'sa.key'), '2048']);
  await mustRun('openssl', ['rsa', '-in', join(keys, 'sa.key'), '-pubout', '-out', join(keys, 'sa.pub')]);
  const forms = ['aescbc:v1:key2', 'aescbc:v1:key2', 'secretbox:v1:old'];
  for (const [index, form] of forms.entries()) {
    await cluster.etcdctl('put', `/registry/secrets/default/s${index}`, `k8s:enc:${form}:ciphertext`);
  }
  const variables = { ...variablesOf('keys'), SNAPSHOT_ENCRYPTION_IDENTITY_FILE: key };
  const { name } = await jsonOf<Result>(['backup'], withBundle('keys', keys));

  const { metadata = {} } = await azurite.container('keys').getBlobClient(name).getProperties();
  const hmac = (text: string): string =>
    createHmac('sha256', metadata['uploadid'] ?? '')
      .update(text)
      .digest('hex')
      .slice(0, 16);
  const spki = async (command: string): Promise<string> => {
    const stdout = await mustRun('sh', ['-c', `${command} | openssl pkey -pubin -outform der | sha256sum`]);
    return stdout.slice(0, 64);
  };
  t.strictSame(JSON.parse(metadata['bundlekeys'] ?? ''), {
    cas: [await spki(`openssl x509 -in ${join(keys, 'ca.crt')} -noout -pubkey`)],
    serviceAccount: [await spki(`cat ${join(keys, 'sa.pub')}`)],
    encryption: [
      { provider: 'aescbc', name: 'key2', hmac: hmac('c2VjcmV0IGlzIHNlY3VyZSwgb3IgaXMgaXQ/PT09PT0=') },
      { provider: 'aescbc', name: 'key1', hmac: hmac('c2VjcmV0IGlzIHNlY3VyZSwgSSB0aGluaz09PT09PT0=') },
      { provider: 'kms', name: 'vault', hmac: hmac('') },
    ],
    token: hmac('K10abc::server:token'),
  });

  const secrets = [
    { provider: 'aescbc', version: 'v1', keyName: 'key2', count: 2 },
    { provider: 'secretbox', version: 'v1', keyName: 'old', count: 1 },
  ];
  t.strictSame((await jsonOf<{ secrets: object[] }>(['inspect', name], variables)).secrets, secrets);
  t.match((await runCommand(['inspect', name], variables)).stdout, /2 +aescbc +key2\n +1 +secretbox +old/);

  const missing = /1 Secret needs key old of secretbox, which .* does not have/;
  const restore = ['restore', name, '--force', '--name', 'm1', '--data-dir'];
  const refused = await runCommand([...restore, join(dir, 'refused-data'), '--encryption-config', config], variables);
  t.equal(refused.code, 20);
  t.match(errorOf(refused).message, missing);
  t.notOk((await readdir(dir)).includes('refused-data'));
  const restored = await jsonOf<Result>([...restore, join(dir, 'data')], variables);
  t.match(restored.findings.join(), missing, 'of the bundle it is a warning');
  const drilled = await runCommand(['drill', name, '--json'], variables);
  t.equal(drilled.code, 11);
  t.match(JSON.parse(drilled.stdout), { ok: false });
  t.match(errorOf(drilled), { message: missing, hint: /^Find the encryption configuration/ });
  const complete = join(dir, 'complete.yaml');
  const text = await readFile(config, 'utf8');
  const entry = '- secretbox: { keys: [{ name: old, secret: b2xk }] }';
  await writeFile(complete, text.replace('- identity: {}', `- identity: {}\n      ${entry}`));
  t.match(await jsonOf(['drill', name, '--encryption-config', complete], variables), { ok: true });
  for (const more of [['--plan'], ['--download', join(dir, 'x')], ['--swap', '--data-dir', dir]]) {
    t.equal((await runCommand(['restore', '--encryption-config', config, ...more], variables)).code, 2);
  }
  t.equal((await runCommand(['drill', name, '--encryption-config', key], variables)).code, 2);

  const checked = async (path: string, code = 0): Promise<object | undefined> => {
    const { checks } = await jsonOf<{ checks: { check: string }[] }>(
      ['doctor', '--encryption-config', path],
      variables,
      code,
    );
    return checks.find(({ check }) => check === 'encryption keys');
  };
  t.match(await checked(config), { state: 'ok' });
  const other = join(dir, 'other.yaml');
  await writeFile(other, text.replace('c2VjcmV0IGlzIHNlY3VyZSwgSSB0aGluaz09PT09PT0=', 'b3RoZXI='));
  t.match(await checked(other, 20), { state: 'fail', finding: /key key1 of aescbc, which it has with another value/ });
});

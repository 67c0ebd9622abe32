import { cpSync, globSync, mkdirSync, readFileSync, type Stats, statSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { generateIdentity } from '../src/sealed/age-header.ts';
import { EtcdCluster, findEtcd } from './support/etcd.ts';
import { collect, launch, mustRun, temporaryFolder, type Variables } from './support/process.ts';
import { MAIN } from './support/worker.ts';

const DIST = join(MAIN, '..');

/** Packages that take long to load. */
const PACKAGES = ['@azure/identity', '@azure/storage-blob', '@grpc/grpc-js', 'age-encryption', 'tar', 'yaml'];

const ID = '00000000-0000-0000-0000-000000000001';

const KEY = {
  SNAPSHOT_AZURE_ACCOUNT_NAME: 'account',
  SNAPSHOT_AZURE_ACCOUNT_KEY: Buffer.alloc(64).toString('base64'),
  SNAPSHOT_AZURE_CONTAINER_NAME: 'cluster',
  SNAPSHOT_AZURE_BLOB_ENDPOINT: 'http://127.0.0.1:1/account',
  SNAPSHOT_TIMEOUT: '1',
};

/** Which of the packages a run has loaded, by the files of dist/ that Node says it loaded. */
async function loadedBy(args: readonly string[], variables: Variables): Promise<string[]> {
  const program = `
    import fs from 'node:fs';
    import { registerHooks, syncBuiltinESMExports } from 'node:module';
    import { pathToFileURL } from 'node:url';
    const report = (url) => fs.writeSync(2, 'loaded ' + url + '\\n');
    registerHooks({ load: (url, context, next) => { report(url); return next(url, context); } });
    const { readFileSync } = fs;
    fs.readFileSync = (file, ...rest) => { report(pathToFileURL(String(file))); return readFileSync(file, ...rest); };
    syncBuiltinESMExports();`;
  const hook = `data:text/javascript,${encodeURIComponent(program)}`;
  const child = launch(process.execPath, ['--import', hook, '--', MAIN, ...args], variables, temporaryFolder('bundle'));
  const { stderr } = await collect(child);
  const files = [...stderr.matchAll(/^loaded file:\/\/(.*)$/gm)].map(([, file = '']) => decodeURIComponent(file));
  t.ok(files.includes(MAIN), 'the hook sees what is loaded');
  const text = files.filter((file) => file.startsWith(DIST)).map((file) => readFileSync(file, 'utf8'));
  // The build notes where the parts come from.
  return PACKAGES.filter((name) =>
    text.some((code) => new RegExp(`^// Has parts of: .*node_modules/${name}\\b`).test(code)),
  );
}

t.test('a run loads only what it needs', async (t) => {
  t.strictSame(await loadedBy(['--version'], {}), []);
  t.strictSame(await loadedBy(['--help'], {}), []);
  t.strictSame(await loadedBy([], {}), [], 'a faulty configuration');
  t.strictSame(await loadedBy(['list'], KEY), ['@azure/storage-blob']);
  const principal = {
    SNAPSHOT_AZURE_PRINCIPAL_APPID: ID,
    SNAPSHOT_AZURE_PRINCIPAL_TENANT: ID,
    SNAPSHOT_AZURE_PRINCIPAL_PASSWORD: 'password',
  };
  const { SNAPSHOT_AZURE_ACCOUNT_KEY: _, ...keyless } = { ...KEY, SNAPSHOT_AZURE_BLOB_ENDPOINT: 'https://127.0.0.1:1' };
  const authority = { SNAPSHOT_AZURE_AUTHORITY_HOST: 'https://127.0.0.1:1' };
  t.strictSame(await loadedBy(['list'], { ...keyless, ...principal, ...authority }), [
    '@azure/identity',
    '@azure/storage-blob',
  ]);
  const nobody = { SNAPSHOT_ETCD_ENDPOINTS: 'http://127.0.0.1:1' };
  t.strictSame(await loadedBy(['health'], nobody), ['@grpc/grpc-js']);
  t.strictSame(
    await loadedBy(['backup'], { ...KEY, ...nobody }),
    ['@grpc/grpc-js'],
    'etcd is asked before the store is opened',
  );
  const { recipient } = await generateIdentity('x25519');
  const sealed = { ...KEY, ...nobody, SNAPSHOT_ENCRYPTION_RECIPIENTS: recipient };
  t.strictSame(await loadedBy(['backup'], sealed), ['@grpc/grpc-js', 'age-encryption']);
  t.strictSame(await loadedBy(['backup'], { ...sealed, SNAPSHOT_BUNDLE: '/nowhere' }), [
    '@grpc/grpc-js',
    'age-encryption',
    'tar',
    'yaml',
  ]);
});

t.test('a run makes the code cache, the next one uses it, and a damaged one is replaced', async (t) => {
  const directory = temporaryFolder('code-cache');
  const variables = { SNAPSHOT_ETCD_ENDPOINTS: 'http://127.0.0.1:1', NODE_COMPILE_CACHE: directory };
  const health = async (): Promise<Map<string, Stats>> => {
    const { code, stderr } = await collect(launch(process.execPath, ['--', MAIN, 'health'], variables));
    t.equal(code, 10, stderr);
    const files = globSync('*/*.cjs', { cwd: directory }).map((name) => join(directory, name));
    return new Map(files.map((file) => [file, statSync(file)]));
  };
  const inodes = (files: Map<string, Stats>): number[] => [...files.values()].map(({ ino }) => ino);
  const first = await health();
  const sizes = [...first.values()].map(({ size }) => size);
  t.ok(sizes.reduce((sum, size) => sum + size) > 500_000, 'with the functions that ran');
  t.strictSame(inodes(await health()), inodes(first));
  for (const [file, { size }] of first) truncateSync(file, size / 2);
  const repaired = await health();
  t.strictSame([...repaired.keys()], [...first.keys()]);
  t.strictNotSame(inodes(repaired), inodes(first));
  t.ok([...repaired].every(([file, { size }]) => size > (first.get(file)?.size ?? 0) / 2));
});

t.test('it needs nothing of node_modules but what is native, and knows ids of 64 bits', async (t) => {
  const dir = temporaryFolder('bundle-alone');
  const [tools] = findEtcd();
  if (tools === undefined) throw new Error('no etcd');
  const cluster = await EtcdCluster.start({ tools, dir: join(dir, 'etcd') });
  t.teardown(async () => cluster.stop());
  cpSync(DIST, join(dir, 'app', 'dist'), { recursive: true });
  cpSync(join(DIST, '..', 'package.json'), join(dir, 'app', 'package.json'));
  mkdirSync(join(dir, 'app', 'node_modules'));
  cpSync(join(DIST, '..', 'node_modules', '@node-rs'), join(dir, 'app', 'node_modules', '@node-rs'), {
    recursive: true,
  });
  const child = launch(process.execPath, [join(dir, 'app', 'dist', 'main.js'), 'health', '--json'], cluster.variables);
  const { code, stdout, stderr } = await collect(child);
  t.equal(code, 0, stderr);
  const [id] = (await cluster.etcdctl('member', 'list')).split(',');
  t.match(JSON.parse(stdout || '{}'), { members: [{ id, name: 'm1' }] });
});

t.test('the npm package has the program and the docs, and nothing else', async (t) => {
  const root = join(DIST, '..');
  const listed = await mustRun('npm', ['pack', root, '--dry-run', '--json', '--ignore-scripts']);
  const [{ files }] = JSON.parse(listed) as [{ files: { path: string }[] }];
  const paths = files.map(({ path }) => path);
  for (const path of ['dist/main.js', 'docs/restore.md', 'README.md', 'LICENSE']) t.ok(paths.includes(path), path);
  t.strictSame(
    paths.filter((path) => !/^(dist|docs)\/|^[A-Z]+(\.md)?$|^package\.json$/.test(path)),
    [],
  );
});

t.test('the licenses of all bundled packages are included', (t) => {
  const text = readFileSync(join(DIST, 'THIRD-PARTY-NOTICES.txt'), 'utf8');
  for (const name of ['@azure/identity', '@azure/storage-blob', '@grpc/grpc-js', 'dotenv', 'yaml']) {
    t.ok(text.includes(`--- ${name} `), name);
  }
  t.match(text, /Permission is hereby granted, free of charge/);
  t.match(text, /Apache License/);
  t.end();
});

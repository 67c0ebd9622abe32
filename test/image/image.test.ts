import { readdirSync } from 'node:fs';
import { chown, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { Azurite } from '../support/azurite.ts';
import { makeAuthority } from '../support/certificates.ts';
import { EtcdCluster, findEtcd } from '../support/etcd.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { collect, type Finished, folderOnDisk, launch, mustRun, run, temporaryFolder } from '../support/process.ts';

const IMAGE = 'etcd-snapshot-azure-blob:test';
const SCRIPTS = join(import.meta.dirname, '..', '..', 'scripts');

interface Inspected {
  readonly RootFS: { readonly Layers: readonly string[] };
  readonly Config: { readonly Labels: Readonly<Record<string, string>> };
}

const dir = temporaryFolder('image');
const [tools] = findEtcd();
if (tools === undefined) throw new Error('no etcd');
await mustRun(join(SCRIPTS, 'image-build.sh'), [IMAGE], { STAND_IN_BASE: '1' });
const authority = await makeAuthority(join(dir, 'certs'));
const cluster = await EtcdCluster.start({ tools, dir: join(dir, 'etcd'), tls: authority });
const azurite = await Azurite.start(join(dir, 'azurite'));
t.teardown(async () => {
  await Promise.all([cluster.stop(), azurite.stop()]);
});

/** The options of the one-off run in the README: the book's mount, and its Secret file with the quotation marks. */
async function options(blobEndpoint = azurite.url): Promise<string[]> {
  return ['-v', `${authority.dir}:/etc/kubernetes/certs:ro`, ...(await secrets(blobEndpoint))];
}

async function secrets(blobEndpoint = azurite.url): Promise<string[]> {
  const secretFile = join(dir, 'secrets.txt');
  const lines = {
    SNAPSHOT_ETCD_ENDPOINTS: cluster.endpoints,
    ...azurite.variables('image'),
    SNAPSHOT_AZURE_ACCOUNT_KEY: `"${azurite.key}"`,
    SNAPSHOT_AZURE_BLOB_ENDPOINT: blobEndpoint,
  };
  await writeFile(
    secretFile,
    Object.entries(lines)
      .map(([name, value]) => `${name}=${value}\n`)
      .join(''),
  );
  return ['--env-file', secretFile];
}

/** Read-only root, no capabilities, no new privileges, 256 MiB. */
async function inContainer(...args: string[]): Promise<Finished> {
  return run(join(SCRIPTS, 'image-run.sh'), args);
}

t.test('the limits are real', async (t) => {
  const probe = `
    const { readFileSync, writeFileSync } = require('node:fs');
    const fails = (path) => { try { writeFileSync(path, ''); return false; } catch (error) { return error.code; } };
    const status = readFileSync('/proc/self/status', 'utf8');
    console.log(JSON.stringify({
      memory: process.constrainedMemory(), root: fails('/x'), tmp: fails('/tmp/x'), app: fails('/app/x'),
      capabilities: /CapEff:\\s*(\\w+)/.exec(status)[1], noNewPrivileges: /NoNewPrivs:\\s*(\\d)/.exec(status)[1],
    }));`;
  const { stdout, stderr } = await inContainer('--entrypoint', 'node', IMAGE, '-e', probe);
  t.match(
    JSON.parse(stdout || '{}'),
    {
      memory: 256 * 1024 * 1024,
      root: 'EROFS',
      tmp: 'EROFS',
      app: 'EROFS',
      capabilities: /^0+$/,
      noNewPrivileges: '1',
    },
    stderr,
  );
});

t.test('it knows itself', async (t) => {
  t.match(await inContainer(IMAGE, '--version'), { code: 0, stdout: /^\d+\.\d+\.\d+\n$/ });
  t.match(await inContainer(IMAGE), { code: 2, stderr: /SNAPSHOT_ETCD_ENDPOINTS is not set/ });
  const labels = await mustRun('podman', ['inspect', '--format', '{{json .Labels}}', IMAGE]);
  t.match(JSON.parse(labels), {
    'org.opencontainers.image.title': 'etcd-snapshot',
    'org.opencontainers.image.licenses': 'Apache-2.0',
    'org.opencontainers.image.version': /^\d+\.\d+\.\d+$/,
  });
});

t.test('it is small, with neither a shell nor a package manager', async (t) => {
  const container = (await mustRun('podman', ['create', IMAGE])).trim();
  const files = await mustRun('sh', ['-c', 'podman export "$0" | tar -t', container]);
  await mustRun('podman', ['rm', container]);
  const programs = files.split('\n').filter((file) => /(^|\/)s?bin\/./.test(file));
  t.strictSame(programs.toSorted(), ['usr/local/bin/etcd', 'usr/local/bin/etcdutl', 'usr/local/bin/node']);
  const names = new Set(files.split('\n').map((file) => file.replace(/.*\//, '')));
  for (const name of ['sh', 'bash', 'dash', 'busybox', 'apt', 'apt-get', 'dpkg', 'npm', 'npx', 'corepack', 'perl'])
    t.notOk(names.has(name), name);
  const size = Number(await mustRun('podman', ['image', 'inspect', '--format', '{{.Size}}', IMAGE]));
  t.ok(size <= 190e6, `${size} bytes`);
});

t.test('Node uses the compile cache, and has nothing to add to it', async (t) => {
  for (const user of ['0', '65532']) {
    const { stderr } = await inContainer('--user', user, '--env', 'NODE_DEBUG_NATIVE=COMPILE_CACHE', IMAGE);
    t.match(stderr, /cache for ESM \S+ was accepted/);
    t.notMatch(stderr, /rejected|writing cache/);
  }
});

t.test('the program uses its code caches: a backup that can write to them has nothing to add', async (t) => {
  const container = (await mustRun('podman', ['create', IMAGE])).trim();
  const copy = folderOnDisk('code-caches');
  await mustRun('podman', ['cp', `${container}:/app/compile-cache/.`, copy]);
  await mustRun('podman', ['rm', container]);
  const state = async (): Promise<string> => mustRun('find', [copy, '-type', 'f', '-printf', '%P %i %s %T@\n']);
  const before = await state();
  t.match(before, /-0\/\S+\.cjs \d+ \d{5}/);
  const { code, stderr } = await inContainer('-v', `${copy}:/app/compile-cache`, ...(await options()), IMAGE);
  t.equal(code, 0, stderr);
  t.equal(await state(), before);
});

t.test('host names are resolved as in any Debian', async (t) => {
  const look = "require('node:dns').lookup('localhost', (error, address) => console.log(error ?? address))";
  t.match(await inContainer('--entrypoint', 'node', IMAGE, '-e', look), { stdout: /^(127\.0\.0\.1|::1)\n$/ });
});

t.test('a backup of 250 MB from within 256 MiB', async (t) => {
  await cluster.fill(5000, 50_000);
  const { code, stdout, stderr } = await inContainer(...(await options()), IMAGE);
  t.equal(code, 0, stderr);
  const name = /\nBackup (\S+) uploaded successfully!\n$/.exec(stdout)?.[1] ?? '';
  const { contentLength = 0 } = await azurite.container('image').getBlobClient(name).getProperties();
  t.ok(contentLength > 250e6, `${contentLength} bytes`);
  t.match(await inContainer(...(await options()), IMAGE, 'list', '--json'), { code: 0, stdout: new RegExp(name) });
});

t.test('it brings the tools that restore, and nothing else is needed for that', async (t) => {
  const room = folderOnDisk('room');
  const restore = ['restore', '--force', '--name', 'm1', '--data-dir', '/room/restored'];
  const { code, stderr } = await inContainer('-v', `${room}:/room`, ...(await options()), IMAGE, ...restore);
  t.equal(code, 0, stderr);
  t.strictSame(readdirSync(room), ['restored']);
});

t.test('commands that need no key of the node need no root', async (t) => {
  const nobody = ['--user', '65532:65532'];
  const { stdout: tool } = await inContainer(...nobody, '--entrypoint', 'etcdutl', IMAGE, 'version');
  const room = folderOnDisk('anyone');
  await chown(room, 65_532, 65_532);
  const inRoom = [...nobody, '-v', `${room}:/room`, ...(await secrets()), IMAGE];
  const { stdout } = await inContainer(...inRoom, 'list', '--json');
  const [{ name }] = JSON.parse(stdout) as [{ name: string }];
  t.match(await inContainer(...inRoom, 'verify', name), { code: 0 });
  const drill = await inContainer(...inRoom, 'drill', '--json', '--temp-dir', '/room');
  t.equal(drill.code, 0, drill.stderr);
  t.match(JSON.parse(drill.stdout || '{}'), { ok: true, etcd: /version: (\S+)/.exec(tool)?.[1] ?? 'none' });
  const restore = ['restore', name, '--force', '--name', 'm1', '--data-dir', '/room/restored'];
  const restored = await inContainer(...inRoom, ...restore);
  t.equal(restored.code, 0, restored.stderr);
  t.strictSame(readdirSync(room), ['restored']);
});

t.test('SIGTERM ends the container in time', async (t) => {
  const before = await azurite.names('image');
  const proxy = await FaultProxy.start(azurite.url, ({ method }) => (method === 'PUT' ? 'hang' : 'pass'));
  t.teardown(async () => proxy.stop());
  const child = launch(join(SCRIPTS, 'image-run.sh'), [...(await options(proxy.url)), IMAGE]);
  const ended = collect(child);
  while (!proxy.seen.some((operation) => operation.startsWith('PUT'))) await sleep(50);
  const start = performance.now();
  child.kill('SIGTERM');
  const { code, stderr } = await ended;
  t.equal(code, 143, stderr);
  t.ok(performance.now() - start < 4000, 'the container’s own end included');
  t.strictSame(await azurite.names('image'), before);
});

t.test('the same commit makes the same layers and the same configuration', async (t) => {
  const again = `${IMAGE}-again`;
  t.teardown(async () => run('podman', ['rmi', '--force', again]));
  await mustRun(join(SCRIPTS, 'image-build.sh'), [again], { STAND_IN_BASE: '1', NO_CACHE: '1' });
  const what = async (image: string): Promise<unknown> => JSON.parse(await mustRun('podman', ['inspect', image]));
  const [[one], [other]] = (await Promise.all([what(IMAGE), what(again)])) as [[Inspected], [Inspected]];
  t.strictSame(other.RootFS.Layers, one.RootFS.Layers);
  t.strictSame(other.Config, one.Config, 'labels, entry point, environment');
  const { stdout: commit } = await run('git', ['rev-parse', 'HEAD'], {}, SCRIPTS);
  t.equal(
    one.Config.Labels['org.opencontainers.image.revision'],
    commit.trim(),
    'also where layers came from the cache',
  );
});

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { HeldDirectory } from '../../src/directories.ts';
import { lockDirectory } from '../../src/directories.ts';
import { Azurite } from '../support/azurite.ts';
import { findEtcd } from '../support/etcd.ts';
import { type Fault, FaultProxy } from '../support/fault-proxy.ts';
import { SNAPSHOT, unfitFor } from '../support/fixtures.ts';
import { collect, launch, temporaryFolder, type Variables } from '../support/process.ts';
import { metadataOf, RECORDED_NAME as STORED } from '../support/restored.ts';
import { errorOf, MAIN, runWorker, startWorker, withTools } from '../support/worker.ts';

const tools = findEtcd().at(-1);
if (tools === undefined) throw new Error('no etcd');
const programs = withTools(tools);
const dir = temporaryFolder('locks');
const azurite = await Azurite.start(join(dir, 'azurite'));
t.teardown(async () => azurite.stop());
const container = azurite.container('locks');
await container.createIfNotExists();
await container.getBlockBlobClient(STORED).upload(SNAPSHOT, SNAPSHOT.length, { metadata: metadataOf() });

/** A container whose snapshot is read as the rule says, until it is repaired: by then a run has begun to read it. */
async function brokenStore(t: Test, rule: Fault): Promise<{ variables: Variables; repair: () => Promise<void> }> {
  let isBroken = true;
  const begun = Promise.withResolvers<void>();
  const proxy = await FaultProxy.start(azurite.url, ({ method, url }) => {
    if (!isBroken || method !== 'GET' || !url.pathname.endsWith('.db')) return 'pass';
    begun.resolve();
    return rule;
  });
  t.teardown(async () => proxy.stop());
  const variables = { ...azurite.variables('locks'), ...programs, SNAPSHOT_AZURE_BLOB_ENDPOINT: proxy.url };
  return {
    variables,
    async repair() {
      await begun.promise;
      isBroken = false;
    },
  };
}

/** The file that a run downloads to, once it is there. */
async function partIn(work: string): Promise<string> {
  for (const end = Date.now() + 60_000; Date.now() < end; await sleep(20)) {
    const name = (await readdir(work).catch(() => [])).find((entry) => entry.startsWith('snapshot-'));
    if (name !== undefined) return join(work, name);
  }
  throw new Error('nothing is downloaded');
}

const targets: Record<
  string,
  { args: (made: string) => string[]; made: (place: string) => string; skip?: string | false }
> = {
  'restore --download': { args: (made) => ['--download', made], made: (place) => place },
  'restore --data-dir': {
    args: (made) => ['--name', 'm1', '--initial-cluster', 'm1=http://localhost:2380', '--data-dir', made],
    made: (place) => join(place, 'member/snap/db'),
    skip: unfitFor(tools),
  },
};

for (const [command, { args, made, skip }] of Object.entries(targets)) {
  t.test(`${command}: one run at a time; a killed one does not count`, { skip: skip ?? false }, async (t) => {
    const { variables, repair } = await brokenStore(t, 'hang');
    const place = join(dir, command.replaceAll(/\W+/g, '-'));
    const words = ['restore', STORED, ...args(place)];
    const first = startWorker(words, variables);
    const ended = collect(first);
    const part = await partIn(`${place}.restoring`);

    await repair();
    const second = await runWorker(words, variables);
    t.equal(second.code, 20, second.stderr);
    t.match(errorOf(second).message, `Another run is restoring to ${place}.`);
    t.ok(existsSync(part), 'it leaves the work of the first run alone');

    first.kill('SIGKILL');
    await ended;
    const third = await runWorker(words, variables);
    t.equal(third.code, 0, third.stderr);
    t.ok(existsSync(made(place)));
    t.notOk(existsSync(`${place}.restoring`), 'nothing is left');
  });
}

t.test(
  'runs in other network namespaces, as in other containers, are seen',
  { skip: process.getuid?.() !== 0 },
  async (t) => {
    const { variables, repair } = await brokenStore(t, 'hang');
    const place = join(dir, 'containers.db');
    const words = ['restore', STORED, '--download', place];
    const first = startWorker(words, variables);
    const ended = collect(first);
    await partIn(`${place}.restoring`);
    await repair();
    const held = HeldDirectory.open(`${place}.restoring`);
    t.equal(await lockDirectory(held), undefined, 'by this process');
    const script = `import { HeldDirectory } from './src/directories.ts';
    import { lockDirectory } from './src/directories.ts';
    console.log((await lockDirectory(HeldDirectory.open(process.argv[1]))) === undefined ? 'taken' : 'free');
    process.exit();`;
    const node = [process.execPath, '--input-type=module', '-e', script, `${place}.restoring`];
    const { stdout, stderr } = await collect(launch('unshare', ['--net', ...node], {}, join(MAIN, '../..')));
    t.equal(stdout.trim(), 'taken', stderr);
    first.kill('SIGKILL');
    await ended;
  },
);

t.test('of many runs that find a directory of a killed run only one takes it', async (t) => {
  for (let round = 0; round < 5; round++) {
    const path = join(dir, `round-${round}`);
    await mkdir(path, { mode: 0o700 });
    const before = await lockDirectory(HeldDirectory.open(path));
    // Its socket stays, and nobody listens, as after a kill.
    before?.();
    t.strictSame(readdirSync(path), ['lock-1']);
    const runs = await Promise.all(Array.from({ length: 8 }, async () => lockDirectory(HeldDirectory.open(path))));
    const [winner, ...others] = runs.filter((unlock) => unlock !== undefined);
    t.ok(winner !== undefined && others.length === 0, `round ${round}`);
    t.equal(await lockDirectory(HeldDirectory.open(path)), undefined);
    winner?.();
    await rm(path, { recursive: true });
  }
});

t.test('what is verified is the file that is kept', async (t) => {
  const { variables } = await brokenStore(t, { bytesPerSecond: 40_000 });
  const place = join(dir, 'exchanged.db');
  const worker = startWorker(['restore', STORED, '--download', place], variables);
  const ended = collect(worker);
  const part = await partIn(`${place}.restoring`);
  await rename(part, `${place}.aside`);
  await writeFile(part, readFileSync(`${place}.aside`));
  const finished = await ended;
  t.equal(finished.code, 20, finished.stderr);
  t.match(errorOf(finished).message, /was removed or replaced by another process while it was verified/);
  t.notOk(existsSync(place), 'nothing appears');
});

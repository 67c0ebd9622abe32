import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { readdir, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { Azurite } from '../support/azurite.ts';
import { makeAuthority } from '../support/certificates.ts';
import { EtcdCluster, findEtcd } from '../support/etcd.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { collect, launch, mustRun, temporaryFolder } from '../support/process.ts';
import { contentOf, restoreAll } from '../support/restored.ts';
import { jsonOf } from '../support/command.ts';
import { errorOf, MAIN, runWorker, startWorker, withTools } from '../support/worker.ts';

const KILLS = 40;
const MIB = 2 ** 20;

const dir = temporaryFolder('restores');
const tools = findEtcd().at(-1);
if (tools === undefined) throw new Error('no etcd');
const azurite = await Azurite.start(join(dir, 'azurite'));
const cluster = await EtcdCluster.start({ tools, dir: join(dir, 'etcd') });
await cluster.fill(800, 50_000);
const variables = { ...azurite.variables('restores'), ...withTools(tools) };
const { name } = await jsonOf<{ name: string }>([], { ...cluster.variables, ...variables });
await cluster.stop();
t.teardown(async () => azurite.stop());

/** What etcd's own tool says of a restored database; its bytes differ, for bbolt chooses pages at random. */
async function contentIn(dataDir: string): Promise<string> {
  return mustRun(tools?.snapshotTool ?? '', ['snapshot', 'status', join(dataDir, 'member/snap/db'), '-w', 'simple']);
}

t.test(`${KILLS} kills of a restore at random moments`, async (t) => {
  const target = join(dir, 'killed');
  const args = ['restore', name, '--name', 'm1', '--data-dir', target, '--no-bump'];
  const whole = await runWorker(args, variables);
  t.equal(whole.code, 0, whole.stderr);
  const db = await contentIn(target);
  await rm(target, { recursive: true });
  const ends: Record<string, number> = {};
  for (let kill = 0; kill < KILLS; kill++) {
    const signal = kill % 2 === 0 ? 'SIGKILL' : 'SIGTERM';
    const delay = Math.random() * whole.ms * 1.1;
    const worker = startWorker(args, variables);
    const ended = collect(worker);
    await sleep(delay);
    worker.kill(signal);
    const { code } = await ended;
    const there = await stat(target).catch(() => undefined);
    const what = `${signal} after ${Math.round(delay)} ms: code ${code}`;
    if (there === undefined) {
      const again = await runWorker(args, variables);
      t.equal(again.code, 0, `${what}; a rerun succeeds ${again.stderr}`);
    }
    t.equal(await contentIn(target), db, `${what}; ${there === undefined ? 'restored by the rerun' : 'whole already'}`);
    const end = `${signal}, ${there === undefined ? 'nothing' : 'all'} there`;
    ends[end] = (ends[end] ?? 0) + 1;
    await rm(target, { recursive: true });
  }
  t.comment(JSON.stringify(ends));
  await rm(`${target}.restoring`, { recursive: true, force: true });
});

const skip = process.getuid?.() === 0 ? false : 'only root can mount a small disk';
t.test('a disk that is full at half, and one that was too small from the start', { skip }, async (t) => {
  const disk = join(dir, 'disk');
  mkdirSync(disk);
  await mustRun('mount', ['-t', 'tmpfs', '-o', 'size=200m', 'tmpfs', disk]);
  t.teardown(() => execFileSync('umount', [disk]));
  const target = join(disk, 'restored');
  const args = ['restore', name, '--name', 'm1', '--data-dir', target];
  const filler = join(disk, 'filler');
  const proxy = await FaultProxy.start(azurite.url, ({ method, index }) => {
    if (method === 'GET' && index === 2) execFileSync('fallocate', ['-l', String(180 * MIB), filler]);
    return 'pass';
  });
  t.teardown(async () => proxy.stop());
  const full = await runWorker(args, { ...variables, SNAPSHOT_AZURE_BLOB_ENDPOINT: proxy.url });
  t.equal(full.code, 2, full.stderr);
  t.match(errorOf(full).message, /no space left/);
  t.strictSame(await readdir(disk), ['filler'], 'nothing else is left');
  const small = await runWorker(args, variables);
  t.equal(small.code, 2);
  t.match(errorOf(small).message, /Not enough space/);
  t.strictSame(await readdir(disk), ['filler']);
  await rm(filler);
  t.equal((await runWorker(args, variables)).code, 0);
});

t.test("a file that may not grow: of ours, and of etcd's tool", async (t) => {
  const target = join(dir, 'limited');
  const file = join(dir, 'local.db');
  await azurite.container('restores').getBlobClient(name).downloadToFile(file);
  for (const [operand, code] of [
    [name, 2],
    [file, 10],
  ] as const) {
    const command = `ulimit -f 20000; exec "$0" "$@"`;
    const args = ['restore', operand, '--name', 'm1', '--data-dir', target];
    const limited = await collect(launch('sh', ['-c', command, process.execPath, MAIN, ...args], variables));
    t.equal(limited.code, code, limited.stderr);
    await t.rejects(stat(target), { code: 'ENOENT' });
    await t.rejects(stat(`${target}.restoring`), { code: 'ENOENT' });
  }
});

t.test('a member with another snapshot never joins the others', async (t) => {
  const folder = join(dir, 'mixed');
  const authority = await makeAuthority(join(dir, 'certs'));
  const three = await EtcdCluster.start({ tools, dir: folder, size: 3, tls: authority });
  t.teardown(async () => three.stop());
  const own = { ...three.variables, ...azurite.variables('mixed'), ...withTools(tools) };
  await three.fill(50, 1000);
  const first = await jsonOf<{ name: string }>([], own);
  const before = await contentOf(three);
  await three.fill(50, 1000);
  await sleep(1000);
  const second = await jsonOf<{ name: string }>([], own);
  await Promise.all(three.members.map(async (member) => three.stopMember(member.name)));
  const plans = [first, second].map((backup) => ({ backup, file: join(folder, `${backup.name}.json`) }));
  for (const { backup, file } of plans) {
    await writeFile(file, JSON.stringify(await jsonOf(['restore', '--plan', '--layout', 'kubeadm', backup.name], own)));
  }
  for (const member of three.members) await rm(join(folder, member.name), { recursive: true });
  await restoreAll(three, folder, plans[0]?.file ?? '', own);
  await rm(join(folder, 'm3'), { recursive: true });
  const args = ['restore', '--from-plan', plans[1]?.file ?? '', '--member', 'm3', '--data-dir', join(folder, 'm3')];
  await jsonOf(args, own);
  await Promise.all(['m1', 'm2'].map(async (member) => three.startMember(member)));
  await three.startMember('m3', tools, false);
  await sleep(3000);
  t.strictSame((await contentOf(three)).keys, before.keys, 'the others are a cluster of the first snapshot');
  const third = three.member('m3').endpoint;
  await t.rejects(three.etcdctlAt(third, 'endpoint', 'health'), 'the member with the other one is alone');
});

// The product's main job, for real, on this machine: a backup of a three-member etcd with TLS to Azurite, a drill, and the
// restore of the whole cluster after its data was deleted.
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { Azurite } from '../test/support/azurite.ts';
import { makeAuthority } from '../test/support/certificates.ts';
import { EtcdCluster, type EtcdTools, findEtcd } from '../test/support/etcd.ts';
import { launch, temporaryFolder, type Variables } from '../test/support/process.ts';
import { MAIN, withTools } from '../test/support/worker.ts';

const KEY = '/registry/demo/greeting';
const VALUE = `written before the disaster, at ${new Date().toISOString()}`;
const CONTAINER = 'demo';

const start = performance.now();
const dir = temporaryFolder('demo');
let worker: ChildProcess | undefined;
// Servers and files of the demo end with it, also on SIGINT, SIGTERM and SIGHUP (test/support/process.ts).
process.on('exit', (code) => {
  worker?.kill('SIGTERM');
  if (code > 128) console.error(`\nInterrupted: the servers were stopped, and ${dir} was removed.`);
});

try {
  await demo();
  process.exit(0);
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
}

async function demo(): Promise<void> {
  const tools = findEtcd().at(-1);
  if (tools === undefined) throw new Error('no etcd found');
  console.log(`This demo takes about a minute and needs no Azure account. It will
  1. start an etcd ${tools.version} cluster (three members, TLS) and Azurite, an emulator of Azure Storage
  2. take a backup, list it and verify it
  3. run a drill: restore the backup into a temporary directory and compare it
  4. delete the data of all three members, and restore the cluster from the backup
Everything runs on 127.0.0.1, and in this directory, which is removed at the end:
  ${dir}
Ctrl-C ends it at any time.`);

  say('Starting etcd and Azurite, writing 1000 keys');
  const tls = await makeAuthority(join(dir, 'certs'));
  const data = join(dir, 'etcd');
  const [cluster, azurite] = await Promise.all([
    EtcdCluster.start({ tools, dir: data, size: 3, tls }),
    Azurite.start(join(dir, 'azurite')),
  ]);
  await cluster.fill(1000, 6000);
  await cluster.etcdctl('put', KEY, VALUE);
  const variables = { ...cluster.variables, ...azurite.variables(CONTAINER), ...withTools(tools) };

  say('Taking a backup');
  await run(['backup'], variables);
  const [name = ''] = await azurite.names(CONTAINER);
  await run(['list'], variables);
  await run(['verify', name], variables);

  say('Testing that it can be restored');
  await run(['drill'], variables);

  say('Disaster: all three members are killed and their data is deleted');
  const names = cluster.members.map((member) => member.name);
  await Promise.all(names.map(async (member) => cluster.stopMember(member)));
  for (const member of names) rmSync(join(data, member), { recursive: true });
  await restoreAll(cluster, tools, variables, data);

  await run(['health'], variables);
  console.log(`\n$ etcdctl get ${KEY}`);
  const found = await cluster.etcdctl('get', KEY, '--print-value-only');
  console.log(found.trim());
  if (found.trim() !== VALUE) throw new Error('the key was not restored');

  say(`Done in ${Math.round((performance.now() - start) / 1000)} s: every member is healthy, and the key is back.`);
  console.log(`Next:
  node_modules/.bin/node -- dist/main.js help   all commands
  README.md                                     back up your own cluster: CronJob or docker run
  docs/restore.md                               the runbook for the day of a real disaster`);
}

/** As the runbook says: one plan for all members, then a restore on each of them. */
async function restoreAll(cluster: EtcdCluster, tools: EtcdTools, variables: Variables, data: string): Promise<void> {
  const plan = join(dir, 'plan.json');
  await run(['restore', '--plan', '--layout', 'kubeadm', '--output', plan], variables, 'quiet');
  for (const { name } of cluster.members) {
    await run(['restore', '--from-plan', plan, '--member', name, '--data-dir', join(data, name)], variables);
  }
  say('Starting the restored members');
  await Promise.all(cluster.members.map(async ({ name }) => cluster.startMember(name, tools)));
}

/** @param output `quiet` where what it prints is of no use here */
async function run(args: readonly string[], variables: Variables, output: 'shown' | 'quiet' = 'shown'): Promise<void> {
  console.log(`\n$ etcd-snapshot ${args.join(' ')}`);
  const stdio = ['ignore', output === 'shown' ? 'inherit' : 'ignore', 'inherit'] as const;
  const all = { SNAPSHOT_LOG_FORMAT: 'text', ...variables };
  worker = launch(process.execPath, ['--', MAIN, ...args], all, undefined, stdio);
  const [code] = (await once(worker, 'close')) as [number | null];
  if (code !== 0) throw new Error(`etcd-snapshot ${args[0]} ended with ${code}`);
}

function say(text: string): void {
  console.log(`\n● ${text}`);
}

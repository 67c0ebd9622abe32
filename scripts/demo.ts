// A real backup on this machine: a three-member etcd with TLS and Azurite, both on loopback, a backup, the list, and the verdict of
// etcd's own tool about the stored snapshot.
import { join } from 'node:path';
import { Azurite } from '../test/support/azurite.ts';
import { makeAuthority } from '../test/support/certificates.ts';
import { EtcdCluster, findEtcd } from '../test/support/etcd.ts';
import { mustRun, temporaryFolder } from '../test/support/process.ts';
import { runWorker } from '../test/support/worker.ts';

const dir = temporaryFolder('demo');

try {
  await demo();
  process.exit(0);
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
}

async function demo(): Promise<void> {
  const tools = findEtcd().at(-1);
  if (tools === undefined) throw new Error('there is no etcd');
  say(`Starting etcd ${tools.version}: three members, TLS, client certificates required`);
  const authority = await makeAuthority(join(dir, 'certs'));
  const cluster = await EtcdCluster.start({ tools, dir: join(dir, 'etcd'), size: 3, tls: authority });
  say('Starting Azurite, an emulator of Azure Blob Storage');
  const azurite = await Azurite.start(join(dir, 'azurite'));
  say('Writing 2000 keys of 6 kB');
  await cluster.fill(2000, 6000);

  const variables = { ...cluster.variables, ...azurite.variables('demo'), SNAPSHOT_LOG_FORMAT: 'text' };
  const name = /Backup (\S+) uploaded/.exec(await worker(['backup'], variables))?.[1] ?? 'nothing';
  await worker(['list'], variables);
  await worker(['verify', name], variables);

  say(`Downloading ${name} and checking it with etcd's own tool`);
  const file = join(dir, name);
  await azurite.container('demo').getBlobClient(name).downloadToFile(file);
  console.log(await mustRun(tools.snapshotTool, ['snapshot', 'status', file, '-w', 'table'], { ETCDCTL_API: '3' }));
  say('Done: etcd was backed up to blob storage, and the stored blob is a valid snapshot.');
}

async function worker(args: string[], variables: Record<string, string>): Promise<string> {
  say(`Running: etcd-snapshot ${args.join(' ')}`);
  const { code, stdout, stderr } = await runWorker(args, variables);
  process.stdout.write(stderr + stdout);
  if (code !== 0) throw new Error(`etcd-snapshot ${args.join(' ')} ended with ${code}`);
  return stdout;
}

function say(text: string): void {
  console.log(`\n● ${text}`);
}

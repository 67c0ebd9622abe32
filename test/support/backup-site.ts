import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Test } from 'tap';
import { generateIdentity, type Identity } from '../../src/sealed/age-header.ts';
import { Azurite } from './azurite.ts';
import { EtcdCluster, type EtcdTools, findEtcd } from './etcd.ts';
import { temporaryFolder, type Variables } from './process.ts';
import { withTools } from './worker.ts';

interface BackupSite {
  readonly dir: string;
  readonly tools: EtcdTools;
  readonly cluster: EtcdCluster;
  readonly azurite: Azurite;
  /** Of a command that uses this container, and etcd's tools. */
  readonly variablesOf: (container: string) => Variables;
}

/** What most tests of commands need: an etcd and a store, which end with the test. @param version of etcd */
export async function startBackupSite(
  t: Pick<Test, 'teardown'>,
  name: string,
  version: 'oldest' | 'newest' = 'newest',
): Promise<BackupSite> {
  const dir = temporaryFolder(name);
  const tools = findEtcd().at(version === 'oldest' ? 0 : -1);
  if (tools === undefined) throw new Error('no etcd');
  const [azurite, cluster] = await Promise.all([
    Azurite.start(join(dir, 'azurite')),
    EtcdCluster.start({ tools, dir: join(dir, 'etcd') }),
  ]);
  t.teardown(async () => Promise.all([azurite.stop(), cluster.stop()]));
  const variablesOf = (container: string): Variables => {
    return { ...cluster.variables, ...azurite.variables(container), ...withTools(tools) };
  };
  return { dir, tools, cluster, azurite, variablesOf };
}

/** A new key pair, whose private key is in the file. */
export async function writeIdentity(file: string): Promise<Identity> {
  const identity = await generateIdentity('x25519');
  await writeFile(file, `${identity.secret.reveal()}\n`, { mode: 0o600 });
  return identity;
}

/**
 * Makes the fixtures in test/fixtures/etcd-databases anew: `node test/support/make-database-copies.ts`, and behind it the
 * directories of more servers to copy from, such as of an etcd 3.3 that was built by hand.
 */
import { execFileSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { SnapshotVerifier } from '../../src/snapshot/verify/verifier.ts';
import { databasePath, DATABASES, type DatabaseVector, idleCopy, metasOf, slowCopy, Writer } from './databases.ts';
import { EtcdCluster, type EtcdTools, findEtcd } from './etcd.ts';
import { run, temporaryFolder } from './process.ts';
import { tools } from './tools.ts';
import { sha256, type Status } from './vectors.ts';

const dir = temporaryFolder('databases');

async function save(etcd: EtcdTools, scenario: string, file: Buffer): Promise<void> {
  const path = join(dir, 'copy.db');
  writeFileSync(path, file);
  const status: Record<string, Status | null> = {};
  const restores: Record<string, boolean> = {};
  for (const tool of tools()) status[tool.name] = (await tool.status(path)) ?? null;
  for (const { version, snapshotTool } of findEtcd()) {
    const to = join(dir, 'restored');
    const args = ['snapshot', 'restore', path, '--skip-hash-check', '--data-dir', to];
    restores[`etcd ${version}`] = (await run(snapshotTool, args, { ETCDCTL_API: '3' })).code === 0;
    rmSync(to, { recursive: true, force: true });
  }
  const { newerMeta, highWaterMarks } = metasOf(file);
  const name = `etcd-${etcd.version}-${scenario}`;
  const vector: DatabaseVector = {
    ...{ name, serverVersion: etcd.version, scenario, fileSize: file.length, sha256: sha256(file).toString('hex') },
    ...{ newerMeta, highWaterMarks, verdict: scenario === 'torn' ? 'reject' : 'accept', status, restores },
  };
  writeFileSync(new URL(`${name}.json`, DATABASES), `${JSON.stringify(vector, undefined, 1)}\n`);
  writeFileSync(new URL(`${name}.db.gz`, DATABASES), gzipSync(file, { level: 9 }));
  process.stderr.write(`${JSON.stringify(vector)}\n`);
}

function isWhole(file: Buffer): boolean {
  const verifier = new SnapshotVerifier();
  verifier.push(file);
  return verifier.finishWithoutHash().ok;
}

async function copiesOf(etcd: EtcdTools): Promise<void> {
  const clusterDir = join(dir, etcd.version);
  const cluster = await EtcdCluster.start({ tools: etcd, dir: clusterDir });
  const path = databasePath(clusterDir);
  try {
    await cluster.fill(40, 200);
    await cluster.etcdctl('del', '/registry/pods/default/pod-1');
    await save(etcd, 'idle', await idleCopy(path));
    const writer = new Writer(cluster);
    try {
      await writer.rounds(100);
      // The older meta page first, so that what is read by it is wrong.
      let copy = await slowCopy(path, async () => {});
      while (metasOf(copy).newerMeta !== 1 || !isWhole(copy)) {
        await writer.rounds(3);
        copy = await slowCopy(path, async () => {});
      }
      await save(etcd, 'load', copy);
      while (isWhole(copy)) copy = await slowCopy(path, async () => writer.rounds(20));
      await save(etcd, 'torn', copy);
    } finally {
      await writer.stop();
    }
  } finally {
    await cluster.stop();
  }
}

const [mine] = findEtcd();
const named = process.argv.slice(2).map((folder): EtcdTools => {
  const etcd = join(folder, 'etcd');
  const text = execFileSync(etcd, ['--version'], { encoding: 'utf8' });
  const version = /etcd Version: (\S+)/.exec(text)?.[1] ?? basename(folder);
  return { version, etcd, etcdctl: mine?.etcdctl ?? '', snapshotTool: mine?.snapshotTool ?? '' };
});
for (const etcd of [...named, ...findEtcd()]) await copiesOf(etcd);

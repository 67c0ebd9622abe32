import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import { Connection } from '../../src/etcd/connection.ts';
import { snapshotPieces } from '../../src/etcd/snapshot.ts';
import { Azurite } from './azurite.ts';
import { EtcdCluster, findEtcd } from './etcd.ts';
import { FaultProxy } from './fault-proxy.ts';
import { temporaryFolder } from './process.ts';
import { runWorker } from './worker.ts';

export interface Uplink {
  /** Seconds that a reader needs that does nothing with the stream, the least of three. */
  readonly plainSeconds: number;
  /** Runs a backup whose upload passes no faster than this. */
  readonly backup: (bytesPerSecond: number, spooling: boolean) => Promise<Measured>;
}

export interface Measured {
  readonly seconds: number;
  readonly readTransactionSeconds: number;
  readonly spilledBytes: number;
  /** Files that are left in the spool's directory. */
  readonly left: string[];
}

/** A real etcd with so many megabytes, and an uplink as slow as wanted. The spool is in memory, for disks may be full. */
export async function prepareUplink(t: Test, megabytes: number): Promise<Uplink> {
  const dir = temporaryFolder('uplink');
  const spool = mkdtempSync('/dev/shm/etcd-snapshot-uplink-');
  const tools = findEtcd().at(-1);
  if (tools === undefined) throw new Error('no etcd');
  const cluster = await EtcdCluster.start({ tools, dir: join(dir, 'etcd') });
  const azurite = await Azurite.start(join(dir, 'azurite'));
  t.teardown(async () => {
    await Promise.all([cluster.stop(), azurite.stop()]);
    rmSync(spool, { recursive: true });
  });
  await cluster.fill(megabytes * 20, 50_000);
  const plain = [await drain(cluster.endpoints), await drain(cluster.endpoints), await drain(cluster.endpoints)];
  let runs = 0;
  return {
    plainSeconds: Math.min(...plain),
    async backup(bytesPerSecond, spooling) {
      const rule = Number.isFinite(bytesPerSecond) ? { bytesPerSecond } : 'pass';
      const proxy = await FaultProxy.start(azurite.url, ({ method }) => (method === 'PUT' ? rule : 'pass'));
      const { code, stdout, stderr, ms } = await runWorker(['--json'], {
        ...cluster.variables,
        ...azurite.variables('uplink'),
        SNAPSHOT_AZURE_BLOB_ENDPOINT: proxy.url,
        SNAPSHOT_BLOB_PREFIX: `run-${++runs}/`,
        ...(spooling ? { SNAPSHOT_SPOOL_DIR: spool } : {}),
      });
      await proxy.stop();
      if (code !== 0) throw new Error(stderr);
      const { attempts, spilledBytes } = JSON.parse(stdout) as {
        attempts: { readTransactionSeconds: number }[];
        spilledBytes: number;
      };
      const { readTransactionSeconds = NaN } = attempts[0] ?? {};
      return { seconds: ms / 1000, readTransactionSeconds, spilledBytes, left: readdirSync(spool) };
    },
  };
}

async function drain(endpoint: string): Promise<number> {
  const connection = new Connection(endpoint, undefined);
  const start = performance.now();
  let size = 0;
  for await (const piece of snapshotPieces(connection, new AbortController().signal)) size += piece.length;
  connection.close();
  if (size === 0) throw new Error('nothing came');
  return (performance.now() - start) / 1000;
}

import { createHash } from 'node:crypto';
import { join } from 'node:path';
import type { EtcdCluster } from './etcd.ts';
import { SNAPSHOT } from './fixtures.ts';
import type { Variables } from './process.ts';
import { jsonOf } from './command.ts';

/** By how much a restore raises the revision, where etcd's tool can. */
export const BUMP = 1_000_000_000;

export interface Plan {
  readonly snapshot: { readonly name: string; readonly sha256: string };
  /** Of the cluster that the snapshot was taken of. */
  readonly clusterId: string;
  readonly dataDir: string;
  readonly initialCluster: string;
  readonly initialClusterToken: string;
  readonly members: readonly { readonly name: string; readonly peerURLs: readonly string[] }[];
  readonly leftOut: readonly { readonly name: string; readonly reason: string }[];
  readonly steps: readonly { readonly title: string; readonly on: string; readonly run: readonly string[] }[];
  readonly digest: string;
}

export interface Restored {
  readonly dataDir: string;
  readonly tool: string;
  readonly member: { readonly name: string; readonly initialCluster: string; readonly initialClusterToken: string };
  readonly snapshotRevision: number;
  readonly revision: number;
  readonly next: string;
  readonly findings: readonly string[];
}

const TAKEN_AT = '2026-01-01T00:00:00.000Z';

/** The name of a snapshot with this metadata. */
export const RECORDED_NAME = 'kubernetes-etcd-snapshot_20260101_000000.db';

/** The members of a cluster of three, as a record has them, and as `--initial-cluster` does. */
export const MEMBERS = ['a', 'b', 'c'].map((name, i) => ({
  id: `${i}1`,
  name,
  peerURLs: [`https://10.0.0.${i}:2380`],
  isLearner: false,
}));
export const SET = 'a=https://10.0.0.0:2380,b=https://10.0.0.1:2380,c=https://10.0.0.2:2380';

/** A record of the fixture's snapshot as metadata, with what the test wants otherwise. */
export function metadataOf(more: Record<string, string> = {}): Record<string, string> {
  return {
    ...{
      tool: 'etcd-snapshot/0',
      hash: 'a8e91a41',
      revision: '52',
      totalkeys: '358',
      livekeys: '352',
      totalsize: '278528',
    },
    sha256: createHash('sha256').update(SNAPSHOT).digest('hex'),
    ...{ etcdversion: '3.5.30', clusterid: 'c1', memberid: 'a1', members: '[]', takenat: TAKEN_AT },
    uploadid: '0123456789abcdef0123456789abcdef',
    ...more,
  };
}

/** All keys with their values, and the revision, as a client sees them. */
export async function contentOf(cluster: EtcdCluster): Promise<{ revision: number; keys: Map<string, string> }> {
  const answer = JSON.parse(await cluster.etcdctl('get', '', '--prefix', '-w', 'json')) as {
    header: { revision: number };
    kvs?: { key: string; value?: string }[];
  };
  return { revision: answer.header.revision, keys: new Map(answer.kvs?.map(({ key, value = '' }) => [key, value])) };
}

/** Restores every member of a stopped cluster into the directory that it is started with. */
export async function restoreAll(
  cluster: EtcdCluster,
  dir: string,
  planFile: string,
  variables: Variables,
): Promise<void> {
  for (const { name } of cluster.members) {
    const args = ['restore', '--from-plan', planFile, '--member', name, '--data-dir', join(dir, name)];
    await jsonOf<Restored>(args, variables);
  }
}

import { randomBytes } from 'node:crypto';
import type { ContainerClient } from '@azure/storage-blob';
import { parseMetadata, type SnapshotRecord } from '../../src/snapshot/record.ts';

export interface Stored {
  /** Put before the name. */
  readonly prefix?: string;
  /** Of the record, besides the usual: metadata as the service has it; what is undefined is left out. */
  readonly metadata?: Readonly<Record<string, string | undefined>>;
  /** Instead of the name that such a snapshot has. */
  readonly name?: string;
  /** Bytes of the blob, where it is not as large as its record says. */
  readonly size?: number;
}

/** Bytes of the database, which is none: the smallest that can be. */
const DATABASE_SIZE = 4096;

/** Stores a blob that looks like a snapshot of cluster c1 with its whole record; returns its name. */
export async function putSnapshot(
  container: ContainerClient,
  takenAt: Date,
  { prefix = '', metadata = {}, name = nameOf(takenAt), size = DATABASE_SIZE + 32 }: Stored = {},
): Promise<string> {
  const all = Object.entries({ ...recordOf(takenAt), ...metadata });
  await container.getBlockBlobClient(`${prefix}${name}`).upload(Buffer.alloc(size), size, {
    metadata: Object.fromEntries(all.flatMap(([key, value]) => (value === undefined ? [] : [[key, value]]))),
  });
  return `${prefix}${name}`;
}

/** The name of a snapshot taken then, without a prefix. */
export function nameOf(takenAt: Date): string {
  const digits = takenAt.toISOString().replace(/\D/g, '');
  return `kubernetes-etcd-snapshot_${digits.slice(0, 8)}_${digits.slice(8, 14)}.db`;
}

/** As large as that of a cluster with three members. */
export function recordOf(takenAt: Date): Record<string, string> {
  const members = ['8e9e05c52164694d', '91bc3c398fb3c146', 'fd422379fda50e48'].map((id, index) => {
    return { id, name: `etcd-${index}`, peerURLs: [`https://10.255.255.${index}:2380`], isLearner: false };
  });
  return {
    sha256: 'ab'.repeat(32),
    hash: '4e933c72',
    revision: '1000',
    totalkeys: '900',
    livekeys: '800',
    totalsize: String(DATABASE_SIZE),
    etcdversion: '3.5.30',
    clusterid: 'c1',
    memberid: '8e9e05c52164694d',
    members: JSON.stringify(members),
    takenat: takenAt.toISOString(),
    uploadid: randomBytes(16).toString('hex'),
    tool: 'etcd-snapshot/0.1.0',
  };
}

/** Stores so many of them, an hour apart, the newest taken an hour ago. */
export async function putHourly(container: ContainerClient, count: number, stored: Stored = {}): Promise<void> {
  const now = Date.now();
  let next = 1;
  const putNext = async (): Promise<void> => {
    while (next <= count) await putSnapshot(container, new Date(now - next++ * 3_600_000), stored);
  };
  await Promise.all(Array.from({ length: 16 }, putNext));
}

/** Undefined for metadata that is not a well-formed record of this tool. */
export function fromMetadata(metadata: Readonly<Record<string, unknown>> | undefined): SnapshotRecord | undefined {
  return parseMetadata(metadata).record;
}

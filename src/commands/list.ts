import type { SnapshotRecord } from '../snapshot/record.ts';
import type { StoredBlob } from '../store/store.ts';
import { drawTable, humanAge, humanSize } from '../table.ts';
import { type Context, openStore, type Outcome } from './command.ts';

/** The blobs under the prefix, the newest first, with their records. */
export async function list(context: Context): Promise<Outcome> {
  const store = await openStore(context);
  const blobs = await store.list();
  const now = Date.now();
  const headings = ['NAME', 'AGE', 'SIZE', 'REVISION', 'KEYS', 'ETCD', 'CLUSTER'];
  const rows = blobs.map(({ name, size, takenAt, storedAt, record }) => [
    name,
    humanAge(now - (takenAt ?? storedAt).getTime()),
    humanSize(size),
    ...(record === undefined ? ['no record', '-', '-', '-'] : recordCells(record)),
  ]);
  return {
    text: rows.length === 0 ? 'There is no snapshot.' : drawTable(headings, rows, ['NAME']),
    json: blobs.map(entry),
  };
}

function entry({ name, size, storedAt, takenAt, record }: StoredBlob): object {
  return {
    name,
    size,
    storedAt: storedAt.toISOString(),
    takenAt: takenAt?.toISOString() ?? null,
    record: record !== undefined,
    ...(record === undefined ? {} : { ...record, takenAt: record.takenAt.toISOString() }),
  };
}

function recordCells({ revision, liveKeys, totalKeys, etcdVersion, clusterId }: SnapshotRecord): string[] {
  return [String(revision), String(liveKeys ?? totalKeys), etcdVersion, clusterId];
}

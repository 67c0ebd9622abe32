import { BlobStore, type StoredBlob } from '../store/store.ts';
import { drawTable, humanAge, humanSize } from '../table.ts';
import type { Context, Outcome } from './command.ts';

/** The blobs under the prefix, the newest first, with their records. */
export async function list({ config, log, signal }: Context): Promise<Outcome> {
  const store = await BlobStore.open(config.storage, signal, log);
  const blobs = await store.list();
  const now = Date.now();
  const headings = ['NAME', 'AGE', 'SIZE', 'ETCD', 'CLUSTER'];
  const rows = blobs.map(({ name, size, takenAt, storedAt, record }) => [
    name,
    humanAge(now - (takenAt ?? storedAt).getTime()),
    humanSize(size),
    ...(record === undefined ? ['no record', '-'] : [record.etcdVersion, record.clusterId]),
  ]);
  return { text: rows.length === 0 ? 'There is no snapshot.' : drawTable(headings, rows), json: blobs.map(entry) };
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

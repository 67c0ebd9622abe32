import { createHash } from 'node:crypto';
import { readConfig } from '../../src/config/config.ts';
import { createLog } from '../../src/log.ts';
import type { SnapshotRecord } from '../../src/snapshot/record.ts';
import type { VerifiedSnapshot } from '../../src/snapshot/verify/verdict.ts';
import { SnapshotVerifier } from '../../src/snapshot/verify/verifier.ts';
import type { Deadlines } from '../../src/store/requests.ts';
import { BlobStore } from '../../src/store/store.ts';
import type { Checksums } from '../../src/store/upload-options.ts';
import type { Committed, StagedUpload } from '../../src/store/upload.ts';
import { SNAPSHOT } from './fixtures.ts';
import type { Variables } from './process.ts';
import { ETCD_PIECE } from './verify.ts';

/** Of the fixture; where another snapshot is stored, only the upload id must be right. */
export const RECORD: Omit<SnapshotRecord, 'uploadId'> = {
  hash: '4e933c72',
  revision: 293,
  totalKeys: 287,
  liveKeys: 350,
  sha256: createHash('sha256').update(SNAPSHOT).digest('hex'),
  totalSize: SNAPSHOT.length - 32,
  etcdVersion: '3.5.30',
  storageVersion: undefined,
  clusterId: 'c1',
  memberId: 'a1',
  members: [],
  takenAt: new Date('2026-01-01T00:00:00Z'),
  tool: 'etcd-snapshot/0',
};

/** The store that these variables of the worker mean; the second place, if they describe only that. */
export async function openStore(
  variables: Variables,
  signal = new AbortController().signal,
  deadlines?: Deadlines,
): Promise<BlobStore> {
  const place = variables['SNAPSHOT_AZURE_CONTAINER_NAME'] === undefined ? 'copy' : 'first';
  const { storage } = readConfig(variables, { etcd: false, storage: true, place });
  if (storage === undefined) throw new Error('no storage');
  return BlobStore.open(
    storage,
    signal,
    createLog('json', 'error', () => {}),
    deadlines === undefined ? {} : { deadlines },
  );
}

export function verified(file: Buffer): VerifiedSnapshot {
  const verifier = new SnapshotVerifier();
  verifier.push(file);
  const verdict = verifier.finish();
  if (!verdict.ok) throw new Error(JSON.stringify(verdict.problems));
  return verdict.snapshot;
}

export async function write(upload: StagedUpload, file: Buffer, from = 0): Promise<void> {
  for (let at = from; at < file.length; at += ETCD_PIECE) await upload.write(file.subarray(at, at + ETCD_PIECE));
}

export async function commit(upload: StagedUpload, file: Buffer, record = RECORD): Promise<Committed> {
  return upload.commit(verified(file), { ...record, uploadId: upload.uploadId });
}

/** Stores a whole snapshot. */
export async function put(
  store: BlobStore,
  file: Buffer,
  name: string,
  record = RECORD,
  checksums?: Checksums,
): Promise<StagedUpload> {
  const upload = store.startUpload(name, checksums);
  await write(upload, file);
  await commit(upload, file, record);
  return upload;
}

export async function readAll(store: BlobStore, name: string, etag: string, size: number, from = 0): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of store.read(name, etag, size, from)) pieces.push(Buffer.from(piece));
  return Buffer.concat(pieces);
}

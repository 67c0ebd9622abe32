import { connectAll } from '../etcd/connect.ts';
import { chooseMembers } from '../etcd/choose.ts';
import { snapshotName } from '../snapshot/name.ts';
import { toolName } from '../snapshot/record.ts';
import { BlobStore } from '../store/store.ts';
import { drawTable, humanSize } from '../table.ts';
import { applyRetention } from '../backup/retention.ts';
import { proveStored } from '../backup/prove.ts';
import { streamFirstSound } from '../backup/stream.ts';
import type { Context, Outcome } from './command.ts';
import { Stopwatch } from '../backup/stopwatch.ts';

/**
 * The whole job: choose a member, stream its snapshot through the verifier into staged blocks, commit what passed, read back
 * what was stored, apply retention. Every step throws where it cannot keep its promise, and then nothing later happens.
 */
export async function backup({ config, log, signal, version }: Context): Promise<Outcome> {
  const watch = new Stopwatch();
  const takenAt = new Date();
  const name = snapshotName(config.storage.prefix, takenAt);

  const connections = await connectAll(config.etcd);
  const store = await BlobStore.open(config.storage, signal, log);
  await watch.time('storage', store.demandFree(name));
  const candidates = await watch.time('members', chooseMembers(connections, log));

  const { source, members, snapshot, upload } = await watch.time(
    'stream',
    streamFirstSound(candidates, () => store.startUpload(name), log, signal),
  );
  const record = {
    ...snapshot.facts,
    etcdVersion: source.version,
    clusterId: source.clusterId,
    memberId: source.memberId,
    members,
    takenAt,
    tool: toolName(version),
  };
  const { etag } = await watch.time('commit', upload.commit(snapshot, record));
  log.info('the snapshot is stored', { name, size: record.size, sha256: record.sha256 });

  if (config.readBack === 'full') await watch.time('readBack', proveStored(store, upload, name, etag, snapshot));
  else log.warn('the stored blob is not read back, as SNAPSHOT_READ_BACK=off demands', { name });

  const retention = await watch.time('retention', applyRetention(store, name, record.clusterId, config.keepLast, log));

  const { size, sha256, totalSize, etcdVersion, clusterId, memberId } = record;
  const table = drawTable(['HASH', 'REVISION', 'TOTAL KEYS', 'TOTAL SIZE'], [['-', '-', '-', humanSize(totalSize)]]);
  return {
    text: retention.shortfall === undefined ? `${table}\nBackup ${name} uploaded successfully!` : table,
    json: {
      name,
      container: store.containerName,
      size,
      sha256,
      totalSize,
      etcdVersion,
      clusterId,
      memberId,
      endpoint: source.endpoint,
      takenAt: takenAt.toISOString(),
      durationsMs: watch.durations(),
      retention: { kept: retention.kept, removed: retention.removed },
    },
    ...(retention.shortfall === undefined ? {} : { shortfall: retention.shortfall }),
  };
}

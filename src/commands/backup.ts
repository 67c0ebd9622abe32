import { streamFromFirstValidMember } from '../backup/attempts.ts';
import { finishBackup } from '../backup/finish.ts';
import { findFreeName } from '../backup/free-name.ts';
import { makeRecord } from '../backup/make-record.ts';
import { backupJson, backupSamples } from '../backup/outcome.ts';
import { readBackStored } from '../backup/read-back.ts';
import { connectAll } from '../etcd/connection.ts';
import { chooseMembers } from '../etcd/select-member.ts';
import { Warnings } from '../log.ts';
import { Stopwatch } from '../progress.ts';
import { humanSeconds, humanSize } from '../text.ts';
import { type Context, openStore, type Outcome } from './command.ts';
import { statusTable } from './tables.ts';

/**
 * The whole job: choose a member, stream its snapshot through the verifier into staged blocks, commit what passed, read back
 * what was stored, compare it with the earlier snapshots, apply retention. A step that cannot keep its promise throws, and
 * no later step happens.
 */
export async function backup(context: Context): Promise<Outcome & { readonly name: string }> {
  const { config, log, signal, startProgress, version } = context;
  const watch = new Stopwatch();
  const warnings = new Warnings(log);

  const { configured, clientCertificateExpiresAt } = await connectAll(config.etcd, new Date(), warnings);
  const { candidates, ranks } = await watch.time('members', chooseMembers(configured, log, warnings));
  const store = await openStore(context);
  const { name, takenAt } = await watch.time('storage', findFreeName(store, signal));

  const startUpload = () => store.startUpload(name, config.readBack === 'full');
  const streaming = streamFromFirstValidMember(candidates, { ...context, startUpload, warnings });
  const streamed = await watch.time('stream', streaming);
  const { snapshot, upload, anomalies } = streamed;

  const record = makeRecord(streamed, takenAt, version);
  const { etag } = await watch.time('commit', upload.commit(snapshot, record));
  const committedAt = new Date();
  log.info('stored snapshot', { name, size: snapshot.facts.size, sha256: record.sha256 });

  const stored = { name, etag, upload, snapshot };
  const readBack = await watch.time('readBack', readBackStored(store, stored, config.readBack, startProgress));
  if (readBack.state === 'done') log.info('read back stored snapshot: it is the same', { name });
  if (readBack.state === 'off') log.warn('stored snapshot is not read back (SNAPSHOT_READ_BACK=off)', { name });

  const fresh = { name, etag, uploadId: upload.uploadId, committedAt, readBack, anomalies };
  const finishing = finishBackup(store, fresh, config.retention, warnings, log);
  const result = await watch.time('retention', finishing);

  const { partialFailure } = result;
  const durationsMs = watch.durations();
  const container = store.containerName;
  const done = {
    name,
    container,
    record,
    streamed,
    readBack,
    result,
    durationsMs,
    ranks,
    warnings: warnings.sentences,
  };
  const success = `Backup ${name} uploaded successfully!`;
  const table = statusTable(snapshot.facts);
  return {
    name,
    text: partialFailure === undefined ? `${table}\n${success}` : table,
    json: backupJson(done),
    summary: `${success} ${humanSize(snapshot.facts.size)}, revision ${record.revision}, ${humanSeconds(durationsMs.total)}`,
    measured: backupSamples(done, clientCertificateExpiresAt),
    ...(partialFailure && { partialFailure }),
  };
}

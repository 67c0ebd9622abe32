import { UsageError } from '../errors.ts';
import type { ClusterIds } from '../snapshot/inventory.ts';
import { isClusterId } from '../snapshot/record.ts';
import {
  invalidSnapshot,
  isFileName,
  openBlob,
  openFile,
  openNewest,
  readThrough,
  type SnapshotSource,
} from '../snapshot/source.ts';
import type { SnapshotFacts } from '../snapshot/verify/verifier.ts';
import { printable } from '../text.ts';
import { type Arguments, type Context, openStore } from './command.ts';

/** The file or the stored snapshot that an operand means; `options` of the command. @throws WorkerError (no such snapshot), StorageError */
export async function openSource(
  context: Context,
  operand: string,
  options: Arguments['options'] = {},
): Promise<SnapshotSource> {
  const source = isFileName(operand)
    ? await openFile(operand, context.signal, { skipHashCheck: options['skip-hash-check'] === true })
    : await openBlob(await openStore(context), operand);
  return chosen(source, context);
}

/** Says in the log which snapshot was taken, and when its record does not count: its bytes may be a snapshot all the same. */
export function chosen(source: SnapshotSource, { log, config }: Context): SnapshotSource {
  const { name, etag, problem } = source;
  if (etag === undefined) log.info('reading a file of this machine', { file: name });
  else log.info('reading a stored snapshot', { name, container: config.storage?.container ?? null });
  if (problem !== undefined) log.warn(`the record of ${name} is ignored: ${problem}`);
  return source;
}

/**
 * The same, or the newest proven snapshot of the cluster where nothing is named.
 * @throws WorkerError (no such snapshot), StorageError, UsageError
 */
export async function openNamedOrNewest(
  context: Context,
  operand: string | undefined,
  options: Arguments['options'],
): Promise<SnapshotSource> {
  const ids = clusterIdsFor(context, options);
  if (operand === undefined) return chosen(await openNewest(await openStore(context), ids, context.log), context);
  const source = await openSource(context, operand, options);
  assertOfCluster(source, ids);
  return source;
}

/** Which cluster is meant, where no snapshot is named. @throws UsageError */
export function clusterIdsFor({ config }: Context, options: Arguments['options']): ClusterIds {
  const [clusterId] = readClusterIds(options['cluster-id']);
  // An id that was named means that cluster, and no earlier life of it.
  return clusterId === undefined ? config.retention : { clusterId, previousClusterIds: [] };
}

/** @throws UsageError when a snapshot is named, and a cluster that it is not of */
export function assertOfCluster({ name, record }: SnapshotSource, { clusterId }: ClusterIds): void {
  if (clusterId === undefined || record?.clusterId === clusterId) return;
  const whose =
    record === undefined ? 'has no record, so its cluster is not known' : `is of cluster ${record.clusterId}`;
  throw new UsageError(`${printable(name)} ${whose}.`, 'Leave out --cluster-id where a snapshot is named.');
}

/** Of an option that may be repeated. @throws UsageError */
export function readClusterIds(option: unknown): string[] {
  const ids = option === undefined ? [] : [option].flat().map(String);
  const wrong = ids.find((id) => !isClusterId(id));
  if (wrong === undefined) return ids;
  throw new UsageError(
    `--cluster-id ${printable(wrong)} is no cluster id.`,
    '`etcd-snapshot list` shows the ids, in lower-case hex.',
  );
}

/** Reads all of a snapshot. @throws VerificationError when it is corrupt, or not what its record says */
export async function readVerified(context: Context, source: SnapshotSource): Promise<SnapshotFacts> {
  const verdict = await readThrough(source, context);
  const isRecorded = source.record === undefined || source.record.sha256 === verdict.report.sha256;
  if (verdict.ok && isRecorded) return verdict.snapshot.facts;
  const hint = `\`etcd-snapshot verify ${source.name}\` shows all that is wrong.`;
  if (verdict.ok) throw invalidSnapshot(source, 'its sha256 is not that of its record', undefined, hint);
  throw invalidSnapshot(source, verdict.faults[0].message, verdict.kind, hint);
}

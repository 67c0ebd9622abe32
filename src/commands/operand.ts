import type { SnapshotFacts } from '../snapshot/verify.ts';
import {
  invalidSnapshot,
  isFileName,
  openBlob,
  openFile,
  openNewest,
  readThrough,
  type SnapshotSource,
} from '../source.ts';
import { type Arguments, type Context, openStore } from './command.ts';

/** The file or the stored snapshot that an operand means; `options` of the command. @throws WorkerError (no such snapshot), StorageError */
export async function openSource(
  context: Context,
  operand: string,
  options: Arguments['options'] = {},
): Promise<SnapshotSource> {
  if (!isFileName(operand)) return openBlob(await openStore(context), operand);
  return openFile(operand, context.signal, { skipHashCheck: options['skip-hash-check'] === true });
}

/** The same, or the newest proven snapshot where nothing is named. @throws WorkerError (no such snapshot), StorageError */
export async function openNamedOrNewest(
  context: Context,
  operand: string | undefined,
  options: Arguments['options'] = {},
): Promise<SnapshotSource> {
  return operand === undefined ? openNewest(await openStore(context)) : openSource(context, operand, options);
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

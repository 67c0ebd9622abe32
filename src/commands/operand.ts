import { isFileName, openBlob, openFile, openNewest, type SnapshotSource } from '../source.ts';
import { type Context, openStore } from './command.ts';

/** The file or the stored snapshot that an operand means. @throws WorkerError (no such snapshot), StorageError */
export async function openSource(context: Context, operand: string): Promise<SnapshotSource> {
  return isFileName(operand) ? openFile(operand, context.signal) : openBlob(await openStore(context), operand);
}

/** The same, or the newest proven snapshot where nothing is named. @throws WorkerError (no such snapshot), StorageError */
export async function openNamedOrNewest(context: Context, operand: string | undefined): Promise<SnapshotSource> {
  return operand === undefined ? openNewest(await openStore(context)) : openSource(context, operand);
}

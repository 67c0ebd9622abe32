import { isFileName, openBlob, openFile, openNewest, type SnapshotSource } from '../source.ts';
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

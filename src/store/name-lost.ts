import { StorageError } from '../errors.ts';
import { codeOf } from './errors.ts';

/**
 * Codes of a commit that was refused because another worker wrote to the name. Such a write also drops all blocks that it does
 * not list; a Put Blob may find blocks of another upload.
 */
export const NAME_LOST = new Set(['BlobAlreadyExists', 'ConditionNotMet', 'InvalidBlockList']);

/** Another worker wrote to the name, so that the blocks of this snapshot cannot be committed; no blob has the name now. */
export function nameContested(name: string, cause: unknown): StorageError {
  return new StorageError(
    codeOf(cause),
    `Another worker wrote to the name ${name} before this snapshot was committed; nothing was overwritten.`,
    'Run the command again. If there is no other worker, find out what deleted the blob right after it was stored.',
    cause,
  );
}

export function nameTaken(name: string, cause: unknown): StorageError {
  return new StorageError(
    'BlobAlreadyExists',
    `A blob named ${name} already exists and was not changed.`,
    'Run the command again: another run stored a snapshot under this name at the same time.',
    cause,
  );
}

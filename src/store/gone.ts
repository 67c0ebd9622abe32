import type { BlobClient } from '@azure/storage-blob';
import { codeOf } from './errors.ts';
import type { Requests } from './requests.ts';

/** Whether the service said that there is no such blob. An answer to HEAD has no body; its code may be missing, too. */
export function isMissing(error: unknown): boolean {
  return ['BlobNotFound', '404'].includes(codeOf(error));
}

/**
 * Whether a request that demanded an etag failed because the blob is gone: the service may have said no more than that the
 * etag is another, and is asked again.
 * @throws StorageError
 */
export async function isGone(
  blob: BlobClient,
  error: unknown,
  requests: Requests,
  signal?: AbortSignal,
): Promise<boolean> {
  if (codeOf(error) !== 'ConditionNotMet') return isMissing(error);
  const exists = (abortSignal: AbortSignal): Promise<boolean> => blob.exists({ abortSignal });
  return !(await requests.send(`looking for ${blob.name}`, exists, signal && { signal }));
}

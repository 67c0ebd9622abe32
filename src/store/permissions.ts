import { randomBytes } from 'node:crypto';
import type { ContainerClient } from '@azure/storage-blob';
import { StorageError } from '../errors.ts';
import { isMissing, serverTimeOf } from './errors.ts';
import type { Requests } from './requests.ts';

export const RIGHTS = ['list', 'write', 'read', 'delete'] as const;
export type Right = (typeof RIGHTS)[number];

export interface RightsProbe {
  /** Azure's error for each right that the identity lacks. */
  readonly refused: Readonly<Partial<Record<Right, StorageError>>>;
  /** Milliseconds by which this host's clock is ahead of Azure's; undefined if no answer had a date. */
  readonly aheadMs: number | undefined;
}

/** No blob has it: a request that demands it changes nothing. */
const NO_ETAG = '"0x0"';

/** Azure's codes for a request that was refused because of the blob or the condition, and not for lack of a right. */
const HAS_RIGHT = new Set(['ConditionNotMet', '412', 'BlobImmutableDueToPolicy', 'BlobImmutableDueToLegalHold']);

/**
 * Tries each right on its own and leaves nothing behind, because an immutability policy would keep it. Azure checks rights before
 * blobs: it is enough to read and delete a blob that does not exist, and to write one on a condition that cannot be met.
 * @throws StorageError for everything but a missing right
 */
export async function probeRights(
  container: ContainerClient,
  prefix: string,
  requests: Requests,
): Promise<RightsProbe> {
  const blob = container.getBlockBlobClient(`${prefix}etcd-snapshot-doctor-${randomBytes(8).toString('hex')}`);
  const tries: Readonly<Record<Right, (abortSignal: AbortSignal) => Promise<unknown>>> = {
    list: async (abortSignal) => container.listBlobsFlat({ prefix, abortSignal }).byPage({ maxPageSize: 1 }).next(),
    read: async (abortSignal) => blob.download(0, 1, { abortSignal }),
    delete: async (abortSignal) => blob.delete({ abortSignal }),
    write: async (abortSignal) => blob.upload('', 0, { conditions: { ifMatch: NO_ETAG }, abortSignal }),
  };
  const refused: Partial<Record<Right, StorageError>> = {};
  let aheadMs: number | undefined;
  for (const right of ['list', 'read', 'delete', 'write'] as const) {
    try {
      await requests.send(`trying to ${right}`, tries[right]);
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      const serverTime = serverTimeOf(error.cause);
      if (serverTime !== undefined) aheadMs = Date.now() - serverTime;
      if (isMissing(error) || HAS_RIGHT.has(error.code)) continue;
      if (!error.isForbidden) throw error;
      refused[right] = error;
    }
  }
  return { refused, aheadMs };
}

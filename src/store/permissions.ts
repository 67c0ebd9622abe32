import { randomBytes } from 'node:crypto';
import type { ContainerClient } from '@azure/storage-blob';
import { StorageError } from '../errors.ts';
import { isMissing, serverTimeOf } from './errors.ts';
import type { Requests } from './requests.ts';

export const RIGHTS = ['list', 'write', 'read', 'delete'] as const;
export type Right = (typeof RIGHTS)[number];

export interface RightsProbe {
  /** The rights that the identity has not, each with what Azure said. */
  readonly refused: Readonly<Partial<Record<Right, StorageError>>>;
  /** Milliseconds by which this host's clock is before Azure's; undefined when it did not tell its time. */
  readonly aheadMs: number | undefined;
}

/** What no blob has: a request that demands it changes nothing. */
const NO_ETAG = '"0x0"';

/** Azure's codes for what is refused on account of the blob or of the condition, and not of the right. */
const HAS_RIGHT = new Set(['ConditionNotMet', '412', 'BlobImmutableDueToPolicy', 'BlobImmutableDueToLegalHold']);

/**
 * Tries each right on its own, and leaves nothing behind: under an immutability policy nobody could delete it. Azure looks at
 * rights first and at blobs then, so reading and deleting a blob that is not there tells enough, and so does writing one on a
 * condition that cannot be met.
 * @throws StorageError for everything but a missing right
 */
export async function probeRights(
  container: ContainerClient,
  prefix: string,
  requests: Requests,
): Promise<RightsProbe> {
  const blob = container.getBlockBlobClient(`${prefix}etcd-snapshot-doctor-${randomBytes(8).toString('hex')}`);
  const refused: Partial<Record<Right, StorageError>> = {};
  let aheadMs: number | undefined;
  const may = async (right: Right, request: (abortSignal: AbortSignal) => Promise<unknown>): Promise<void> => {
    try {
      await requests.send(`trying to ${right}`, request);
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      const serverTime = serverTimeOf(error.cause);
      if (serverTime !== undefined) aheadMs = Date.now() - serverTime;
      if (isMissing(error) || HAS_RIGHT.has(error.code)) return;
      if (!error.isForbidden) throw error;
      refused[right] = error;
    }
  };
  await may('list', async (abortSignal) =>
    container.listBlobsFlat({ prefix, abortSignal }).byPage({ maxPageSize: 1 }).next(),
  );
  await may('read', async (abortSignal) => blob.download(0, 1, { abortSignal }));
  await may('delete', async (abortSignal) => blob.delete({ abortSignal }));
  const conditions = { ifMatch: NO_ETAG };
  await may('write', async (abortSignal) => blob.upload('', 0, { conditions, abortSignal }));
  return { refused, aheadMs };
}

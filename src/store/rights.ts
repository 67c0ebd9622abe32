import { randomBytes } from 'node:crypto';
import type { ContainerClient } from '@azure/storage-blob';
import { StorageError } from '../errors.ts';
import { serverTimeOf } from './errors.ts';
import { isMissing } from './gone.ts';
import type { Requests } from './requests.ts';

export const RIGHTS = ['list', 'write', 'read', 'delete'] as const;
export type Right = (typeof RIGHTS)[number];

export interface RightsProbe {
  /** The rights that the identity has not, each with what Azure said. */
  readonly refused: Readonly<Partial<Record<Right, StorageError>>>;
  /** Milliseconds by which this host's clock is before Azure's; undefined when it did not tell its time. */
  readonly aheadMs: number | undefined;
}

/**
 * Tries each right on its own. Azure looks at rights first and at blobs then, so reading and deleting a blob that is not there
 * tells enough. A blob is written only where it can be deleted again; else a block is, which nobody sees.
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
  const may = async (right: Right, request: (abortSignal: AbortSignal) => Promise<unknown>): Promise<boolean> => {
    try {
      await requests.send(`trying to ${right}`, request);
      return true;
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      const serverTime = serverTimeOf(error.cause);
      if (serverTime !== undefined) aheadMs = Date.now() - serverTime;
      if (isMissing(error)) return true;
      if (!error.isForbidden) throw error;
      refused[right] = error;
      return false;
    }
  };
  await may('list', async (abortSignal) =>
    container.listBlobsFlat({ prefix, abortSignal }).byPage({ maxPageSize: 1 }).next(),
  );
  await may('read', async (abortSignal) => blob.download(0, 1, { abortSignal }));
  const mayDelete = await may('delete', async (abortSignal) => blob.delete({ abortSignal }));
  const content = Buffer.from('A probe of `etcd-snapshot doctor`; it may be deleted.');
  await may('write', async (abortSignal) =>
    mayDelete
      ? blob.upload(content, content.length, { abortSignal })
      : blob.stageBlock(Buffer.from('probe').toString('base64'), content, content.length, { abortSignal }),
  );
  if (mayDelete) await may('delete', async (abortSignal) => blob.delete({ abortSignal }));
  return { refused, aheadMs };
}

import { type BlobClient, isRestError } from '@azure/storage-blob';
import { CREDENTIAL_NAMES } from '../config/azure.ts';
import { StorageError } from '../errors.ts';
import type { Requests } from './requests.ts';

/** Sets or removes Azure's legal hold on a blob. @throws StorageError that says which permission or setting is missing */
export async function setLegalHold(blob: BlobClient, isHeld: boolean, requests: Requests): Promise<void> {
  const doing = `${isHeld ? 'setting' : 'removing'} the legal hold of ${blob.name}`;
  try {
    await requests.send(doing, (abortSignal) => blob.setLegalHold(isHeld, { abortSignal }));
  } catch (error) {
    if (!(error instanceof StorageError)) throw error;
    const { account, container, source } = requests.endpoint;
    if (error.isForbidden) {
      throw new StorageError(
        error.code,
        `The ${CREDENTIAL_NAMES[source]} has no permission to set or remove legal holds on container ${container}.`,
        'Assign it the role Storage Blob Data Owner, or a role with the data action Microsoft.Storage/storageAccounts/blobServices/containers/blobs/immutableStorage/runAsSuperUser/action; a SAS token needs the permission i.',
        error.cause,
      );
    }
    // For requests that the service accepts here from nobody.
    const status = isRestError(error.cause) ? (error.cause.statusCode ?? 0) : 0;
    if (![400, 405, 409, 501].includes(status)) throw error;
    throw new StorageError(
      error.code,
      `Container ${container} in account ${account} does not accept legal holds for blobs. [${error.code}]`,
      'Enable version-level immutability support for the container or the account (it needs blob versioning), then run the command again.',
      error.cause,
    );
  }
}

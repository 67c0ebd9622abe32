import type { ContainerClient } from '@azure/storage-blob';
import { CREDENTIAL_NAMES } from '../config/azure.ts';
import { variableOf } from '../config/place.ts';
import { StorageError } from '../errors.ts';
import { codeOf } from './errors.ts';
import type { Requests } from './requests.ts';

/** Creates the missing container; if another worker was faster, that is a success. @throws StorageError */
export async function createContainer(container: ContainerClient, requests: Requests): Promise<void> {
  try {
    await requests.send('creating the container', (abortSignal) => container.create({ abortSignal }));
  } catch (error) {
    const code = codeOf(error);
    if (code === 'ContainerAlreadyExists') return;
    if (!code.startsWith('Authorization')) throw error;
    const { place, account, source } = requests.endpoint;
    throw new StorageError(
      code,
      `Container ${container.containerName} does not exist in account ${account}, ` +
        `and the ${CREDENTIAL_NAMES[source]} has no permission to create it.`,
      `Create the container, or check ${variableOf(place, 'SNAPSHOT_AZURE_CONTAINER_NAME')}.`,
      error,
    );
  }
}

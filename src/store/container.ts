import type { ContainerClient } from '@azure/storage-blob';
import { StorageError } from '../errors.ts';
import { codeOf } from './errors.ts';
import type { Requests } from './requests.ts';

/** Creates the container that was found missing; that another worker was faster is a success. @throws StorageError */
export async function createContainer(container: ContainerClient, requests: Requests): Promise<void> {
  const { place } = requests;
  try {
    await requests.send('creating the container', (abortSignal) => container.create({ abortSignal }));
  } catch (error) {
    if (codeOf(error) === 'ContainerAlreadyExists') return;
    if (!codeOf(error).startsWith('Authorization')) throw error;
    throw new StorageError(
      codeOf(error),
      `Container ${place.container} does not exist in account ${place.account}, and the ${place.credential} may not create it.`,
      'Create the container, or check SNAPSHOT_AZURE_CONTAINER_NAME.',
      error,
    );
  }
}

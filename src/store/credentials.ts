import { BlobServiceClient, type ContainerClient, StorageSharedKeyCredential } from '@azure/storage-blob';
import type { StorageConfig } from '../config.ts';
import { tokenCredential } from './tokens.ts';

/** The SDK's own retries are off: `Requests` does them. Its deadlines do not end a request anyway. */
const CLIENT_OPTIONS = { retryOptions: { maxTries: 1 } };

/** The client for the configured container; no request is made yet. @throws UsageError for an unusable file */
export async function openContainer({ credential, endpoint, container }: StorageConfig): Promise<ContainerClient> {
  return (await openService(credential, endpoint)).getContainerClient(container);
}

async function openService(credential: StorageConfig['credential'], endpoint: string): Promise<BlobServiceClient> {
  switch (credential.kind) {
    case 'key': {
      const sharedKey = new StorageSharedKeyCredential(credential.account, credential.key.reveal());
      return new BlobServiceClient(endpoint, sharedKey, CLIENT_OPTIONS);
    }
    case 'sas':
      return new BlobServiceClient(`${endpoint}?${credential.token.reveal()}`, undefined, CLIENT_OPTIONS);
    default:
      return new BlobServiceClient(endpoint, await tokenCredential(credential), CLIENT_OPTIONS);
  }
}

import { BlobServiceClient, type BlockBlobClient, StorageSharedKeyCredential } from '@azure/storage-blob';

/** A blob of the SDK, with nothing of ours around it, in the store of the worker's variables. */
export function blobNamed(name: string): BlockBlobClient {
  const credential = new StorageSharedKeyCredential(variable('ACCOUNT_NAME'), variable('ACCOUNT_KEY'));
  const service = new BlobServiceClient(variable('BLOB_ENDPOINT'), credential);
  return service.getContainerClient(variable('CONTAINER_NAME')).getBlockBlobClient(name);
}

function variable(rest: string): string {
  return process.env[`SNAPSHOT_AZURE_${rest}`] ?? '';
}

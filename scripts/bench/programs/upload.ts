/**
 * The limit of an upload: the SDK's own way with a file, in blocks of our size, with no sum and no check. The store is that of
 * the worker's variables.
 *
 *   node scripts/bench/programs/upload.ts FILE
 */
import { basename } from 'node:path';
import { BlobServiceClient, StorageSharedKeyCredential } from '@azure/storage-blob';

const [file = ''] = process.argv.slice(2);
const variable = (name: string): string => process.env[`SNAPSHOT_AZURE_${name}`] ?? '';
const credential = new StorageSharedKeyCredential(variable('ACCOUNT_NAME'), variable('ACCOUNT_KEY'));
const service = new BlobServiceClient(variable('BLOB_ENDPOINT'), credential);
const blob = service.getContainerClient(variable('CONTAINER_NAME')).getBlockBlobClient(basename(file));
await blob.uploadFile(file, { blockSize: 8 * 1024 * 1024, maxSingleShotSize: 8 * 1024 * 1024, concurrency: 4 });

/**
 * The limit of an upload: the SDK's own way with a file, in blocks of our size, with no sum and no check. The store is that of
 * the worker's variables.
 *
 *   node bench/programs/upload.ts FILE
 */
import { basename } from 'node:path';
import { blobNamed } from './blob.ts';

const [file = ''] = process.argv.slice(2);
const blob = blobNamed(basename(file));
await blob.uploadFile(file, { blockSize: 8 * 1024 * 1024, maxSingleShotSize: 8 * 1024 * 1024, concurrency: 4 });

/**
 * The limit of carrying a snapshot from etcd to the store at once: our client's stream into the SDK's own upload, in blocks of
 * our size, with no sum and no check. The store is that of the worker's variables.
 *
 *   node scripts/bench/programs/carry.ts ENDPOINT CA CERT KEY
 */
import { readFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import { BlobServiceClient, StorageSharedKeyCredential } from '@azure/storage-blob';
import { Connection } from '../../../src/etcd/connection.ts';
import { snapshotPieces } from '../../../src/etcd/snapshot.ts';

const [endpoint = '', ca = '', cert = '', key = ''] = process.argv.slice(2);
const variable = (name: string): string => process.env[`SNAPSHOT_AZURE_${name}`] ?? '';
const credential = new StorageSharedKeyCredential(variable('ACCOUNT_NAME'), variable('ACCOUNT_KEY'));
const service = new BlobServiceClient(variable('BLOB_ENDPOINT'), credential);
const blob = service.getContainerClient(variable('CONTAINER_NAME')).getBlockBlobClient('carried.db');
const connection = new Connection(endpoint, { ca: readFileSync(ca), cert: readFileSync(cert), key: readFileSync(key) });
const pieces = snapshotPieces(connection, new AbortController().signal);
await blob.uploadStream(Readable.from(pieces, { objectMode: false }), 8 * 1024 * 1024, 2);
connection.close();

/**
 * The limit of carrying a snapshot from etcd to the store at once: our client's stream into the SDK's own upload, in blocks of
 * our size, with no sum and no check. The store is that of the worker's variables.
 *
 *   node bench/programs/carry.ts ENDPOINT CA CERT KEY
 */
import { Readable } from 'node:stream';
import { snapshotPieces } from '../../src/etcd/snapshot-stream.ts';
import { blobNamed } from './blob.ts';
import { connectTo } from './connect.ts';

const blob = blobNamed('carried.db');
const connection = connectTo(process.argv.slice(2));
const pieces = snapshotPieces(connection, new AbortController().signal);
await blob.uploadStream(Readable.from(pieces, { objectMode: false }), 8 * 1024 * 1024, 2);
connection.close();

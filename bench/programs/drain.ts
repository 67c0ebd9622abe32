/**
 * The limit of our client: takes etcd's stream and does nothing with it.
 *
 *   node bench/programs/drain.ts ENDPOINT CA CERT KEY
 */
import { snapshotPieces } from '../../src/etcd/snapshot-stream.ts';
import { connectTo } from './connect.ts';

const connection = connectTo(process.argv.slice(2));
let size = 0;
for await (const piece of snapshotPieces(connection, new AbortController().signal)) size += piece.length;
connection.close();
console.log(size);

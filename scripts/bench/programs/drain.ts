/**
 * The limit of our client: takes etcd's stream and does nothing with it.
 *
 *   node scripts/bench/programs/drain.ts ENDPOINT CA CERT KEY
 */
import { readFileSync } from 'node:fs';
import { Connection } from '../../../src/etcd/connection.ts';
import { snapshotPieces } from '../../../src/etcd/snapshot.ts';

const [endpoint = '', ca = '', cert = '', key = ''] = process.argv.slice(2);
const connection = new Connection(endpoint, { ca: readFileSync(ca), cert: readFileSync(cert), key: readFileSync(key) });
let size = 0;
for await (const piece of snapshotPieces(connection, new AbortController().signal)) size += piece.length;
connection.close();
console.log(size);

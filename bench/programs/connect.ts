import { readFileSync } from 'node:fs';
import { Connection } from '../../src/etcd/connection.ts';

/** A connection to etcd by what the programs are called with: `ENDPOINT CA CERT KEY`. */
export function connectTo([endpoint = '', ca = '', cert = '', key = '']: readonly string[]): Connection {
  return new Connection(endpoint, { ca: readFileSync(ca), cert: readFileSync(cert), key: readFileSync(key) });
}

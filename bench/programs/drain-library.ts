/**
 * The limit of etcd3's own client: takes etcd's stream and does nothing with it.
 *
 *   node bench/programs/drain-library.ts ENDPOINT CA CERT KEY
 */
import { readFileSync } from 'node:fs';
import { Etcd3 } from 'etcd3';

const [hosts = '', ca = '', cert = '', key = ''] = process.argv.slice(2);
const credentials = { rootCertificate: readFileSync(ca), certChain: readFileSync(cert), privateKey: readFileSync(key) };
const grpcOptions = { 'grpc-node.flow_control_window': 8 * 1024 * 1024 };
const client = new Etcd3({ hosts, credentials, grpcOptions });
const stream = await client.maintenance.snapshot();
let size = 0;
stream.on('data', ({ blob }: { readonly blob: Uint8Array }) => (size += blob.length));
await new Promise<void>((resolve) => stream.on('end', resolve));
client.close();
console.log(size);

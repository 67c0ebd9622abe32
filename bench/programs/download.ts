/**
 * The limit of a download: our reader into a file, with no check. The store is that of the worker's variables.
 *
 *   node bench/programs/download.ts NAME FILE
 */
import { open } from 'node:fs/promises';
import { readConfig } from '../../src/config/config.ts';
import { createLog } from '../../src/log.ts';
import { BlobStore } from '../../src/store/store.ts';

const [name = '', path = ''] = process.argv.slice(2);
const { storage } = readConfig(process.env, { etcd: false, storage: true });
if (storage === undefined) throw new Error('no storage');
const log = createLog('json', 'error', (line) => process.stderr.write(line));
const store = await BlobStore.open(storage, new AbortController().signal, log);
const { etag = '', size = 0 } = (await store.find(name)) ?? {};
const file = await open(path, 'w');
for await (const piece of store.read(name, etag, size)) await file.write(piece);
await file.close();
process.exit(0);

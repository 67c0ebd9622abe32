import { makeAuthority, trust } from '../test/support/certificates.ts';
import { findEtcd } from '../test/support/etcd.ts';
import { Source } from './source.ts';
import { BlobTarget } from './target.ts';
import { bytesOf } from './figures.ts';
import { writeFileSync } from 'node:fs';
const [size = '3MB', store = 'https', out = '/tmp/rig/env'] = process.argv.slice(2);
const tls = await makeAuthority(`${out}.certs`);
await trust?.(tls);
const tools = findEtcd().find(({ etcd }) => etcd.includes('3.6')) ?? findEtcd().at(-1)!;
const source = await Source.start({ tools, tls, dir: `/dev/shm/rig-${process.pid}`, size: bytesOf(size) });
const target = await BlobTarget.start(store as 'https', `${out}.store`, tls);
await target.clear();
const v = { ...source.cluster.variables, ...target.variables };
writeFileSync(
  out,
  Object.entries(v)
    .map(([k, x]) => `export ${k}='${x}'\n`)
    .join('') + `export PLACE='${source.place.join(' ')}'\n`,
);
console.log('ready', process.pid);
process.on('SIGTERM', async () => {
  await Promise.all([source.stop(), target.stop()]);
  process.exit(0);
});
setInterval(() => {}, 1e6);

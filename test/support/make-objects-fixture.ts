// Makes test/fixtures/kubernetes-objects: a snapshot of a real cluster, what its API server returned for each object, and objects of all
// types from test/tools/objects. Needs Go, and `npm run test:kubernetes` to have built Kubernetes.
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import { jsonText } from '../../src/objects/json-text.ts';
import { objects } from '../tools/objects/make-table.ts';
import { fixtureLines } from './object-fixtures.ts';
import { temporaryFolder } from './process.ts';
import { allObjects, encryptionConfig, OBJECTS, startWithObjects } from './stored-objects.ts';

const dir = temporaryFolder('objects-fixture');
const { etcd, api } = await startWithObjects(dir);
try {
  const before = await etcd.etcdctl('get', '/registry/pods/shop', '--prefix', '-w', 'json');
  const answers = await allObjects(api);
  const file = join(dir, 'snapshot.db');
  await etcd.etcdctl('snapshot', 'save', file);
  if (before === '') throw new Error('no pods');
  writeFileSync(join(OBJECTS, 'cluster.snap.gz'), gzipSync(readFileSync(file), { level: 9 }));
  writeFileSync(join(OBJECTS, 'answers.jsonl.br'), brotliCompressSync(`${answers.join('\n')}\n`));
  writeFileSync(join(OBJECTS, 'encryption.json'), `${encryptionConfig('identity')}\n`);
} finally {
  await api.stop();
  await etcd.stop();
}
// Base64 of CBOR after each object.
const widgets = fixtureLines('answers.jsonl.br').filter(({ kind }) => kind === 'Widget');
const lines = widgets.map((widget) => jsonText(widget).replaceAll(/\n */g, ''));
const encoded = execFileSync('go', ['run', './cbor'], {
  ...{ cwd: join(import.meta.dirname, '..', 'tools', 'objects'), input: `${lines.join('\n')}\n`, encoding: 'utf8' },
});
writeFileSync(join(OBJECTS, 'widgets.cbor.json'), `${JSON.stringify(encoded.trim().split('\n'))}\n`);
for (const seed of ['1', '2']) {
  writeFileSync(join(OBJECTS, `every-type-${seed}.jsonl.br`), brotliCompressSync(objects('go.mod', 'fill', seed)));
}

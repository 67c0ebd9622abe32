import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { encryptionKeysIn } from '../../src/bundle/encryption-config.ts';
import { directoryOf, identityOf } from '../../src/objects/identity.ts';
import { ObjectIndex } from '../../src/objects/object-index.ts';
import { textAt } from '../../src/objects/object-values.ts';
import { readObject, type StoredValue } from '../../src/objects/stored-value.ts';
import { someOf } from '../../src/snapshot/keys.ts';
import { keyEntry } from '../support/key-entry.ts';
import { clusterSnapshot, fixtureLines, liveValues } from '../support/object-fixtures.ts';
import { OBJECTS } from '../support/stored-objects.ts';

const keys = encryptionKeysIn(readFileSync(join(OBJECTS, 'encryption.json'), 'utf8')) ?? [];

/** The types of each directory, by the objects that are read in full. */
function typesOf(values: readonly StoredValue[]): Record<string, string[]> {
  const found = Map.groupBy(values, ({ key }) => directoryOf(key.toString('latin1')));
  return Object.fromEntries(
    [...found].map(([prefix, stored]) => {
      const objects = stored.map((value) => readObject(value, keys)).filter((object) => object !== undefined);
      return [
        prefix,
        [...new Set(objects.map((object) => `${textAt(object, 'apiVersion')} ${textAt(object, 'kind')}`))],
      ];
    }),
  );
}

t.test('the index finds the same types as reading each object in full', (t) => {
  const everyType = [1, 2].flatMap((seed) => fixtureLines(`every-type-${seed}.jsonl.br`));
  const filled = everyType.map((line, number) => ({
    key: Buffer.from(`/registry/${textAt(line, 'apiVersion')}/${textAt(line, 'kind')}/objects/${number}`),
    value: Buffer.from(textAt(line, 'value'), 'base64'),
    modRevision: 1,
  }));
  const values = [...liveValues(clusterSnapshot()), ...filled];
  const index = new ObjectIndex(keys);
  for (const { key, value, modRevision } of values) index.visit(keyEntry(key, value, modRevision), 0);
  const directories = index.directories();
  t.strictSame(
    Object.fromEntries(
      directories.map(({ prefix, types }) => [
        prefix,
        [...types].map(({ apiVersion, kind }) => `${apiVersion} ${kind}`),
      ]),
    ),
    typesOf(values),
  );
  t.ok(directories.length > 200);

  // The objects of the cluster come first: those that are filled have a namespace, whatever their type is.
  const identities = values.toReversed().flatMap((value) => identityOf(readObject(value, keys) ?? {}) ?? []);
  const named = new Map(
    identities.map(({ apiVersion, kind, namespace }) => [`${apiVersion} ${kind}`, namespace !== '']),
  );
  t.same(
    new Map(index.resources().map(({ apiVersion, kind, isNamespaced }) => [`${apiVersion} ${kind}`, isNamespaced])),
    named,
  );
  t.match(
    index.resources().find(({ kind }) => kind === 'Widget'),
    { plural: 'widgets', shortNames: ['wd'], isNamespaced: true },
  );
  t.end();
});

t.test('where entries are, deleted and older ones included; values of which no type is known', (t) => {
  const index = new ObjectIndex([]);
  const value = Buffer.from('{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"n"}}');
  const put = (key: string, run: number, stored: Buffer | undefined): void =>
    index.visit(keyEntry(key, stored, 1), run);
  put('/registry/configmaps/n/a', 0, value);
  put('/registry/configmaps/n/a', 4, undefined);
  put('/registry/configmaps/n/b', 4, value);
  put('/registry/configmaps/m/a', 2, value);
  put('/registry/configmaps/m/b', 2, Buffer.from('k8s:enc:aesgcm:v1:key1:x'));
  put('/registry/configmaps/m/c', 2, Buffer.from('k8s\0\n\u00ff', 'latin1'));
  put('compact_rev_key', 6, Buffer.from('17'));
  t.match(index.directories(), [
    { prefix: '', isUnclear: true, runs: [6] },
    { prefix: '/registry/configmaps/m/', namespace: 'm', isUnclear: true, runs: [2] },
    { prefix: '/registry/configmaps/n/', namespace: 'n', isUnclear: false, runs: [0, 4], size: 2 * value.length },
  ]);
  const pages = { pageSize: 4096, runs: Uint32Array.of(10, 0, 11, 2, 20, 0), image: undefined };
  t.strictSame(someOf(pages, new Set([4, 0])).runs, Uint32Array.of(10, 0, 20, 0));
  t.end();
});

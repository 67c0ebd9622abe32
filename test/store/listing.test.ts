import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { BlobStore } from '../../src/store/store.ts';
import { ofCopy } from '../support/azurite.ts';
import { type BlobAnswer, BlobService } from '../support/blob-service.ts';
import { nameOf, recordOf } from '../support/catalogue.ts';
import { makeAuthority, trust } from '../support/certificates.ts';
import { temporaryFolder } from '../support/process.ts';
import { openStore } from '../support/store.ts';

const dir = temporaryFolder('listing');
const authority = await makeAuthority(join(dir, 'certs'));
await trust(authority);

const TAKEN_AT = new Date('2026-01-01T00:00:00.000Z');
const NAME = nameOf(TAKEN_AT);
const DATE = 'Thu, 01 Jan 2026 00:00:01 GMT';
const SIZE = 4096 + 32;

/** The store that a server gives these pages to, one after the other, and the last one for ever. */
async function storeOf(
  t: Test,
  pages: readonly string[],
  place: 'first' | 'copy' = 'first',
): Promise<{ store: BlobStore; service: BlobService }> {
  const service = await BlobService.start(
    authority,
    pages.map((body): BlobAnswer => ({ status: 200, body })),
  );
  t.teardown(async () => service.stop());
  const variables = {
    SNAPSHOT_AZURE_ACCOUNT_NAME: 'testaccount',
    SNAPSHOT_AZURE_ACCOUNT_KEY: Buffer.alloc(64).toString('base64'),
    SNAPSHOT_AZURE_CONTAINER_NAME: 'listing',
    SNAPSHOT_AZURE_BLOB_ENDPOINT: service.url,
  };
  const store = await openStore(place === 'first' ? variables : ofCopy(variables));
  return { store, service };
}

function page(blobs: string, marker = ''): string {
  const next = `<NextMarker>${marker}</NextMarker>`;
  return `<?xml version="1.0"?><EnumerationResults ContainerName="listing"><Blobs>${blobs}</Blobs>${next}</EnumerationResults>`;
}

const fields = (all: Readonly<Record<string, string | undefined>>): string =>
  Object.entries(all)
    .map(([name, value]) => (value === undefined ? '' : `<${name}>${value.replaceAll('"', '&quot;')}</${name}>`))
    .join('');

function blob(more: { name?: string | undefined; properties?: object; metadata?: object } = {}): string {
  const properties = { 'Creation-Time': DATE, 'Last-Modified': DATE, Etag: '0x8D1', 'Content-Length': String(SIZE) };
  const metadata = { ...recordOf(TAKEN_AT), ...more.metadata };
  const name = 'name' in more ? more.name : NAME;
  return `<Blob>${fields({ Name: name })}<Properties>${fields({ ...properties, ...more.properties })}</Properties><Metadata>${fields(metadata)}</Metadata></Blob>`;
}

t.test('a list as it should be, over several pages and an empty one, the newest first', async (t) => {
  const pages = [
    page(blob(), 'a'),
    page('', 'b'),
    page(blob({ name: 'notes.txt', metadata: { tool: undefined } }), 'c'),
    page(''),
  ];
  const { store, service } = await storeOf(t, pages);
  const listed = await store.list();
  t.match(
    listed.map(({ name, record }) => [name, record?.takenAt]),
    [
      ['notes.txt', undefined],
      [NAME, TAKEN_AT],
    ],
  );
  t.equal(service.times.length, 4);
});

t.test('a list that has no end is left at once', async (t) => {
  for (const [what, pages, most] of [
    ['the same marker for ever', [page(blob(), 'again')], 2],
    ['a marker that leads to itself later', [page(blob(), 'a'), page(blob(), 'b'), page(blob(), 'b')], 3],
    ['a circle of two', [page(blob(), 'a'), page(blob(), 'b'), page(blob(), 'a')], 3],
    ['a circle of three', ['a', 'b', 'c', 'a'].map((marker) => page('', marker)), 4],
  ] as const) {
    const { store, service } = await storeOf(t, pages);
    const end = { exitCode: 12, code: 'InvalidResponse', message: /the list of blobs has no end: its marker repeats/ };
    await t.rejects(store.list(), end, what);
    t.ok(service.times.length <= most, `${service.times.length} requests`);
    const drills = await storeOf(t, pages);
    await t.rejects(drills.store.lastDrill(), end, what);
  }
});

t.test('a page with more blobs than requested', async (t) => {
  const { store } = await storeOf(t, [page(blob().repeat(501))]);
  await t.rejects(store.list(), {
    exitCode: 12,
    code: 'InvalidResponse',
    message: /501 blobs instead of at most 500/,
  });
});

t.test('blobs without what every blob has', async (t) => {
  const cases: Record<string, string> = {
    'no properties': `<Blob><Name>${NAME}</Name></Blob>`,
    'empty properties': `<Blob><Name>${NAME}</Name><Properties /></Blob>`,
    'no name': blob({ name: undefined }),
    'an empty name': blob({ name: '' }),
    'a name that is too long': blob({ name: 'x'.repeat(1025) }),
    'no length': blob({ properties: { 'Content-Length': undefined } }),
    'a length that is none': blob({ properties: { 'Content-Length': 'many' } }),
    'a negative length': blob({ properties: { 'Content-Length': '-1' } }),
    'no etag': blob({ properties: { Etag: undefined } }),
    'an endless etag': blob({ properties: { Etag: 'x'.repeat(300) } }),
    'no date': blob({ properties: { 'Creation-Time': undefined, 'Last-Modified': undefined } }),
    'a date that is none': blob({ properties: { 'Creation-Time': 'yesterday' } }),
    'nothing at all': '<Blob />',
  };
  for (const [what, broken] of Object.entries(cases)) {
    const { store } = await storeOf(t, [page(blob() + broken)]);
    await t.rejects(store.list(), { name: 'StorageError', exitCode: 12, hint: /./ }, what);
  }
});

t.test('an invalid answer of the second place names its variables', async (t) => {
  const broken = page(blob({ properties: { Etag: undefined } }));
  const first = await storeOf(t, [broken]);
  await t.rejects(first.store.list(), { code: 'InvalidResponse', hint: / SNAPSHOT_AZURE_BLOB_ENDPOINT / });
  const hint = / SNAPSHOT_COPY_AZURE_BLOB_ENDPOINT /;
  const { store } = await storeOf(t, [broken], 'copy');
  await t.rejects(store.list(), { code: 'InvalidResponse', hint });
  await t.rejects(store.listEvents('drill'), { code: 'InvalidResponse', hint });
  await t.rejects(store.find(NAME), { code: 'InvalidResponse', hint });
});

t.test('metadata can be anything', async (t) => {
  const name = nameOf(new Date('2026-01-02T00:00:00.000Z'));
  for (const metadata of [
    '<Metadata />',
    '',
    '<Metadata><tool/><takenat/><uploadid/></Metadata>',
    '<Metadata>text</Metadata>',
  ]) {
    const other = blob({ name }).replace(/<Metadata>.*<\/Metadata>/, metadata);
    const { store } = await storeOf(t, [page(blob() + other)]);
    t.match(
      (await store.list()).filter(({ record }) => record !== undefined),
      [{ name: NAME }],
      metadata,
    );
  }
  const twice = blob({ name }).replace('<takenat>', '<takenat>2026-01-02T00:00:00.000Z</takenat><takenat>');
  const { store } = await storeOf(t, [page(blob() + twice)]);
  t.match(
    (await store.list()).find((one) => one.name === name),
    { problem: /takenat is of the wrong type/ },
  );
});

t.test('a blob that is listed twice is one', async (t) => {
  const { store } = await storeOf(t, [page(blob(), 'a'), page(blob())]);
  t.match(await store.list(), { length: 1, 0: { name: NAME, problem: undefined } });
});

t.test('notes of drills: the newest that is well-formed and not from the future', async (t) => {
  const note = (at: string, more: object = {}): string =>
    blob({ name: `etcd-snapshot-drills/${at}.json` }).replace(
      /<Metadata>.*<\/Metadata>/,
      `<Metadata>${fields({ at, snapshot: NAME, recoveryms: '1234.5', ...more })}</Metadata>`,
    );
  const good = '2026-01-05T00:00:00.000Z';
  const later = '2026-01-06T00:00:00.000Z';
  const bad = [
    note('9999-01-01T00:00:00.000Z'),
    note(new Date(Date.now() + 600_000).toISOString()),
    note('2026-02-30T00:00:00.000Z'),
    note('tomorrow'),
    note(later, { at: undefined }),
    note(later, { snapshot: '100%' }),
    note(later, { snapshot: '%E0%A4%A' }),
    note(later, { snapshot: '' }),
    note(later, { snapshot: 'x'.repeat(9000) }),
    note(later, { recoveryms: 'NaN' }),
    note(later, { recoveryms: '' }),
    note(later, { recoveryms: '-1' }),
    note(later, { recoveryms: '1e300' }),
    note(later, { recoveryms: undefined }),
    blob({ name: 'etcd-snapshot-drills/z.json' }),
  ];
  const wanted = { at: new Date(good), snapshot: NAME, recoveryMs: 1234.5 };
  for (const broken of bad) {
    const { store } = await storeOf(t, [page(note('2026-01-01T00:00:00.000Z') + note(good) + broken)]);
    t.strictSame(await store.lastDrill(), wanted);
  }
  const { store } = await storeOf(t, [page(bad.join(''), 'a'), page(note(good))]);
  t.strictSame(await store.lastDrill(), wanted, 'on a later page');
  t.equal(await (await storeOf(t, [page(bad.join(''))])).store.lastDrill(), undefined);
});

import { join } from 'node:path';
import type { ContainerClient } from '@azure/storage-blob';
import t, { type Test } from 'tap';
import { DEADLINES, type Deadlines } from '../../src/store/requests.ts';
import type { BlobStore } from '../../src/store/store.ts';
import { Azurite } from '../support/azurite.ts';
import { makeAuthority, trust } from '../support/certificates.ts';
import { TokenEndpoint } from '../support/entra.ts';
import { takeSnapshots } from '../support/etcd.ts';
import { type Fault, FaultProxy, type FaultRule } from '../support/fault-proxy.ts';
import { SNAPSHOT } from '../support/fixtures.ts';
import { temporaryFolder } from '../support/process.ts';
import { commit, openStore, put, readAll, RECORD, write } from '../support/store.ts';

interface Place {
  readonly store: BlobStore;
  /** The same container, reached without the faults. */
  readonly container: ContainerClient;
}

const dir = temporaryFolder('contract');
const authority = await makeAuthority(join(dir, 'certs'));
await trust(authority);
/** Two blocks. */
const [LARGE = Buffer.alloc(0)] = await takeSnapshots(dir, [1.1 * 5 * 1024 * 1024]);

/** What each operation promises, whatever stands between; in this order, for the first one demands that nothing is there. */
const PROMISES: Record<string, (t: Test, place: Place) => Promise<void>> = {
  'isFree, list: there is nothing where there is no container': async (t, { store }) => {
    t.equal(await store.isFree('prod/a.db'), true);
    await t.rejects(store.list(), { exitCode: 12, code: 'ContainerNotFound' });
  },
  'commit: nothing is visible before, and all of it afterwards': async (t, { store, container }) => {
    for (const [name, file] of Object.entries({ 'prod/small.db': SNAPSHOT, 'prod/large.db': LARGE })) {
      const upload = store.startUpload(name);
      await write(upload, file);
      t.equal(await container.getBlobClient(name).exists(), false);
      const { etag } = await commit(upload, file);
      const blob = container.getBlobClient(name);
      const { metadata, etag: itsEtag } = await blob.getProperties();
      t.match({ metadata, etag }, { metadata: { uploadid: upload.uploadId }, etag: itsEtag ?? '' }, name);
      t.ok((await blob.downloadToBuffer()).equals(file));
    }
  },
  'commit: a name that is taken stays as it is': async (t, { store, container }) => {
    await container.getBlockBlobClient('prod/taken.db').upload('theirs', 6);
    t.equal(await store.isFree('prod/taken.db'), false);
    await t.rejects(put(store, SNAPSHOT, 'prod/taken.db'), { exitCode: 12, code: 'BlobAlreadyExists' });
    t.equal((await container.getBlobClient('prod/taken.db').downloadToBuffer()).toString(), 'theirs');
    await container.deleteBlob('prod/taken.db');
  },
  'find: by the name with or without the prefix, with its record': async (t, { store }) => {
    for (const name of ['prod/small.db', 'small.db']) {
      const found = await store.find(name);
      t.match(found, { name: 'prod/small.db', size: SNAPSHOT.length, record: RECORD, takenAt: RECORD.takenAt });
    }
    t.equal(await store.find('nothing.db'), undefined);
  },
  'list: what is under the prefix, the newest first, with and without record': async (t, { store, container }) => {
    const before = { ...RECORD, takenAt: new Date('2025-12-31T00:00:00Z') };
    await put(store, SNAPSHOT, 'prod/older.db', before);
    const name = 'prod/kubernetes-etcd-snapshot_20251231_000000.db';
    await put(store, SNAPSHOT, name, before);
    await container.getBlockBlobClient('prod/notes.txt').upload('notes', 5);
    await container.getBlockBlobClient('test/elsewhere.db').upload('elsewhere', 9);
    const listed = (await store.list()).map(({ name, record }) => [name, record?.takenAt.getUTCFullYear()]);
    const [newest, ...others] = listed;
    t.strictSame(newest, ['prod/notes.txt', undefined], 'where nothing tells when it was taken, when it was stored');
    t.strictSame(
      others,
      [['prod/large.db'], ['prod/small.db'], [name, 2025], ['prod/older.db']].map(([each, year]) => [each, year]),
      'only what has the name of a snapshot is one',
    );
    await container.deleteBlob(name);
  },
  'noteDrill, lastDrill: each has a blob of its own that no list shows, and the newest counts': async (
    t,
    { store, container },
  ) => {
    t.equal(await store.lastDrill(), undefined);
    const before = (await store.list()).length;
    const [first, second] = [
      { at: new Date('2026-01-01T00:00:00Z'), snapshot: 'prod/small.db', recoveryMs: 7 },
      { at: new Date('2026-01-08T00:00:00.001Z'), snapshot: 'prod/höhe.db', recoveryMs: 8 },
    ];
    for (const note of [first, second, first]) await store.noteDrill(note);
    t.strictSame(await store.lastDrill(), second);
    t.equal((await store.list()).length, before);
    const notes = container.listBlobsFlat({ prefix: 'prod/etcd-snapshot-drills/' });
    for await (const { name } of notes) await container.deleteBlob(name);
  },
  'addEvent, listAll: events come with the snapshots, by the clock of the service, and no later one replaces them':
    async (t, { store, container }) => {
      const event = {
        kind: 'mark',
        id: 'one',
        fields: { what: 'keep', note: 'a%20b' },
        body: { note: 'a b' },
      } as const;
      await store.addEvent(event);
      await store.addEvent({ ...event, fields: { what: 'release' } });
      const { blobs, events, time } = await store.listAll();
      const name = 'prod/etcd-snapshot-marks/one.json';
      t.match(events, [{ kind: 'mark', name, fields: { what: 'keep', note: 'a%20b' }, signature: undefined }]);
      t.notOk(blobs.some((blob) => blob.name === name));
      t.ok(Math.abs((time?.getTime() ?? 0) - Date.now()) < 60_000, String(time));
      t.strictSame((await store.listEvents('mark')).events, events);
      t.strictSame((await store.listEvents('drill')).events, []);
      t.equal((await container.getBlobClient(name).downloadToBuffer()).toString(), '{"note":"a b"}\n');
      await container.deleteBlob(name);
    },
  'read: these bytes of this blob, or an error': async (t, { store }) => {
    const { etag = '' } = (await store.find('large.db')) ?? {};
    for (const from of [0, 8_500_000]) {
      t.ok((await readAll(store, 'prod/large.db', etag, LARGE.length, from)).equals(LARGE.subarray(from)));
    }
    await t.rejects(readAll(store, 'prod/large.db', '"0x0"', LARGE.length), { exitCode: 12, code: 'ConditionNotMet' });
    await t.rejects(readAll(store, 'prod/gone.db', etag, 9), { exitCode: 12, code: 'BlobNotFound' });
  },
  'rollback: our own blob, and no other': async (t, { store, container }) => {
    const upload = await put(store, SNAPSHOT, 'prod/withdrawn.db');
    const stranger = store.startUpload('prod/withdrawn.db');
    await write(stranger, SNAPSHOT);
    await t.rejects(commit(stranger, SNAPSHOT), { code: 'BlobAlreadyExists' });
    t.equal(await stranger.rollback(), true);
    t.equal(await container.getBlobClient('prod/withdrawn.db').exists(), true);
    for (const time of ['once', 'again']) {
      t.equal(await upload.rollback(), true, time);
      t.equal(await container.getBlobClient('prod/withdrawn.db').exists(), false);
    }
  },
  'remove: the blob of this etag; one that is gone is a success': async (t, { store, container }) => {
    const { etag = '' } = (await store.find('older.db')) ?? {};
    t.equal(await store.remove('prod/older.db', '"0x0"'), 'changed by another process');
    t.equal(await container.getBlobClient('prod/older.db').exists(), true);
    for (const time of ['once', 'again']) {
      t.equal(await store.remove('prod/older.db', etag), undefined);
      t.equal(await container.getBlobClient('prod/older.db').exists(), false, time);
    }
  },
};

interface Setting {
  /** Undefined = nothing stands between. */
  readonly rule?: FaultRule;
  readonly deadlines?: Partial<Deadlines>;
  /** Over TLS, with the token of a service principal instead of the account key. */
  readonly tls?: true;
}

/** The first request of each kind meets the fault. */
const first = (fault: Fault): FaultRule => {
  return ({ index }) => (index === 0 ? fault : 'pass');
};

/** Every request meets the fault once before it is answered. */
const everyOther = (fault: Fault): FaultRule => {
  return ({ index }) => (index % 2 === 0 ? fault : 'pass');
};

const SETTINGS: Record<string, Setting> = {
  'Azurite directly': {},
  'over TLS with a token': { tls: true },
  'over TLS with a token, busy': { tls: true, rule: everyOther({ status: 503, code: 'ServerBusy' }) },
  'internal errors': { rule: everyOther({ status: 500, code: 'InternalError' }) },
  'too many requests': { rule: first({ status: 429, retryAfter: 1 }) },
  'connections that are reset in mid-block': { rule: everyOther('reset') },
  'answers that are lost after the work was done': { rule: everyOther('lose-answer') },
  'answers that break off': { rule: everyOther('cut') },
  'peers that hang': {
    rule: first('hang'),
    deadlines: { tryMs: 1500, firstTryMs: 1500, sendMs: 1500, slowestLine: 4_000_000 },
  },
  'a slow peer': { rule: () => ({ bytesPerSecond: 8_000_000 }) },
};

const azurite = await Azurite.start(join(dir, 'azurite'));
const tlsAzurite = await Azurite.start(join(dir, 'tls-azurite'), authority);
const entra = await TokenEndpoint.start(authority);
t.teardown(async () => Promise.all([azurite.stop(), tlsAzurite.stop(), entra.stop()]));

async function open(t: Test, name: string, { rule, deadlines, tls }: Setting): Promise<Place> {
  const server = tls === undefined ? azurite : tlsAzurite;
  const proxy = rule && (await FaultProxy.start(server.url, rule, tls && authority));
  t.teardown(async () => proxy?.stop());
  const variables = {
    ...server.variables(name),
    ...(tls === undefined ? {} : { ...entra.variables, SNAPSHOT_AZURE_AUTH: 'principal' }),
    SNAPSHOT_AZURE_BLOB_ENDPOINT: proxy?.url ?? server.url,
    SNAPSHOT_BLOB_PREFIX: 'prod/',
  };
  const store = await openStore(variables, undefined, { ...DEADLINES, firstRetryMs: 60_000, ...deadlines });
  return { store, container: server.container(name) };
}

// They wait most of the time.
t.jobs = 6;
for (const [index, [name, setting]] of Object.entries(SETTINGS).entries()) {
  t.test(name, { buffered: true }, async (t) => {
    const place = await open(t, `contract-${index}`, setting);
    for (const [promise, keep] of Object.entries(PROMISES)) await t.test(promise, async (t) => keep(t, place));
  });
}

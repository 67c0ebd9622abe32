import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { readConfig } from '../../src/config.ts';
import { createLog } from '../../src/log.ts';
import type { SnapshotRecord } from '../../src/snapshot/record.ts';
import { SnapshotVerifier, type VerifiedSnapshot } from '../../src/snapshot/verify.ts';
import { BlobStore } from '../../src/store/store.ts';
import type { StagedUpload } from '../../src/store/upload.ts';
import { Azurite } from '../support/azurite.ts';
import { FaultProxy, type Fault, type Seen } from '../support/fault-proxy.ts';
import { takeSnapshot } from '../support/etcd.ts';
import { SNAPSHOT } from '../support/fixtures.ts';
import { temporaryFolder } from '../support/process.ts';

const RECORD: Omit<SnapshotRecord, 'uploadId'> = {
  hash: '4e933c72',
  revision: 293,
  totalKeys: 287,
  liveKeys: 350,
  sha256: createHash('sha256').update(SNAPSHOT).digest('hex'),
  totalSize: SNAPSHOT.length - 32,
  etcdVersion: '3.5.30',
  storageVersion: undefined,
  clusterId: 'c1',
  memberId: 'a1',
  members: [],
  takenAt: new Date(),
  tool: 'etcd-snapshot/0',
};

const dir = temporaryFolder('upload');
/** Three blocks and a bit. */
const BIG = await takeSnapshot(dir, 3.2 * 8 * 1024 * 1024);

const azurite = await Azurite.start(join(dir, 'azurite'));
t.teardown(async () => azurite.stop());
let containers = 0;

interface Bench {
  readonly store: BlobStore;
  readonly proxy: FaultProxy;
  readonly container: string;
  readonly signal: AbortController;
}

/** A store behind a proxy that misbehaves as the rule says. */
async function bench(t: Test, rule: (seen: Seen) => Fault, make = true): Promise<Bench> {
  const container = `upload-${++containers}`;
  if (make) await azurite.container(container).create();
  const proxy = await FaultProxy.start(azurite.url, rule);
  t.teardown(async () => proxy.stop());
  const env = { ...azurite.variables(container), SNAPSHOT_AZURE_BLOB_ENDPOINT: proxy.url };
  const signal = new AbortController();
  const log = createLog('json', 'error', () => {});
  const { storage } = readConfig(env, { etcd: false, storage: true });
  if (storage === undefined) throw new Error('no storage');
  return { store: await BlobStore.open(storage, signal.signal, log), proxy, container, signal };
}

function verified(file: Buffer): VerifiedSnapshot {
  const verifier = new SnapshotVerifier();
  verifier.push(file);
  const verdict = verifier.finish();
  if (!verdict.ok) throw new Error(JSON.stringify(verdict.faults));
  return verdict.snapshot;
}

async function write(upload: StagedUpload, file: Buffer): Promise<void> {
  for (let at = 0; at < file.length; at += 32_768) await upload.write(file.subarray(at, at + 32_768));
}

async function store({ store }: Bench, file: Buffer, name = 'snapshot.db'): Promise<StagedUpload> {
  const upload = store.startUpload(name);
  await write(upload, file);
  await upload.commit(verified(file), { ...RECORD, uploadId: upload.uploadId });
  return upload;
}

async function stored(container: string, name = 'snapshot.db'): Promise<Buffer> {
  return azurite.container(container).getBlobClient(name).downloadToBuffer();
}

t.test('up to one block it is one Put Blob; above, blocks and a commit', async (t) => {
  const small = await bench(t, () => 'pass');
  await store(small, SNAPSHOT);
  t.strictSame(small.proxy.seen, ['PUT blob']);
  t.ok((await stored(small.container)).equals(SNAPSHOT));

  const big = await bench(t, () => 'pass');
  await store(big, BIG);
  t.strictSame(big.proxy.seen.toSorted(), ['PUT block', 'PUT block', 'PUT block', 'PUT block', 'PUT blocklist']);
  t.equal(big.proxy.seen.at(-1), 'PUT blocklist');
  t.ok((await stored(big.container)).equals(BIG));

  for (const [{ container }, file] of [
    [small, SNAPSHOT],
    [big, BIG],
  ] as const) {
    const { metadata, contentMD5 } = await azurite.container(container).getBlobClient('snapshot.db').getProperties();
    t.match(metadata, {
      sha256: RECORD.sha256,
      clusterid: 'c1',
      tool: 'etcd-snapshot/0',
      takenat: /Z$/,
      uploadid: /^.{32}$/,
    });
    t.ok(
      createHash('md5')
        .update(file)
        .digest()
        .equals(contentMD5 ?? Buffer.alloc(0)),
      'other tools can check its MD5',
    );
  }
});

t.test('nothing is visible before the commit', async (t) => {
  const place = await bench(t, () => 'pass');
  const upload = place.store.startUpload('snapshot.db');
  await write(upload, BIG);
  t.strictSame(await azurite.names(place.container), []);
  upload.abort();
  t.strictSame(await azurite.names(place.container), []);
});

t.test('a verdict over other bytes commits nothing', async (t) => {
  const place = await bench(t, () => 'pass');
  const upload = place.store.startUpload('snapshot.db');
  await write(upload, SNAPSHOT);
  await t.rejects(upload.commit(verified(BIG), { ...RECORD, uploadId: upload.uploadId }), /not of this upload/);
  t.strictSame(await azurite.names(place.container), []);
});

t.test('transient faults are tried again', async (t) => {
  const faults: Fault[] = [
    { status: 503, code: 'ServerBusy' },
    { status: 500 },
    { status: 429, retryAfter: 1 },
    { status: 408 },
    { status: 502 },
    { status: 504 },
    'reset',
  ];
  await Promise.all(
    faults.map(async (fault) => {
      const place = await bench(t, ({ index }) => (index === 0 ? fault : 'pass'));
      await store(place, BIG);
      t.ok((await stored(place.container)).equals(BIG), JSON.stringify(fault));
    }),
  );
});

t.test('a lost answer to a commit is recognised as our own', async (t) => {
  for (const file of [SNAPSHOT, BIG]) {
    const commit = file === BIG ? 'blocklist' : null;
    const place = await bench(t, ({ method, url, index }) =>
      method === 'PUT' && url.searchParams.get('comp') === commit && index === 0 ? 'lose-answer' : 'pass',
    );
    await store(place, file);
    t.ok((await stored(place.container)).equals(file));
  }
});

t.test('a name that is taken is not overwritten', async (t) => {
  for (const file of [SNAPSHOT, BIG]) {
    const place = await bench(t, () => 'pass');
    await azurite.container(place.container).getBlockBlobClient('snapshot.db').upload('theirs', 6);
    await t.rejects(store(place, file), { exitCode: 12, code: 'BlobAlreadyExists' });
    t.equal((await stored(place.container)).toString(), 'theirs');
    t.equal(await place.store.isFree('snapshot.db'), false);
    t.equal(await place.store.isFree('another.db'), true);
  }
});

t.test('the container is created only when the service says that it is missing', async (t) => {
  for (const file of [SNAPSHOT, BIG]) {
    const place = await bench(t, () => 'pass', false);
    t.equal(await place.store.isFree('snapshot.db'), true);
    await store(place, file);
    t.equal(place.proxy.seen.filter((operation) => operation === 'PUT container').length, 1);
    t.ok((await stored(place.container)).equals(file));
  }
  const refused = await bench(
    t,
    ({ url }) =>
      url.searchParams.get('restype') === 'container'
        ? { status: 403, code: 'AuthorizationPermissionMismatch' }
        : 'pass',
    false,
  );
  await t.rejects(store(refused, SNAPSHOT), { exitCode: 12, message: /does not exist .* may not create it/ });
});

t.test('three buffers at most', async (t) => {
  const place = await bench(t, ({ method }) => (method === 'PUT' ? 'hang' : 'pass'));
  const upload = place.store.startUpload('snapshot.db');
  let accepted = 0;
  const writing = (async () => {
    for (;;) {
      await upload.write(BIG.subarray(0, 32_768));
      accepted += 32_768;
    }
  })();
  const stopped = t.rejects(writing);
  await sleep(1500);
  t.equal(accepted, 3 * 8 * 1024 * 1024, 'then it waits');
  upload.abort();
  await stopped;
});

t.test('an abort ends hanging requests at once', async (t) => {
  const place = await bench(t, () => 'hang');
  const upload = place.store.startUpload('snapshot.db');
  const start = performance.now();
  setTimeout(() => place.signal.abort(new Error('enough')), 300);
  await t.rejects(write(upload, Buffer.concat([BIG, BIG])));
  t.ok(performance.now() - start < 1500);
});

t.test('a store that never answers is given up soon', async (t) => {
  const place = await bench(t, () => 'hang');
  const start = performance.now();
  await t.rejects(place.store.isFree('snapshot.db'), { exitCode: 12, message: /no answer within/ });
  t.ok(performance.now() - start < 10_000);
});

t.test('reading survives cut connections, and sees when the blob is another', async (t) => {
  const place = await bench(t, ({ method, index }) => (method === 'GET' && index % 2 === 0 ? 'cut' : 'pass'));
  await store(place, BIG);
  const [blob] = await azurite.names(place.container);
  const { etag = '' } = await azurite
    .container(place.container)
    .getBlobClient(blob ?? '')
    .getProperties();
  const pieces: Buffer[] = [];
  for await (const piece of place.store.read('snapshot.db', etag, BIG.length)) pieces.push(Buffer.from(piece));
  t.ok(Buffer.concat(pieces).equals(BIG));
  await t.rejects(
    async () => {
      for await (const piece of place.store.read('snapshot.db', '"0x0"', BIG.length)) t.fail(`${piece.length} bytes`);
    },
    { exitCode: 12, code: 'ConditionNotMet' },
  );
});

t.test('withdrawing removes our blob, and no other', async (t) => {
  const place = await bench(t, () => 'pass');
  const upload = await store(place, SNAPSHOT);
  const stranger = place.store.startUpload('snapshot.db');
  t.equal(await stranger.withdraw(5000), true);
  t.strictSame(await azurite.names(place.container), ['snapshot.db'], 'the blob of another upload stays');
  t.equal(await upload.withdraw(5000), true);
  t.strictSame(await azurite.names(place.container), []);
  t.equal(await upload.withdraw(5000), true, 'and once more');
});

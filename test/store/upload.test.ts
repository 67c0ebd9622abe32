import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { RunTimeout } from '../../src/errors.ts';
import { DEADLINES, type Deadlines } from '../../src/store/requests.ts';
import type { BlobStore } from '../../src/store/store.ts';
import type { StagedUpload } from '../../src/store/upload.ts';
import { Azurite } from '../support/azurite.ts';
import { takeSnapshots } from '../support/etcd.ts';
import { type Fault, FaultProxy, type FaultRule, type Seen } from '../support/fault-proxy.ts';
import { SNAPSHOT } from '../support/fixtures.ts';
import { freePort, temporaryFolder } from '../support/process.ts';
import { commit, openStore, put, RECORD, write } from '../support/store.ts';
import { until } from '../support/until.ts';

const dir = temporaryFolder('upload');
/** Of two blocks, and of three. */
const [OTHER = Buffer.alloc(0), BIG = Buffer.alloc(0)] = await takeSnapshots(dir, [
  1.2 * 5 * 1024 * 1024,
  2.2 * 5 * 1024 * 1024,
]);

const azurite = await Azurite.start(join(dir, 'azurite'));
t.teardown(async () => azurite.stop());
t.jobs = 4;
let containers = 0;

interface Bench {
  readonly store: BlobStore;
  readonly proxy: FaultProxy;
  readonly container: string;
  readonly signal: AbortController;
}

/** A store behind a proxy that misbehaves as the rule says. */
async function bench(t: Test, rule: FaultRule, make = true, deadlines: Partial<Deadlines> = {}): Promise<Bench> {
  const container = `upload-${++containers}`;
  if (make) await azurite.container(container).create();
  const proxy = await FaultProxy.start(azurite.url, rule);
  t.teardown(async () => proxy.stop());
  const signal = new AbortController();
  const variables = { ...azurite.variables(container), SNAPSHOT_AZURE_BLOB_ENDPOINT: proxy.url };
  // The first request sends data here, which may take its time on a busy machine.
  const store = await openStore(variables, signal.signal, { ...DEADLINES, firstRetryMs: 60_000, ...deadlines });
  return { store, proxy, container, signal };
}

async function store({ store }: Bench, file: Buffer, name = 'snapshot.db'): Promise<StagedUpload> {
  return put(store, file, name);
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
  t.strictSame(big.proxy.seen.toSorted(), ['PUT block', 'PUT block', 'PUT block', 'PUT blocklist']);
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
    t.equal(contentMD5 === undefined, file === BIG, 'the service itself stores the MD5 of a single Put Blob');
  }
});

t.test('with SNAPSHOT_CONTENT_MD5=on, other tools can check the MD5 of the blob', async (t) => {
  for (const file of [SNAPSHOT, BIG]) {
    const { store, container } = await bench(t, () => 'pass');
    await put(store, file, 'snapshot.db', RECORD, { isReadBack: true, contentMd5: 'on' });
    const { contentMD5 } = await azurite.container(container).getBlobClient('snapshot.db').getProperties();
    t.equal(Buffer.from(contentMD5 ?? '').toString('hex'), createHash('md5').update(file).digest('hex'));
  }
});

t.test('the service checks each block, and what was changed on the way is sent again', async (t) => {
  for (const file of [SNAPSHOT, BIG]) {
    let flips = 0;
    const place = await bench(t, ({ method, url }) =>
      method === 'PUT' && url.searchParams.get('comp') !== 'blocklist' && flips++ === 0 ? 'flip-sent' : 'pass',
    );
    await store(place, file);
    t.ok(flips > 1, 'sent again');
    t.ok((await stored(place.container)).equals(file));
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

t.test('a verdict about other bytes commits nothing', async (t) => {
  const place = await bench(t, () => 'pass');
  const upload = place.store.startUpload('snapshot.db');
  await write(upload, SNAPSHOT);
  await t.rejects(commit(upload, BIG), /not of this upload/);
  t.strictSame(await azurite.names(place.container), []);
});

t.test('temporary errors are retried', async (t) => {
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

/** Whether it is the one request that makes a snapshot visible. */
function isCommit({ method, url }: Seen): boolean {
  return method === 'PUT' && [null, 'blocklist'].includes(url.searchParams.get('comp'));
}

/** The answer to the first commit is lost; `then` says what its repetitions meet, the first of which is number 1. */
function lostAnswer(then: (repetition: number) => Fault | Promise<Fault>): FaultRule {
  let repetition = 0;
  return (seen) => {
    if (!isCommit(seen)) return 'pass';
    return repetition++ === 0 ? 'lose-answer' : then(repetition - 1);
  };
}

t.test('after a lost answer to a commit the blob is recognized as our own', async (t) => {
  const busy = { status: 503, code: 'ServerBusy' };
  const repetitions: ((repetition: number) => Fault)[] = [
    () => 'pass',
    (repetition) => (repetition < 3 ? busy : 'pass'),
    (repetition) => (repetition < 2 ? 'lose-answer' : 'pass'),
  ];
  for (const then of repetitions) {
    for (const file of [SNAPSHOT, BIG]) {
      const place = await bench(t, lostAnswer(then));
      const { uploadId } = await store(place, file);
      t.ok((await stored(place.container)).equals(file));
      t.equal(
        (await azurite.container(place.container).getBlobClient('snapshot.db').getProperties()).metadata?.['uploadid'],
        uploadId,
      );
    }
  }
});

t.test('a blob that somebody replaced or deleted before our commit was answered', async (t) => {
  for (const file of [SNAPSHOT, BIG]) {
    const replaced: Bench = await bench(
      t,
      lostAnswer(async (): Promise<Fault> => {
        await azurite.container(replaced.container).getBlockBlobClient('snapshot.db').upload('theirs', 6);
        return 'pass';
      }),
    );
    await t.rejects(store(replaced, file), {
      exitCode: 12,
      message: /snapshot\.db already exists and was not changed/,
    });
    t.equal((await stored(replaced.container)).toString(), 'theirs');

    const deleted: Bench = await bench(
      t,
      lostAnswer(async (): Promise<Fault> => {
        await azurite.container(deleted.container).deleteBlob('snapshot.db');
        return 'pass';
      }),
    );
    if (file === SNAPSHOT) {
      await store(deleted, file);
      t.ok((await stored(deleted.container)).equals(file), 'one request stores it again');
    } else {
      await t.rejects(store(deleted, file), { exitCode: 12, message: /Another worker wrote to the name snapshot\.db/ });
      t.strictSame(await azurite.names(deleted.container), []);
    }
  }
});

t.test('a lost answer to a deletion is a success, whatever its repetition meets', async (t) => {
  for (const then of [['pass'], [{ status: 503 }, 'pass'], ['lose-answer', { status: 500 }, 'pass']] as Fault[][]) {
    for (const what of ['removed', 'withdrawn']) {
      const place = await bench(t, ({ method, index }) =>
        method === 'DELETE' ? ((['lose-answer', ...then] as Fault[])[index] ?? 'pass') : 'pass',
      );
      const upload = await store(place, SNAPSHOT);
      const { etag = '' } = (await place.store.find('snapshot.db')) ?? {};
      if (what === 'removed') t.equal(await place.store.remove('snapshot.db', etag), undefined);
      else t.equal(await upload.rollback(), true);
      t.strictSame(await azurite.names(place.container), [], what);
      t.equal(place.proxy.seen.filter((operation) => operation.startsWith('DELETE')).length, then.length + 1);
    }
  }
});

t.test('two uploads of one name: one is stored, the other says so, and nothing is mixed', async (t) => {
  for (const files of [
    [BIG, OTHER],
    [BIG, SNAPSHOT],
    [SNAPSHOT, BIG],
    [SNAPSHOT, SNAPSHOT],
  ] as const) {
    for (const order of ['together', 'one after the other']) {
      const place = await bench(t, () => 'pass');
      const [first, second] = [place.store.startUpload('snapshot.db'), place.store.startUpload('snapshot.db')];
      const half = Math.floor(files[0].length / 2);
      await write(first, files[0].subarray(0, half));
      await write(second, files[1]);
      await write(first, files[0].subarray(half));
      t.strictSame(await azurite.names(place.container), [], 'nothing is visible before a commit');

      const committing = commit(first, files[0]);
      if (order !== 'together') await Promise.allSettled([committing]);
      const ends = await Promise.allSettled([committing, commit(second, files[1])]);
      const what = `${files[0].length} and ${files[1].length} bytes, ${order}`;
      const winner = ends.findIndex(({ status }) => status === 'fulfilled');
      t.match(
        ends.find(({ status }) => status === 'rejected'),
        { reason: { exitCode: 12, message: /already exists|Another worker wrote to the name/ } },
        what,
      );
      t.ok((await stored(place.container)).equals(files[winner] ?? Buffer.alloc(0)), what);
    }
  }
});

t.test('blocks that another tool left under the name are reported', async (t) => {
  const place = await bench(t, () => 'pass');
  await azurite.container(place.container).getBlockBlobClient('snapshot.db').stageBlock('AAAA', 'theirs', 6);
  await t.rejects(store(place, BIG), { exitCode: 12, message: /Another worker wrote to the name snapshot\.db/ });
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
  await t.rejects(store(refused, SNAPSHOT), {
    exitCode: 12,
    message: /does not exist .* has no permission to create it/,
  });
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
  await until(() => accepted >= 3 * 5 * 1024 * 1024);
  await sleep(300);
  t.equal(accepted, 3 * 5 * 1024 * 1024, 'then it waits');
  upload.abort();
  await stopped;
});

t.test('an abort ends hanging requests at once', async (t) => {
  const place = await bench(t, () => 'hang');
  const upload = place.store.startUpload('snapshot.db');
  setTimeout(() => place.signal.abort(new Error('enough')), 300);
  // What ends at a deadline says that there was no answer.
  await t.rejects(write(upload, Buffer.concat([BIG, BIG])), { message: /^Azure failed while storing/ });
});

t.test('a store without an answer gets more time; a refusal is reported soon', async (t) => {
  t.ok(DEADLINES.retryMs >= 60_000 && DEADLINES.firstRetryMs < 10_000);
  const deadlines = { firstTryMs: 100, firstRetryMs: 200, retryMs: 20_000 };
  const lost = await bench(t, ({ index }) => (index < 3 ? 'hang' : 'pass'), true, deadlines);
  t.equal(await lost.store.isFree('snapshot.db'), true, 'the first requests are lost');
  t.equal(lost.proxy.seen.length, 4);
  const slow = async (): Promise<'pass'> => {
    await sleep(1_000);
    return 'pass';
  };
  const late = await bench(t, slow, true, deadlines);
  t.equal(await late.store.isFree('snapshot.db'), true, 'each answer takes ten times the first deadline');
  const silent = await bench(t, () => 'hang', true, { ...deadlines, retryMs: 1_000 });
  await t.rejects(silent.store.isFree('snapshot.db'), { exitCode: 12, message: /no answer within 0.\d+ s/ });
  const run = await bench(t, () => 'hang', true);
  setTimeout(() => run.signal.abort(new RunTimeout(1)), 300);
  await t.rejects(run.store.isFree('snapshot.db'), {
    exitCode: 12,
    message: /Timed out after 1 s \(SNAPSHOT_TIMEOUT\)/,
  });

  // The test ends with the time of its file if the patience with a store that answered before is used.
  const refusing = { ...DEADLINES, firstPatienceMs: 1_000, patienceMs: 3_600_000 };
  for (const [url, code] of [
    [`http://127.0.0.1:${await freePort()}/x`, 'ECONNREFUSED'],
    ['https://nobody.invalid/x', /ENOTFOUND|EAI_AGAIN/],
  ] as const) {
    const dead = { ...azurite.variables('dead'), SNAPSHOT_AZURE_BLOB_ENDPOINT: url };
    await t.rejects((await openStore(dead, undefined, refusing)).isFree('snapshot.db'), { code });
  }
});

t.test('after the first answer, even a refusal, a slow block gets the full time', async (t) => {
  const line = { bytesPerSecond: 3_000_000 };
  const slow = await bench(t, ({ method }) => (method === 'PUT' ? line : 'pass'), true, { firstRetryMs: 2000 });
  t.equal(await slow.store.isFree('snapshot.db'), true);
  await store(slow, OTHER);
  t.equal(slow.proxy.seen.filter((operation) => operation === 'PUT block').length, 2, 'no block was sent twice');
});

t.test('a rollback removes our blob, and no other', async (t) => {
  const place = await bench(t, () => 'pass');
  const upload = await store(place, SNAPSHOT);
  const stranger = place.store.startUpload('snapshot.db');
  await write(stranger, SNAPSHOT);
  const before = place.proxy.seen.length;
  t.equal(await stranger.rollback(), true);
  t.equal(place.proxy.seen.length, before, 'what was never committed needs no request');
  await t.rejects(commit(stranger, SNAPSHOT), { code: 'BlobAlreadyExists' });
  t.equal(await stranger.rollback(), true);
  t.strictSame(await azurite.names(place.container), ['snapshot.db'], 'the blob of another upload stays');
  t.equal(await upload.rollback(), true);
  t.strictSame(await azurite.names(place.container), []);
  t.equal(await upload.rollback(), true, 'and once more');
});

t.test('a rollback ends soon after the run was aborted', async (t) => {
  const place = await bench(t, ({ method }) => (method === 'DELETE' ? 'hang' : 'pass'));
  const upload = await store(place, SNAPSHOT);
  const withdrawing = upload.rollback();
  await until(() => place.proxy.seen.some((operation) => operation.startsWith('DELETE')));
  place.signal.abort(new Error('enough'));
  t.equal(await withdrawing, false, 'long before the deadline with a store that does not answer is over');
});

t.test('a blob has its access tier from its commit on', async (t) => {
  const variables = azurite.variables(`upload-${++containers}`);
  for (const [tier, file] of [
    ['cool', SNAPSHOT],
    ['cold', BIG],
    [undefined, SNAPSHOT],
  ] as const) {
    const set = tier === undefined ? {} : { SNAPSHOT_ACCESS_TIER: tier };
    await put(await openStore({ ...variables, ...set }), file, `${tier}.db`);
    const blob = azurite.container(variables['SNAPSHOT_AZURE_CONTAINER_NAME'] ?? '').getBlobClient(`${tier}.db`);
    const { accessTier, accessTierInferred = false } = await blob.getProperties();
    t.match(accessTier?.toLowerCase(), tier ?? 'hot');
    t.equal(accessTierInferred, tier === undefined, 'that of the account');
  }
});

t.test('with a limit of the rate, a request that breaks is sent again as a whole', async (t) => {
  const container = `upload-${++containers}`;
  await azurite.container(container).create();
  const proxy = await FaultProxy.start(azurite.url, ({ index }) => (index === 0 ? 'reset' : 'pass'));
  t.teardown(async () => proxy.stop());
  const limited = {
    ...azurite.variables(container),
    SNAPSHOT_AZURE_BLOB_ENDPOINT: proxy.url,
    SNAPSHOT_MAX_UPLOAD_RATE: '64MiB',
  };
  const store = await openStore(limited, new AbortController().signal, { ...DEADLINES, firstRetryMs: 60_000 });
  for (const [file, name] of [
    [SNAPSHOT, 'small.db'],
    [BIG, 'big.db'],
  ] as const) {
    await put(store, file, name);
    t.ok((await stored(container, name)).equals(file));
  }
  t.equal(proxy.seen.filter((operation) => operation === 'PUT block').length, 4, 'one of three was sent twice');
});

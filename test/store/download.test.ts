import { createCipheriv, createHash } from 'node:crypto';
import { createServer, type RequestListener } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { DEADLINES, type Deadlines } from '../../src/store/requests.ts';
import type { BlobStore } from '../../src/store/store.ts';
import { Azurite } from '../support/azurite.ts';
import { type Fault, FaultProxy, type FaultRule } from '../support/fault-proxy.ts';
import { temporaryFolder } from '../support/process.ts';
import { Random } from '../support/random.ts';
import { addressOf, close, listen } from '../support/server.ts';
import { openStore, readAll } from '../support/store.ts';
import { until } from '../support/until.ts';

const MB = 1_000_000;
const RANGE_SIZE = 2 * 1024 * 1024;
/** Asked for at a time. */
const RANGES = 4;

const azurite = await Azurite.start(join(temporaryFolder('download'), 'azurite'));
t.teardown(async () => azurite.stop());
const container = azurite.container('download');
await container.create();

interface Blob {
  readonly etag: string;
  readonly bytes: Buffer;
}

const BLOCK_SIZE = 4 * MB + 37;
const BLOCKS = Array.from({ length: 7 }, (_, index) =>
  createCipheriv('aes-128-ctr', Buffer.alloc(16), Buffer.alloc(16, index)).update(Buffer.alloc(BLOCK_SIZE)),
);

/** Stores some megabytes, made of a few blocks in random order: each is sent once, however often the blob has it. */
async function makeBlob(name: string, size: number): Promise<Blob> {
  const random = new Random(size);
  const blob = container.getBlockBlobClient(name);
  const id = (index: number): string => Buffer.from(`block-${index}`).toString('base64');
  const order = Array.from({ length: Math.ceil(size / BLOCK_SIZE) }, () => random.below(BLOCKS.length));
  for (const index of new Set(order)) await blob.stageBlock(id(index), BLOCKS[index] ?? '', BLOCK_SIZE);
  const { etag = '' } = await blob.commitBlockList(order.map(id));
  return { etag, bytes: Buffer.concat(order.flatMap((index) => BLOCKS[index] ?? [])) };
}

/** The store behind a proxy that misbehaves as the rule says. */
async function behind(
  t: Test,
  rule: FaultRule,
  deadlines: Partial<Deadlines> = {},
): Promise<{ store: BlobStore; proxy: FaultProxy; signal: AbortController }> {
  const proxy = await FaultProxy.start(azurite.url, rule);
  t.teardown(async () => proxy.stop());
  const signal = new AbortController();
  const variables = { ...azurite.variables('download'), SNAPSHOT_AZURE_BLOB_ENDPOINT: proxy.url };
  return { store: await openStore(variables, signal.signal, { ...DEADLINES, ...deadlines }), proxy, signal };
}

const small = await makeBlob('small.db', 12 * MB);

t.test('200 MB over a line that is cut 50 times, in bounded memory', async (t) => {
  const { etag, bytes } = await makeBlob('large.db', 200 * MB);
  const [expected, size] = [createHash('sha256').update(bytes).digest('hex'), bytes.length];
  const random = new Random(50);
  const { store, proxy } = await behind(t, ({ index }) =>
    index < 80 ? { cutAfter: random.below(RANGE_SIZE) } : 'pass',
  );
  const before = process.memoryUsage().arrayBuffers;
  let peak = 0;
  const hash = createHash('sha256');
  for await (const piece of store.read('large.db', etag, size)) {
    hash.update(piece);
    peak = Math.max(peak, process.memoryUsage().arrayBuffers - before);
  }
  t.equal(hash.digest('hex'), expected);
  const cuts = proxy.seen.length - Math.ceil(size / RANGE_SIZE);
  t.ok(cuts >= 50, `${cuts} cuts`);
  t.comment(`${Math.round(peak / MB)} MB of buffers`);
  t.ok(peak < 120 * MB, `${Math.round(peak / MB)} MB of buffers, those of the proxy included`);
});

t.test('every connection is cut after a megabyte, and deadline is for progress only', async (t) => {
  const { store, proxy } = await behind(t, () => ({ cutAfter: MB }), { retryMs: 1500 });
  const start = performance.now();
  t.ok((await readAll(store, 'small.db', small.etag, small.bytes.length)).equals(small.bytes));
  t.ok(proxy.seen.length > 12, `${proxy.seen.length} requests`);
  t.comment(`${Math.round(performance.now() - start)} ms`);
});

t.test('from a later byte on', async (t) => {
  const { store, proxy } = await behind(t, () => 'pass');
  const { etag, bytes } = small;
  for (const from of [1, RANGE_SIZE - 1, RANGE_SIZE, bytes.length - 1]) {
    t.ok((await readAll(store, 'small.db', etag, bytes.length, from)).equals(bytes.subarray(from)), `from ${from}`);
  }
  const before = proxy.seen.length;
  t.equal((await readAll(store, 'small.db', etag, bytes.length, bytes.length)).length, 0);
  t.equal(proxy.seen.length, before, 'where nothing is missing, nothing is asked for');
});

t.test('a request to a silent server is sent again', async (t) => {
  const rule = ({ index }: { index: number }): Fault => (index % 2 === 0 ? { stallAfter: 3 * MB } : 'pass');
  const { store } = await behind(t, rule, { tryMs: 1000, firstTryMs: 1000 });
  t.ok((await readAll(store, 'small.db', small.etag, small.bytes.length)).equals(small.bytes));
});

t.test('a slow peer is waited for as long as something comes', async (t) => {
  const { store, proxy } = await behind(t, () => ({ bytesPerSecond: 4 * MB }), {
    tryMs: 2500,
    firstTryMs: 2500,
    retryMs: 2500,
  });
  const start = performance.now();
  t.ok((await readAll(store, 'small.db', small.etag, small.bytes.length)).equals(small.bytes));
  t.ok(performance.now() - start > 2500);
  t.equal(proxy.seen.length, Math.ceil(small.bytes.length / RANGE_SIZE), 'nothing is asked for twice');
});

t.test('answers that are shorter than asked for are completed', async (t) => {
  const { store } = await behind(t, ({ index }) => (index < 6 ? 'short' : 'pass'));
  t.ok((await readAll(store, 'small.db', small.etag, small.bytes.length)).equals(small.bytes));
});

t.test('an answer with other bytes is refused', async (t) => {
  const { store } = await behind(t, () => 'other-range');
  const reading = readAll(store, 'small.db', small.etag, small.bytes.length);
  await t.rejects(reading, { exitCode: 12, code: 'UnexpectedRange', message: /answered with bytes 1-/ });
  const honest = await behind(t, () => 'pass');
  const tooLong = readAll(honest.store, 'small.db', small.etag, small.bytes.length + 1);
  await t.rejects(tooLong, { exitCode: 12, code: 'UnexpectedRange' }, 'nor is a blob of another size the same');
});

t.test('a server with empty answers is not asked forever', async (t) => {
  let asked = 0;
  const nothing: RequestListener = (_, response) => {
    asked++;
    const headers = { 'content-length': '0', 'content-range': 'bytes 5-4/10', 'x-ms-request-id': 'x', etag: '"0x1"' };
    response.writeHead(206, headers).end();
  };
  const server = await listen(createServer(nothing));
  t.teardown(async () => close(server));
  const url = `http://127.0.0.1:${addressOf(server).port}/testaccount`;
  const store = await openStore({ ...azurite.variables('nothing'), SNAPSHOT_AZURE_BLOB_ENDPOINT: url });
  await t.rejects(readAll(store, 'x', '"0x1"', 10, 5), { code: 'UnexpectedRange' });
  t.equal(asked, 1);
});

t.test('a blob that is replaced or deleted during the download is detected', async (t) => {
  const changes: Record<string, [change: (name: string) => Promise<unknown>, code: string, message: RegExp]> = {
    'replaced.db': [
      async (name) => container.getBlockBlobClient(name).upload('theirs', 6),
      'ConditionNotMet',
      /changed by another process while reading \S+ from byte 0/,
    ],
    'deleted.db': [
      async (name) => container.deleteBlob(name),
      'BlobNotFound',
      /^deleted\.db was deleted while it was read/,
    ],
  };
  for (const [name, [change, code, message]] of Object.entries(changes)) {
    const { etag, bytes } = await makeBlob(name, 12 * MB);
    const { store } = await behind(t, async ({ index }) => {
      if (index > 0) await change(name).catch(() => {});
      return { cutAfter: 2 * MB };
    });
    const pieces = store.read(name, etag, bytes.length);
    await t.rejects(pieces.next(), { exitCode: 12, code, message }, 'within a range');
  }
  const { etag, bytes } = await makeBlob('between.db', 24 * MB);
  const replaced = Promise.withResolvers<void>();
  const { store } = await behind(t, async ({ from }): Promise<Fault> => {
    if (from >= 4 * RANGE_SIZE) await replaced.promise;
    return 'pass';
  });
  const pieces = store.read('between.db', etag, bytes.length);
  for (let at = 0; at < 4 * RANGE_SIZE; at += RANGE_SIZE) {
    t.ok((await pieces.next()).value?.equals(bytes.subarray(at, at + RANGE_SIZE)));
  }
  await container.getBlockBlobClient('between.db').upload('theirs', 6);
  replaced.resolve();
  await t.rejects(pieces.next(), { code: 'ConditionNotMet' }, 'between two ranges');
});

t.test('ranges are asked for in parallel, and come in order whichever is answered first', async (t) => {
  const { etag, bytes } = await makeBlob('ordered.db', 40 * MB);
  const allAsked = Promise.withResolvers<void>();
  const { store, proxy } = await behind(t, async ({ index, from }): Promise<Fault> => {
    if (index === RANGES - 1) allAsked.resolve();
    await allAsked.promise;
    await sleep(from % (RANGES * RANGE_SIZE) === 0 ? 300 : 0);
    return 'pass';
  });
  const pieces = store.read('ordered.db', etag, bytes.length);
  const { value } = await pieces.next();
  t.ok(value?.equals(bytes.subarray(0, RANGE_SIZE)));
  await sleep(300);
  t.equal(proxy.seen.length, RANGES, 'a reader that is slow bounds what is asked for');
  for (let at = RANGE_SIZE; at < bytes.length; at += RANGE_SIZE) {
    const { value: piece } = await pieces.next();
    t.ok(piece?.equals(bytes.subarray(at, at + RANGE_SIZE)), `from ${at}`);
  }
  t.strictSame(await pieces.next(), { done: true, value: undefined });
  t.equal(proxy.seen.length, Math.ceil(bytes.length / RANGE_SIZE));
});

t.test('a failed range ends the download after the ranges before it, and cancels the parallel requests', async (t) => {
  const { etag, bytes } = await makeBlob('refused.db', 24 * MB);
  const { store, proxy } = await behind(t, ({ from }) =>
    from === 2 * RANGE_SIZE ? 'other-range' : from > 2 * RANGE_SIZE ? { stallAfter: MB } : 'pass',
  );
  const pieces = store.read('refused.db', etag, bytes.length);
  for (const at of [0, RANGE_SIZE]) t.ok((await pieces.next()).value?.equals(bytes.subarray(at, at + RANGE_SIZE)));
  await t.rejects(pieces.next(), { exitCode: 12, code: 'UnexpectedRange' });
  await nothingUnderWay(t, proxy);
});

/** Soon, for the other side has to notice that the connections are closed. */
async function nothingUnderWay(t: Test, proxy: FaultProxy): Promise<void> {
  await until(() => proxy.underWay === 0);
  t.pass('no request is left under way');
}

t.test('an abort ends a reading at once, and so does leaving it', async (t) => {
  for (const fault of ['hang', { stallAfter: MB }, { bytesPerSecond: MB }] as const) {
    const { store, signal, proxy } = await behind(t, () => fault);
    const reading = readAll(store, 'small.db', small.etag, small.bytes.length);
    setTimeout(() => signal.abort(new Error('enough')), 300);
    // What ends at a deadline says that there was no answer.
    await t.rejects(reading, { exitCode: 12, message: /^Azure failed while reading / }, JSON.stringify(fault));
    await nothingUnderWay(t, proxy);
  }
  const { store, proxy } = await behind(t, ({ from }) => (from === 0 ? 'pass' : 'hang'));
  for await (const piece of store.read('small.db', small.etag, small.bytes.length)) {
    t.equal(piece.length, RANGE_SIZE);
    break;
  }
  await nothingUnderWay(t, proxy);
});
